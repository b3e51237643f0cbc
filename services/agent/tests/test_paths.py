"""Which way to a peer is used."""

import asyncio
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from warren_agent.errors import UnresolvedNameError
from warren_agent.paths.choice import DEAD_AFTER, FIRST_LIMIT, RETRY_AFTER, START_LIMIT, Failure, PathChoice, Way
from warren_agent.paths.data_path import ECHO_EVERY, DataPathProbe, EchoEnds, EchoProber, echo_ends
from warren_agent.paths.ike_probe import build_probe, parse_answer
from warren_agent.paths.manager import PathManager
from warren_agent.paths.prober import Prober
from warren_agent.paths.resolver import Resolved
from warren_agent.state.paths_file import PathsFile
from warren_contracts.addresses import Endpoint, parse_endpoint
from warren_contracts.tunnel import Tunnel
from warren_testkit.intent import ipsec_tunnel
from warren_testkit.waiting import eventually

HOLD_DOWN = 60.0
FIRST, SECOND, OTHER = (
    Way("a", parse_endpoint("192.0.2.1")), Way("a", parse_endpoint("192.0.2.2")), Way("b", parse_endpoint("192.0.2.9"))
)  # fmt: skip
ALL = (FIRST, SECOND, OTHER)


class Timeline:
    """A choice, driven by probes every half second."""

    def __init__(self, ways: tuple[Way, ...] = ALL) -> None:
        self.now = 100.0
        self.choice = PathChoice.start(ways, self.now, HOLD_DOWN)
        self.echoing: set[str] = set()  # tunnels whose peer has answered an echo

    def run(
        self, seconds: float, *, answering: tuple[Way, ...] = (), up: str = "", echoes: tuple[Way, ...] | None = None
    ) -> Way:
        """Let time pass with these ways answering, this tunnel up (`*`: the one in use), and echoes passing these ways only."""
        end = self.now + seconds
        up_now = up
        while self.now < end:
            self.now += 0.5
            for way in self.choice.ways:
                self.choice.probed(way, way in answering, self.now)
            up_now = self.choice.current.tunnel if up == "*" else up
            for tunnel in {way.tunnel for way in self.choice.ways}:
                self.choice.observed(tunnel, tunnel == up_now, self.now)
            if echoes is not None:
                way = self.choice.current
                self.echoing |= {way.tunnel} if way in echoes else set()
                self.choice.echoed(way, way in echoes, self.now, known=way.tunnel in self.echoing)
            self.choice.step(self.now)
        return self.choice.current


def test_the_preferred_way_is_used_while_it_works() -> None:
    assert Timeline().run(200.0, answering=ALL, up="a") == FIRST


def test_a_way_that_never_answers_is_left_for_one_that_does() -> None:
    line = Timeline()
    assert line.run(FIRST_LIMIT - 0.5, answering=(SECOND, OTHER)) == FIRST
    assert line.run(1.0, answering=(SECOND, OTHER)) == SECOND


def test_a_lost_answer_changes_nothing_and_a_dead_path_is_left_within_seconds() -> None:
    line = Timeline()
    line.run(20.0, answering=ALL, up="a")
    assert line.run(DEAD_AFTER - 0.5, answering=(SECOND, OTHER), up="a") == FIRST
    line.run(5.0, answering=ALL, up="a")
    assert line.run(DEAD_AFTER + 1.0, answering=(SECOND, OTHER), up="a") == SECOND
    assert line.run(DEAD_AFTER + 1.0, answering=(OTHER,), up="a") == OTHER


def test_a_dead_path_is_kept_while_no_other_answers() -> None:
    line = Timeline()
    line.run(20.0, answering=ALL, up="a")
    assert line.run(100.0, answering=(), up="a") == FIRST


def test_the_preferred_way_is_used_again_after_the_hold_down() -> None:
    line = Timeline()
    assert line.run(10.0, answering=(OTHER,), up="b") == OTHER
    assert line.run(HOLD_DOWN - 5.0, answering=(FIRST, OTHER), up="b") == OTHER
    line.run(DEAD_AFTER + 1.0, answering=(OTHER,), up="b")  # it comes and goes: the hold-down begins again
    assert line.run(HOLD_DOWN - 5.0, answering=(FIRST, OTHER), up="b") == OTHER
    assert line.run(10.0, answering=(FIRST, OTHER), up="b") == FIRST


