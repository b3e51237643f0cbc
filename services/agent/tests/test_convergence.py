"""Which SAs are surplus: only when the tunnel is converged, only by one end, only after their time."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren_agent.drivers.port import TAKEOVER_AFTER
from warren_agent.drivers.strongswan.connections import HandleName
from warren_agent.drivers.strongswan.convergence import (
    DROP_AFTER,
    DUPLICATE_AFTER,
    DesiredHandles,
    Termination,
    is_converged,
    state_of,
    surplus,
)
from warren_agent.drivers.strongswan.sas import ChildSa, IkeSa
from warren_contracts.status import ReasonCode, TrafficStats, TunnelState

C1, C2 = HandleName("t", 1), HandleName("t", 2)
OWNER = DesiredHandles(C2, (C2,), owner=True)
OTHER = DesiredHandles(C2, (C2,), owner=False)


def child(unique_id: int, handle: HandleName = C2, state: str = "INSTALLED", established: int = 60) -> ChildSa:
    return ChildSa(
        handle, unique_id, state, "1", "2", "", "", False, False, established, None, None, (), (), TrafficStats()
    )


def ike(unique_id: int, handle: HandleName, *children: ChildSa, state: str = "ESTABLISHED") -> IkeSa:
    return IkeSa(handle, unique_id, state, True, "", 1, "", "", children)


OLD, NEW = ike(1, C1, child(1, C1)), ike(2, C2, child(2))


def test_nothing_is_surplus_until_the_new_one_is_up() -> None:
    connecting = ike(2, C2, state="CONNECTING")
    without_child = ike(2, C2)
    for sas in ([OLD], [OLD, connecting], [OLD, without_child]):
        assert not is_converged(sas, OWNER)
        assert surplus(sas, OWNER, converged_for=1e9) == []


def test_older_generation_goes_by_the_initiator_soon_and_by_the_other_end_late() -> None:
    gone = [Termination("ike", 1)]
    assert surplus([OLD, NEW], OWNER, DROP_AFTER - 0.1) == []
    assert surplus([OLD, NEW], OWNER, DROP_AFTER) == gone
    assert surplus([OLD, NEW], OTHER, TAKEOVER_AFTER - 0.1) == []
    assert surplus([OLD, NEW], OTHER, TAKEOVER_AFTER) == gone


def test_child_of_an_older_configuration_goes_and_its_ike_sa_stays() -> None:
    both = ike(2, C2, child(7, C1), child(8))
    assert surplus([both], OWNER, DROP_AFTER) == [Termination("child", 7)]


def test_ike_sa_of_the_newest_connection_that_carries_older_children_only_goes() -> None:
    """The other end has made another IKE_SA for the newest children: its connection is of another generation there."""
    older = ike(1, C2, child(7, C1))
    assert surplus([older, NEW], OWNER, DROP_AFTER) == [Termination("ike", 1)]
    assert surplus([ike(1, C2), NEW], OWNER, 1e9) == []  # its child is under way
    assert surplus([ike(1, C2, child(7, C1, state="REKEYED")), NEW], OWNER, DROP_AFTER) == []


def test_ike_sa_whose_child_was_refused_goes_when_another_carries_the_tunnel() -> None:
    empty = replace(ike(1, C2), established=int(DUPLICATE_AFTER))
    assert surplus([empty, NEW], OWNER, DUPLICATE_AFTER) == [Termination("ike", 1)]
    assert surplus([empty, NEW], OTHER, 1e9) == []
    assert surplus([replace(empty, state="REKEYED"), NEW], OWNER, 1e9) == []


def test_second_ike_sa_of_one_configuration_goes_by_the_initiator_alone() -> None:
    twin = ike(3, C2, child(3))
    assert surplus([NEW, twin], OWNER, DUPLICATE_AFTER) == [Termination("ike", 2)]
    assert surplus([NEW, twin], OTHER, 1e9) == []


def test_twin_that_the_initiator_has_forgotten_goes_by_the_other_end_while_packets_arrive_on_another() -> None:
    alive = ike(2, C2, replace(child(2), idle_in=1, traffic=TrafficStats(packets_in=9)))
    forgotten = ike(3, C2, child(3))
    assert surplus([alive, forgotten], OTHER, TAKEOVER_AFTER) == [Termination("ike", 3)]
    assert surplus([alive, forgotten], OTHER, TAKEOVER_AFTER - 0.1) == []
    assert surplus([ike(2, C2, child(2)), forgotten], OTHER, 1e9) == []  # no traffic says nothing
    assert surplus([alive, ike(3, C2, child(3, established=5))], OTHER, 1e9) == []
    both = ike(2, C2, alive.children[0], child(3))
    assert surplus([both], OTHER, TAKEOVER_AFTER) == [Termination("child", 3)]
    assert surplus([alive], OTHER, 1e9) == []


def test_children_of_a_rekeying_are_no_duplicates() -> None:
    rekeyed = ike(2, C2, child(7, state="REKEYED"), child(8, established=0))
    assert surplus([rekeyed], OWNER, 1e9) == []
    just_made = ike(2, C2, child(7), child(8, established=1))
    assert surplus([just_made], OWNER, 1e9) == [Termination("child", 7)]


@pytest.mark.parametrize(
    ("sas", "reason", "state"),
    [
        ([OLD], ReasonCode.PROPOSAL_MISMATCH_IKE, TunnelState.DEGRADED),
        ([OLD], ReasonCode.NONE, TunnelState.UP),
        ([], ReasonCode.NONE, TunnelState.DOWN),
        ([ike(1, C2, state="CONNECTING")], ReasonCode.NONE, TunnelState.CONNECTING),
        ([ike(1, C2, state="CONNECTING")], ReasonCode.PEER_UNREACHABLE, TunnelState.DOWN),
        ([ike(1, C2, state="CONNECTING")], ReasonCode.TS_MISMATCH, TunnelState.ERROR),
        ([ike(1, C2, child(1, state="DELETED"))], ReasonCode.NONE, TunnelState.DOWN),
        ([ike(1, C2, child(1), state="DELETING")], ReasonCode.NONE, TunnelState.DOWN),
    ],
)
def test_state_is_what_the_sas_say(sas: list[IkeSa], reason: ReasonCode, state: TunnelState) -> None:
    assert state_of(sas, reason, OWNER) is state


HANDLES = st.sampled_from([C1, C2])
STATES = st.sampled_from(["INSTALLED", "REKEYED", "DELETED"])


@st.composite
def many_sas(draw: st.DrawFn) -> list[IkeSa]:
    ids = itertools.count(1)
    shapes = draw(st.lists(st.tuples(HANDLES, st.lists(st.tuples(HANDLES, STATES), max_size=3)), max_size=4))
    return [ike(next(ids), h, *(child(next(ids), c, state) for c, state in children)) for h, children in shapes]


@given(many_sas(), st.booleans(), st.floats(0, 100))
def test_a_settled_tunnel_stays_settled_whatever_is_closed(sas: list[IkeSa], owner: bool, converged_for: float) -> None:
    desired = DesiredHandles(C2, (C2,), owner)
    closed = surplus(sas, desired, converged_for)
    left = [
        ike(sa.unique_id, sa.handle, *(c for c in sa.children if Termination("child", c.unique_id) not in closed))
        for sa in sas
        if Termination("ike", sa.unique_id) not in closed and sa.handle is not None
    ]
    assert is_converged(left, desired) == is_converged(sas, desired)


@given(many_sas())
def test_once_everything_due_is_closed_nothing_more_is(sas: list[IkeSa]) -> None:
    closed = surplus(sas, OWNER, 1e9)
    left = [
        ike(sa.unique_id, sa.handle, *(c for c in sa.children if Termination("child", c.unique_id) not in closed))
        for sa in sas
        if Termination("ike", sa.unique_id) not in closed and sa.handle is not None
    ]
    assert surplus(left, OWNER, 1e9) == []
