"""The presence tracker over a fake database, with a clock of its own: online, without heartbeats, stopped."""

from datetime import UTC, datetime, timedelta

import pytest

from warren_contracts.peers import PresenceState
from warren_contracts.problems import UnavailableError
from warren_contracts.status import DriverState, DriverStatus, GuardFacts, HostFacts
from warren_registry.presence.connections import ConnectionEvent, ConnectionKey, PeerConnection
from warren_registry.presence.model import Heartbeat
from warren_registry.presence.tracker import PresenceTracker
from warren_testkit.registry import FakeDatabase

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Presences:
    """A presence tracker with a clock of its own."""

    def __init__(self) -> None:
        self.now = NOW
        self.database = FakeDatabase()
        self.board = PresenceTracker(self.database, lambda: self.now, lambda: None)

    async def receive(self, *beats: tuple[str, bool], after: float = 0.0) -> None:
        self.now += timedelta(seconds=after)
        await self.board.receive(tuple(Heartbeat(peer, stopping, self.now) for peer, stopping in beats))

    async def listen(self, seconds: int) -> None:
        for _ in range(seconds):
            await self.receive(after=1.0)

    async def events(self) -> list[str]:
        await self.board.step()
        async with self.database.transaction() as tables:
            return [
                event.subject.removeprefix("warren.v1.event.registry.")
                for event in await tables.after_commit.pending_events(99)
            ]

    def state(self, peer: str = "gw1") -> PresenceState:
        return self.board.of(peer).state


UNREACHABLE = DriverStatus(kind="strongswan", state=DriverState.UNREACHABLE)


async def test_an_unreachable_daemon_is_reported_with_the_peer() -> None:
    board = Presences()
    beat = Heartbeat("gw1", False, board.now, (UNREACHABLE,))
    await board.board.receive((beat,))
    assert board.board.of("gw1").drivers == (UNREACHABLE,)
    await board.board.receive((beat._replace(stopping=True),))
    assert (board.state(), board.board.of("gw1").drivers) == (PresenceState.OFFLINE, ())


async def test_the_last_heartbeat_is_stored_every_minute_and_at_the_end() -> None:
    board = Presences()

    async def stored() -> datetime | None:
        async with board.database.transaction() as tables:
            return (await tables.presence.all())["gw1"].last_seen

    await board.receive(("gw1", False))
    await board.board.step()
    for _ in range(8):
        await board.receive(("gw1", False), after=5.0)
        assert not await board.board.step()
    assert await stored() == NOW
    for _ in range(4):
        await board.receive(("gw1", False), after=5.0)
        assert not await board.board.step()  # no event for it
    assert await stored() == NOW + timedelta(seconds=60)
    await board.receive(("gw1", False), after=5.0)
    assert not await board.board.step(stopping=True)
    assert await stored() == NOW + timedelta(seconds=65)
    restarted = PresenceTracker(board.database, lambda: board.now, lambda: None)
    await restarted.step()
    assert restarted.of("gw1").last_seen == NOW + timedelta(seconds=65)


async def test_a_peer_without_heartbeats_is_offline_within_30_seconds() -> None:
    board = Presences()
    await board.board.step()
    await board.receive(("gw1", False))
    await board.listen(28)
    assert board.state() is PresenceState.ONLINE
    await board.listen(1)
    assert board.state() is PresenceState.OFFLINE
    assert await board.events() == ["presence.gw1", "presence.gw1"]
    assert await board.board.step() is False


async def test_no_peer_becomes_offline_while_nothing_is_received() -> None:
    board = Presences()
    await board.board.step()
    await board.receive(("gw1", False))
    await board.receive(after=120.0)  # the bus was unavailable for two minutes
    await board.listen(28)
    assert board.state() is PresenceState.ONLINE
    await board.listen(1)
    assert board.state() is PresenceState.OFFLINE


async def test_presence_survives_a_restart_and_an_unavailable_database() -> None:
    board = Presences()
    board.database.unavailable = True
    await board.receive(("gw1", False))
    with pytest.raises(UnavailableError):
        await board.board.step()
    board.database.unavailable = False
    assert await board.events() == ["presence.gw1"]
    again = PresenceTracker(board.database, lambda: board.now, lambda: None)
    await again.step()
    assert again.of("gw1").state is PresenceState.ONLINE


def event(cid: int, opened: bool, reason: str = "", user: str = "gw1") -> ConnectionEvent:
    return ConnectionEvent(PeerConnection(user, ConnectionKey("N", cid)), opened, reason)


async def test_a_closed_last_connection_is_a_stop_and_another_is_not() -> None:
    board = Presences()
    await board.receive(("gw1", False))
    board.board.connection(event(1, True))
    board.board.connection(event(2, True))
    board.board.connection(event(1, False, "Client Closed"))
    assert board.state() is PresenceState.ONLINE
    board.board.connection(event(2, False, "Stale Connection"))
    assert board.state() is PresenceState.ONLINE
    board.board.connection(event(3, True))
    board.board.connection(event(3, False, "Client Closed"))
    assert board.state() is PresenceState.OFFLINE


async def test_events_during_a_connz_request_are_not_lost() -> None:
    board = Presences()
    old = PeerConnection("gw2", ConnectionKey("N", 7))
    board.board.confirmed([old], [event(1, True), ConnectionEvent(old, False, "Kicked")])
    assert board.board.connections.counts() == {"gw1": 1}


async def test_a_shared_key_is_reported_once() -> None:
    board = Presences()
    twice = [PeerConnection("gw1", ConnectionKey("N", cid)) for cid in (1, 2)]
    board.board.confirmed(twice)
    board.board.confirmed(twice)
    board.board.confirmed([PeerConnection("U" + "A" * 55, ConnectionKey("N", cid)) for cid in (3, 4)])
    assert await board.events() == ["shared_key.gw1"]


async def test_facts_and_clock_skew_are_those_of_the_newest_heartbeat() -> None:
    board = Presences()
    facts = HostFacts(kernel="Linux 6.1", forwards_ipv4=True, path_mtu=1_400, behind_nat=False, guard=GuardFacts())
    await board.board.receive((Heartbeat("gw1", False, board.now, (), facts, board.now + timedelta(seconds=30)),))
    presence = board.board.of("gw1")
    assert (presence.host, presence.clock_skew_s) == (facts, 30.0)
    late = board.now - timedelta(seconds=5)
    await board.board.receive((Heartbeat("gw1", False, late, (), None, late),))
    assert board.board.of("gw1").host == facts