def test_ways_that_answer_no_probes_are_tried_in_turn() -> None:
    line = Timeline()
    found = [line.run(START_LIMIT + 0.5), line.run(START_LIMIT + 0.5)]
    assert found == [SECOND, OTHER]
    assert line.run(1_000.0, up="b") == OTHER  # its tunnel is up, and nothing says that another would do


def test_a_negotiation_that_fails_is_given_up_for_the_next_way_and_tried_again_later() -> None:
    line = Timeline((FIRST, OTHER))
    assert line.run(START_LIMIT + 0.5, answering=(FIRST, OTHER)) == OTHER
    assert line.run(START_LIMIT + 0.5, answering=(FIRST, OTHER)) == OTHER  # the first has just failed
    assert line.run(RETRY_AFTER, answering=(FIRST, OTHER)) == FIRST


def test_a_tunnel_of_an_earlier_run_is_adopted() -> None:
    line = Timeline()
    line.choice.observed("b", converged=True, now=line.now)
    assert line.choice.current == OTHER
    later = Timeline()
    later.run(20.0, answering=ALL, up="a")
    later.choice.observed("b", converged=True, now=later.now)
    assert later.choice.current.tunnel == "a"


def test_changed_addresses_keep_the_way_in_use_where_it_remains() -> None:
    line = Timeline()
    line.run(20.0, answering=(SECOND,), up="a")
    line.choice.replace_ways((SECOND, OTHER), line.now)
    assert line.choice.current == SECOND
    line.choice.replace_ways((OTHER,), line.now)
    assert line.choice.current == OTHER


TWO = (FIRST, OTHER)


def test_a_way_whose_tunnel_loses_packets_is_left_although_its_endpoint_answers() -> None:
    line = Timeline(TWO)
    line.run(20.0, answering=TWO, up="*", echoes=TWO)
    assert line.run(DEAD_AFTER - 0.5, answering=TWO, up="*", echoes=(OTHER,)) == FIRST
    line.run(5.0, answering=TWO, up="*", echoes=TWO)  # one lost echo changes nothing
    assert line.run(DEAD_AFTER + 1.0, answering=TWO, up="*", echoes=(OTHER,)) == OTHER
    assert line.choice.failure_of("a") is Failure.LOSES_PACKETS


def test_a_way_that_loses_packets_is_kept_while_no_other_answers() -> None:
    line = Timeline(TWO)
    line.run(20.0, answering=TWO, up="*", echoes=TWO)
    assert line.run(100.0, answering=(FIRST,), up="*", echoes=()) == FIRST


def test_a_way_that_lost_packets_is_tried_again_after_a_hold_down_that_doubles_each_time() -> None:
    line = Timeline(TWO)
    line.run(20.0, answering=TWO, up="*", echoes=TWO)
    for losses in (1, 2, 3):
        assert line.run(DEAD_AFTER + 1.0, answering=TWO, up="*", echoes=(OTHER,)) == OTHER
        assert line.run(2**losses * HOLD_DOWN - 5.0, answering=TWO, up="*", echoes=(OTHER,)) == OTHER
        assert line.run(6.0, answering=TWO, up="*", echoes=TWO) == FIRST
    assert line.run(HOLD_DOWN + 5.0, answering=TWO, up="*", echoes=TWO) == FIRST  # it carries again: all is forgotten
    assert line.choice.failure_of("a") is None
    assert line.run(DEAD_AFTER + 1.0, answering=TWO, up="*", echoes=(OTHER,)) == OTHER
    assert line.run(2 * HOLD_DOWN + 5.0, answering=TWO, up="*", echoes=TWO) == FIRST


def test_gateways_that_answer_no_echo_on_any_way_are_not_judged_by_echoes() -> None:
    line = Timeline(TWO)
    assert line.run(10.0, answering=TWO, up="*", echoes=()) == OTHER  # packets may get lost there: one try
    assert line.run(2 * HOLD_DOWN + 5.0, answering=TWO, up="*", echoes=()) == FIRST
    assert line.run(1_000.0, answering=TWO, up="*", echoes=()) == FIRST


def test_a_way_on_which_packets_never_passed_is_left_for_one_on_which_they_do() -> None:
    line = Timeline(TWO)
    assert line.run(10.0, answering=TWO, up="*", echoes=(OTHER,)) == OTHER
    line.run(2 * HOLD_DOWN + 10.0, answering=TWO, up="*", echoes=(OTHER,))
    assert line.choice.current == OTHER
    assert line.choice.health[FIRST].losses == 2


