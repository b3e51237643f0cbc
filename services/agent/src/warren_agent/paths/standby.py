"""The status of a tunnel whose traffic another one carries. Pure."""

from warren_agent.paths.choice import Failure
from warren_contracts.status import ReasonCode, TunnelState, TunnelStatus

# Reasons for which the daemon does not hold the tunnel, so that it could not take over.
NOT_LOADED = frozenset({ReasonCode.DAEMON_UNREACHABLE, ReasonCode.CONFIG_REFUSED, ReasonCode.GUARD_UNAVAILABLE})
_FAILURES = {
    Failure.NO_ANSWER: (ReasonCode.PEER_UNREACHABLE, "its addresses answer no IKE probe"),
    Failure.LOSES_PACKETS: (
        ReasonCode.PATH_PROBE_FAILED,
        "its IKE endpoint answers, and packets got lost in its tunnel",
    ),
}


def standing_by(status: TunnelStatus, instead: str, failure: Failure | None) -> TunnelStatus:
    """The status as it is reported while `instead` is in use: `standby` if it could take over, else what is against it."""
    if status.reason in NOT_LOADED:
        return status
    state, reason, detail = TunnelState.STANDBY, ReasonCode.NONE, f"standby of {instead}"
    if status.state in (TunnelState.UP, TunnelState.DEGRADED):  # its SAs are being closed
        state = status.state
    elif failure is not None:
        state, (reason, words) = TunnelState.DOWN, _FAILURES[failure]
        detail = f"{words}; {detail}"
    return status.model_copy(update={"state": state, "reason": reason, "detail": detail})
