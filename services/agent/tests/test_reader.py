"""What is reported of a tunnel while charon changes its SAs, for every moment at which charon may be asked in between."""

import itertools
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from warren_agent.drivers.port import TAKEOVER_AFTER, DaemonTunnelChanged
from warren_agent.drivers.strongswan.connections import HandleName
from warren_agent.drivers.strongswan.convergence import DROP_AFTER, DesiredHandles, surplus
from warren_agent.drivers.strongswan.reader import FEW, SaReader
from warren_agent.drivers.strongswan.refresher import Refresher
from warren_agent.drivers.strongswan.sas import ChildSa, IkeSa
from warren_agent.drivers.strongswan.tunnel_record import TunnelRecord
from warren_agent.drivers.strongswan.tunnel_table import TunnelTable
from warren_contracts.status import TrafficStats, TunnelState

C1, C2 = HandleName("t", 1), HandleName("t", 2)
OWNER, OTHER = DesiredHandles(C2, (C2,), owner=True), DesiredHandles(C2, (C2,), owner=False)
World = tuple[IkeSa, ...]


def ike(unique_id: int, handle: HandleName, state: str = "ESTABLISHED", children: int = 1) -> IkeSa:
    child = ChildSa(
        handle,
        unique_id,
        "INSTALLED",
        "0000000a",
        "0000000b",
        "aes256gcm16",
        "",
        False,
        False,
        60,
        None,
        None,
        (),
        (),
        TrafficStats(),
    )
    return IkeSa(handle, unique_id, state, True, "", 1, "", "", (child,) * children)


OLD, NEW = ike(1, C1), ike(2, C2)
MADE_BEFORE_BROKEN: tuple[World, ...] = (
    (OLD,),
    (OLD, ike(2, C2, "CONNECTING", children=0)),
    (OLD, ike(2, C2, children=0)),
    (OLD, NEW),
    (ike(1, C1, "DELETING"), NEW),
    (NEW,),
)
# An IKE_SA is rekeyed (RFC 7296, 2.8). In between is what list-sas finds when it came to the old one before the new one was
# in charon's table, and had to wait for it until the children had moved.
REKEYED: tuple[World, ...] = ((NEW,), (ike(2, C2, "REKEYED", children=0),), (ike(3, C2),))


class Script:
    """A charon that stands at one world for each time it is asked, and at the last one forever."""

    def __init__(self, worlds: Sequence[World]) -> None:
        self.worlds = list(worlds)
        self.asked = 0

    async def sas(self, connection: HandleName | None = None) -> list[IkeSa]:
        self.asked += 1
        world = self.worlds.pop(0) if len(self.worlds) > 1 else self.worlds[0]
        return [sa for sa in world if connection in (None, sa.handle)]


async def refreshed(_: Any) -> None:
    """Nobody is asked anything by the test's refresher."""


def observer_of(*names: str, desired: DesiredHandles = OWNER) -> TunnelTable:
    observer = TunnelTable(Refresher(refreshed), lambda: 0.0, lambda: datetime(2026, 1, 1, tzinfo=UTC))
    for name in names:
        handle = HandleName(name, 2)
        observer.tunnels[name] = TunnelRecord(name, DesiredHandles(handle, (handle,), owner=desired.owner))
    return observer


async def reported_states(worlds: Sequence[World], start: World) -> list[TunnelState]:
    """What is reported of a tunnel that stood at `start`, read again and again until charon stands still."""
    observer, charon = observer_of("t"), Script([start])
    reader = SaReader(charon, observer.tunnels)
    observer.observe(observer.tunnels["t"], list(start))
    charon.worlds = list(worlds)
    while len(charon.worlds) > 1:
        observer.observe(observer.tunnels["t"], (await reader.read(["t"]))["t"])
    observer.observe(observer.tunnels["t"], (await reader.read(["t"]))["t"])
    reported = [observer.events.get_nowait() for _ in range(observer.events.qsize())]
    return [event.status.state for event in reported if isinstance(event, DaemonTunnelChanged)]


@pytest.mark.parametrize("moments", list(itertools.combinations_with_replacement(range(6), 4)), ids=str)
async def test_a_change_that_makes_before_it_breaks_is_never_reported_as_down(moments: tuple[int, ...]) -> None:
    """Both generations are asked for one after the other, at any four moments of the change."""
    worlds = [MADE_BEFORE_BROKEN[moment] for moment in moments]
    assert set(await reported_states([*worlds, MADE_BEFORE_BROKEN[-1]], MADE_BEFORE_BROKEN[0])) == {TunnelState.UP}


@pytest.mark.parametrize("before", range(3))
async def test_an_ike_sa_that_is_found_without_its_children_while_it_is_rekeyed_is_not_down(before: int) -> None:
    worlds = [REKEYED[0]] * before + [REKEYED[1], REKEYED[2]]
    assert set(await reported_states(worlds, REKEYED[0])) == {TunnelState.UP}


async def test_a_real_loss_is_reported_after_a_second_look() -> None:
    assert await reported_states([(), ()], (NEW,)) == [TunnelState.UP, TunnelState.DOWN]
    kept = ike(2, C2, children=0)
    assert await reported_states([(kept,), (kept,)], (NEW,)) == [TunnelState.UP, TunnelState.DOWN]


async def test_many_tunnels_are_read_at_once_and_only_what_is_lost_once_more() -> None:
    names = [f"t{n}" for n in range(FEW + 1)]
    observer = observer_of(*names)
    for record in observer.tunnels.values():
        record.sas = [ike(1, HandleName(record.name, 2))]
    everything = tuple(ike(1, HandleName(name, 2)) for name in names)
    charon = Script([everything[1:], everything])
    found = await SaReader(charon, observer.tunnels).read(names)
    assert {name: len(sas) for name, sas in found.items()} == dict.fromkeys(names, 1)
    assert charon.asked == 2


async def test_what_a_busy_charon_left_out_is_not_reported_as_down() -> None:
    observer = observer_of("t")
    observer.observe(observer.tunnels["t"], [NEW])
    observer.observe_all([REKEYED[1][0]], partial=True)
    assert observer.tunnels["t"].state is TunnelState.UP


@pytest.mark.parametrize(("desired", "wait"), [(OWNER, DROP_AFTER), (OTHER, TAKEOVER_AFTER)], ids=["owner", "other"])
def test_the_old_sas_keep_their_time_when_the_new_ones_are_seen_at_once(desired: DesiredHandles, wait: float) -> None:
    """No reading between the change and the new IKE_SA: what was converged was the former configuration."""
    record = TunnelRecord("t", DesiredHandles(C1, (C1,), desired.owner))
    record.observe([OLD], clock=0.0)
    record.want(desired, None)
    record.observe([OLD, NEW], clock=1_000.0)
    assert surplus(record.sas, record.desired, record.converged_for(1_000.0)) == []
    assert surplus(record.sas, record.desired, record.converged_for(1_000.0 + wait)) != []