def test_one_lost_echo_of_an_agent_that_was_held_up_changes_nothing() -> None:
    line = Timeline(TWO)
    line.run(20.0, answering=TWO, up="*", echoes=TWO)
    line.choice.echoed(FIRST, False, line.now - 10.0, known=True)  # it was sent ten seconds ago
    assert not line.choice.step(line.now)
    assert line.run(5.0, answering=TWO, up="*", echoes=TWO) == FIRST


def test_a_way_that_loses_packets_is_known_while_no_other_answers_and_not_from_before() -> None:
    line = Timeline(TWO)
    found = []
    for seconds, answering, echoes in (
        (20.0, TWO, TWO), (DEAD_AFTER + 1.0, (FIRST,), ()), (1.0, (FIRST,), TWO), (DEAD_AFTER + 1.0, TWO, (OTHER,)),
    ):  # fmt: skip
        line.run(seconds, answering=answering, up="*", echoes=echoes)
        found.append((line.choice.current, line.choice.loses_packets))
    assert found == [(FIRST, False), (FIRST, True), (FIRST, False), (OTHER, False)]
    line.choice.current = FIRST  # again, before any echo
    assert not line.choice.loses_packets


def test_a_gateway_whose_daemon_is_announced_as_lost_is_left_at_once_until_it_answers_again() -> None:
    line = Timeline(TWO)
    line.run(20.0, answering=TWO, up="*")
    line.choice.note_unreachable("a", line.now)
    assert line.choice.step(line.now)
    assert line.choice.current == OTHER
    assert line.run(HOLD_DOWN - 5.0, answering=TWO, up="*") == OTHER
    assert line.run(10.0, answering=TWO, up="*") == FIRST


def test_a_standby_that_does_not_answer_is_known_to_be_dead_before_it_is_needed() -> None:
    line = Timeline(TWO)
    line.run(20.0, answering=TWO, up="*")
    assert line.choice.failure_of("b") is None
    line.run(DEAD_AFTER + 1.0, answering=(FIRST,), up="*")
    assert line.choice.failure_of("b") is Failure.NO_ANSWER
    assert Timeline(TWO).choice.failure_of("b") is None  # never probed: nothing is known


def test_echoes_go_between_own_addresses_of_both_ends_within_the_selectors() -> None:
    own = [ip_address(it) for it in ("192.0.2.1", "2001:db8::1", "10.1.0.1")]
    peers = [ip_address(it) for it in ("10.9.0.1", "10.0.0.1")]
    assert echo_ends(tunnel("192.0.2.2"), own, peers) == EchoEnds(own[2], peers[1])
    assert echo_ends(tunnel("192.0.2.2"), own[:2], peers) is None
    assert echo_ends(tunnel("192.0.2.2"), own, peers[:1]) is None
    only_tcp = {"local_ts": ["10.1.0.0/16[tcp]"], "remote_ts": ["10.0.0.0/16[tcp]"]}
    assert echo_ends(tunnel("192.0.2.2", child=only_tcp), own, peers) is None
    icmp = {"local_ts": ["10.1.0.0/16[icmp]"], "remote_ts": ["10.0.0.0/16[icmp]"]}
    assert echo_ends(tunnel("192.0.2.2", child=icmp), own, peers) is not None


class CountingEchoes(EchoProber):
    """Answers every echo, and remembers between which addresses it went."""

    def __init__(self) -> None:
        self.sent: list[EchoEnds] = []

    async def probe(self, ends: EchoEnds) -> bool | None:
        self.sent.append(ends)
        return True

    def close(self) -> None:
        pass


async def test_echoes_go_through_the_tunnel_in_use_to_what_its_peer_announced_or_the_settings_name() -> None:
    first, second = tunnel("192.0.2.1", name="a"), tunnel("192.0.2.9", name="b", standby_of=["a"])
    own = ip_address("10.1.0.1")
    for announced, named in ((("10.0.0.1",), ()), ((), ("10.0.0.1",)), ((), ())):
        prober, now = CountingEchoes(), 100.0
        path = DataPathProbe(lambda: now, lambda: (own,), prober, tuple(map(ip_address, named)))  # noqa: B023 - called in this round
        path.desire([first, second], {"a": tuple(map(ip_address, announced))})
        choice = PathChoice.start(TWO, now)
        path.probe_due(choice, now)
        assert prober.sent == []  # it is not up
        choice.observed("a", True, now)
        path.probe_due(choice, now)
        await asyncio.sleep(0)
        path.probe_due(choice, now + ECHO_EVERY - 0.1)
        await asyncio.sleep(0)
        assert prober.sent == [EchoEnds(own, ip_address("10.0.0.1"))] * bool(announced or named)
        path.close()


