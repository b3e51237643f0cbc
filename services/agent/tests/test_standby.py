"""What is reported of a tunnel whose traffic another one carries."""

import pytest

from warren_agent.paths.choice import Failure
from warren_agent.paths.standby import standing_by
from warren_contracts.status import ReasonCode, TunnelState, TunnelStatus


def status(state: TunnelState, reason: ReasonCode = ReasonCode.NONE) -> TunnelStatus:
    return TunnelStatus(name="hub-2+spoke", state=state, reason=reason, detail="before")


@pytest.mark.parametrize("state", [TunnelState.DOWN, TunnelState.CONNECTING, TunnelState.ERROR])
def test_tunnel_that_could_take_over_stands_by(state: TunnelState) -> None:
    found = standing_by(status(state, ReasonCode.PEER_UNREACHABLE), "hub-1+spoke", None)
    assert (found.state, found.reason, found.detail) == (TunnelState.STANDBY, ReasonCode.NONE, "standby of hub-1+spoke")


@pytest.mark.parametrize(
    ("failure", "reason"),
    [(Failure.NO_ANSWER, ReasonCode.PEER_UNREACHABLE), (Failure.LOSES_PACKETS, ReasonCode.PATH_PROBE_FAILED)],
)
def test_tunnel_that_could_not_is_down_and_says_why(failure: Failure, reason: ReasonCode) -> None:
    found = standing_by(status(TunnelState.DOWN), "hub-1+spoke", failure)
    assert (found.state, found.reason) == (TunnelState.DOWN, reason)
    assert found.detail.endswith("standby of hub-1+spoke")


def test_tunnel_that_its_daemon_does_not_hold_does_not_stand_by() -> None:
    refused = status(TunnelState.ERROR, ReasonCode.CONFIG_REFUSED)
    assert standing_by(refused, "hub-1+spoke", None) is refused


def test_tunnel_whose_sas_are_being_closed_is_still_up() -> None:
    found = standing_by(status(TunnelState.UP), "hub-1+spoke", None)
    assert (found.state, found.detail) == (TunnelState.UP, "standby of hub-1+spoke")
