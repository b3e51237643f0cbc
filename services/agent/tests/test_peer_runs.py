"""Which peers lost their SAs, by the runs of their daemons in the directory."""

import pytest

from warren_agent.domain.peer_runs import restarted, runs_of, with_peer_daemon_lost, without_daemon
from warren_contracts.peers import DriverCapabilities, PeerRecord
from warren_contracts.status import ReasonCode, TunnelState, TunnelStatus
from warren_testkit.intent import directory, ipsec_tunnel, record


def peer(name: str, run: str) -> PeerRecord:
    return record(name, 1, driver=DriverCapabilities(run=run))


def test_other_run_of_a_known_peer_is_a_restart() -> None:
    before = runs_of(directory(peer("hub", "a" * 16), peer("spoke", "b" * 16)))
    after = runs_of(directory(peer("hub", "c" * 16), peer("spoke", "b" * 16), peer("new", "d" * 16)))
    assert restarted(before, after) == {"hub"}


def test_peer_whose_daemon_is_down_or_that_never_announced_a_run_is_none() -> None:
    before = runs_of(directory(peer("hub", "a" * 16), peer("old", "")))
    after = runs_of(directory(peer("hub", ""), peer("old", "e" * 16)))
    assert restarted(before, after) == frozenset()


def test_tunnels_of_a_peer_whose_daemon_does_not_answer_are_found() -> None:
    lost = record("hub", 1, driver=DriverCapabilities(run="a" * 16, reachable=False))
    tunnels = [
        ipsec_tunnel(name="a", peer="hub"),
        ipsec_tunnel(name="b", peer="other"),
        ipsec_tunnel(name="c", peer=None),
    ]
    assert without_daemon(tunnels, directory(lost, peer("other", "b" * 16))) == {"a"}
    assert without_daemon(tunnels, directory(record("hub", 1))) == frozenset()  # it has announced no driver


@pytest.mark.parametrize(
    ("state", "reason", "shown"),
    [
        (TunnelState.UP, ReasonCode.NONE, TunnelState.DEGRADED),
        (TunnelState.DEGRADED, ReasonCode.PEER_NOT_ANSWERING, TunnelState.DEGRADED),
        (TunnelState.CONNECTING, ReasonCode.NONE, TunnelState.CONNECTING),
        (TunnelState.STANDBY, ReasonCode.NONE, TunnelState.DOWN),
        (TunnelState.DOWN, ReasonCode.PEER_UNREACHABLE, TunnelState.DOWN),
    ],
)
def test_lost_daemon_is_the_reason_of_what_looks_like_a_silent_peer(
    state: TunnelState, reason: ReasonCode, shown: TunnelState
) -> None:
    found = with_peer_daemon_lost(TunnelStatus(name="t", state=state, reason=reason))
    assert (found.state, found.reason) == (shown, ReasonCode.PEER_DAEMON_UNREACHABLE)


@pytest.mark.parametrize(
    ("state", "reason"),
    [(TunnelState.ERROR, ReasonCode.DAEMON_UNREACHABLE), (TunnelState.DEGRADED, ReasonCode.NARROWED)],
)
def test_what_is_wrong_at_this_end_stays_the_reason(state: TunnelState, reason: ReasonCode) -> None:
    status = TunnelStatus(name="t", state=state, reason=reason)
    assert with_peer_daemon_lost(status) is status