def test_a_probe_is_answered_by_its_spi_only() -> None:
    probe = build_probe(b"12345678", 500)
    assert parse_answer(probe) is None  # an echo of the probe itself
    answer = b"12345678" + bytes(8) + bytes((0, 0x20, 37, 0x20)) + bytes(4) + (28).to_bytes(4, "big")
    assert parse_answer(answer) == parse_answer(bytes(4) + answer) == b"12345678"
    assert parse_answer(answer[:-1]) is None
    assert parse_answer(b"") is None
    assert build_probe(b"12345678", 4500) == bytes(4) + probe


def tunnel(*remote: str, local: tuple[str, ...] = (), **changes: Any) -> Tunnel:
    return ipsec_tunnel(remote_endpoints=list(remote), local_endpoints=list(local), **changes)


class SilentProber(Prober):
    async def probe(self, endpoint: Endpoint, timeout_s: float) -> bool:
        return False


@pytest.fixture
def manager() -> PathManager:
    return PathManager(lambda: 100.0, SilentProber(), owns=lambda address: str(address) == "192.0.2.9")


async def test_a_standby_is_held_and_named_and_stopped_if_it_comes_up(manager: PathManager) -> None:
    first = tunnel("192.0.2.1", name="hub-1+spoke", peer="hub-1")
    standby = tunnel("192.0.2.2", name="hub-2+spoke", peer="hub-2", standby_of=["hub-1+spoke"])
    alone = tunnel("192.0.2.3", name="hub-3+spoke", peer="hub-3")
    manager.desire([standby, alone, first])
    assert [manager.is_held(it.name) for it in (first, standby, alone)] == [False, True, False]
    assert manager.in_use_instead("hub-2+spoke") == "hub-1+spoke"
    manager.observed("hub-1+spoke", converged=True)
    manager.observed("hub-2+spoke", converged=True)
    assert manager.take_stops() == {"hub-2+spoke"}
    assert manager.take_stops() == set()
    assert manager.tunnels() == (standby, alone, first)


async def test_agent_that_starts_again_uses_the_way_of_its_last_run_unless_the_host_was_started(tmp_path: Path) -> None:
    desired = tunnel("192.0.2.1", "gw.example", name="a")
    found = asyncio.Event()

    async def resolving(name: str) -> Resolved:
        if found.is_set():
            raise UnresolvedNameError(f"{name}: no name server answers")
        return Resolved((ip_address("192.0.2.2"),), 3_600.0)

    def called(boot: str, damage: str = "") -> tuple[PathManager, list[str]]:
        path = tmp_path / "paths.json"
        if damage:
            path.write_text(damage)
        made = PathManager(
            lambda: 100.0, SilentProber(), resolving, lambda _: False, memory=PathsFile(path, lambda: boot)
        )
        made.desire([desired])
        return made, [str(it) for it in made.tunnels()[0].remote_endpoints]

    first, addresses = called("one")
    assert addresses == ["192.0.2.1"]
    await eventually(lambda: bool(first._choices), what="the name")
    choice = first._choices["a"]
    choice.observed("a", True, 100.0)
    for at in (0.0, START_LIMIT + 1):
        choice.probed(SECOND, True, 100.0 + at)
    choice.observed("a", False, 100.0)
    first._decide(choice, 100.0 + START_LIMIT)
    assert choice.current == SECOND
    found.set()
    assert called("one")[1] == ["192.0.2.2", "192.0.2.1"]  # the name is not resolved yet
    again, addresses = called("two")
    assert addresses == ["192.0.2.1"]
    assert again.unresolved("a") == ""
    for damage in (
        "{",
        "[]",
        '{"names": {"gw.example": ["x"]}, "boot": "one", "ways": []}',
        '{"names": {}, "ways": 1}',
    ):
        assert called("two", damage)[1] == ["192.0.2.1"]


async def test_an_own_address_in_a_list_of_the_other_end_is_not_called(manager: PathManager) -> None:
    manager.desire([tunnel("192.0.2.9", "192.0.2.1", "192.0.2.2")])
    (made,) = manager.tunnels()
    assert str(made.remote_endpoints[0]) == "192.0.2.1"
