"""Since when a tunnel is in its state, as an agent reports it."""

from datetime import UTC, datetime, timedelta

from warren_agent.telemetry.reports import StateHistory
from warren_contracts.status import IpsecStatus, TunnelState, TunnelStatus

NOW = datetime(2026, 1, 1, tzinfo=UTC)
BEFORE = NOW - timedelta(hours=3)


def status(state: TunnelState, established: datetime | None = BEFORE) -> TunnelStatus:
    return TunnelStatus(name="hub+spoke-1", state=state, link=IpsecStatus(ike_established_at=established))


def test_a_tunnel_that_is_up_when_the_agent_starts_is_so_since_its_ike_sa_was_established() -> None:
    assert StateHistory().record(status(TunnelState.UP), 0, NOW).since == BEFORE
    assert StateHistory().record(status(TunnelState.UP, None), 0, NOW).since == NOW
    assert StateHistory().record(status(TunnelState.UP, NOW + timedelta(seconds=1)), 0, NOW).since == NOW
    assert StateHistory().record(status(TunnelState.DEGRADED), 0, NOW).since == NOW


def test_a_change_that_the_agent_sees_is_dated_when_it_sees_it() -> None:
    history = StateHistory()
    assert history.record(status(TunnelState.DOWN, None), 0, NOW).since == NOW
    later = NOW + timedelta(minutes=1)
    assert history.record(status(TunnelState.UP), 0, later).since == later
    assert history.record(status(TunnelState.UP), 0, later + timedelta(minutes=1)).since == later
