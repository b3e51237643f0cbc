"""What a newer report of one end means: the events of a change, and what the change measures."""

from warren_contracts.events import PolicyApplied, TunnelChanged
from warren_contracts.explanation import Cause
from warren_contracts.status import ReasonCode, TunnelState, TunnelStatus
from warren_contracts.telemetry import Applied
from warren_metrics.domain.parse import MessageSource

MAX_HANDSHAKE_S = 3_600.0  # an attempt that takes longer is not a handshake; nor is a clock that was set
_INSTALLED = frozenset({TunnelState.UP, TunnelState.DEGRADED})

# Reasons for which no attempt is made.
WITHOUT_AN_ATTEMPT = frozenset({ReasonCode.DAEMON_UNREACHABLE, ReasonCode.CONFIG_REFUSED})


def policy_applied(peer: str, place: MessageSource, applied: Applied) -> PolicyApplied:
    return PolicyApplied(
        peer=peer, epoch=applied.epoch, revision=applied.revision, ok=applied.ok,
        duration_ms=applied.duration_ms, error=applied.error, at=place.at,
        delivered_at=applied.delivered_at, applied_at=applied.at,
    )  # fmt: skip


def tunnel_changed(
    peer: str,
    place: MessageSource,
    status: TunnelStatus,
    before: TunnelStatus | None,
    *,
    removed: bool,
    found: Cause | None = None,
) -> TunnelChanged:
    """The event of a change; `before` None: what was before is not known. `found`: what is wrong, by both ends."""
    # The same state since another moment: what was between is not known, so neither is the state before
    known = None if before is not None and _came_back(before, status) else before
    return TunnelChanged(
        peer=peer,
        tunnel=status.name,
        state=status.state,
        previous=known.state if known is not None else None,
        removed=removed,
        status=status,
        at=place.at,
        previous_reason=known.reason if known is not None else None,
        cause=found,
    )


def is_change(before: TunnelStatus | None, status: TunnelStatus, *, with_sas: bool) -> bool:
    """Whether an event is due: another state or reason; of single changes also other SAs, or the same state again."""
    if before is None or (before.state, before.reason) != (status.state, status.reason):
        return True
    return with_sas and (spis_of(before) != spis_of(status) or _came_back(before, status))


def _came_back(before: TunnelStatus, status: TunnelStatus) -> bool:
    """Whether a tunnel left its state and returned to it, by the time since when it is in it."""
    return before.state is status.state and None not in (before.since, status.since) and before.since != status.since


def failed_without_attempt(before: TunnelStatus | None, status: TunnelStatus) -> bool:
    """Whether a tunnel has just failed without an attempt; failed attempts are reported one by one (AttemptFailure)."""
    if status.state is not TunnelState.ERROR or status.reason not in WITHOUT_AN_ATTEMPT:
        return False
    return before is None or (before.state, before.reason) != (status.state, status.reason)


def spis_of(status: TunnelStatus) -> frozenset[tuple[str, str]]:
    return frozenset((sa.spi_in, sa.spi_out) for sa in status.link.children)


def handshake_seconds(before: TunnelStatus | None, status: TunnelStatus) -> float | None:
    """How long the end that initiates was connecting until its first CHILD_SA, by its own clock; None: this is no such change."""
    if before is None or not status.initiator or before.since is None or status.since is None:
        return None
    if before.state is not TunnelState.CONNECTING or status.state not in _INSTALLED:
        return None
    if before.since.tzinfo is None or status.since.tzinfo is None:
        return None
    seconds = (status.since - before.since).total_seconds()
    return seconds if 0.0 <= seconds <= MAX_HANDSHAKE_S else None


def rekey_seconds(before: int | None, status: TunnelStatus) -> float | None:
    """How long a rekeying took that is new since `before` rekeyings; None: there is none, or it is not known how long."""
    if before is None or status.rekeys <= before or status.rekey_seconds is None:
        return None
    return status.rekey_seconds if status.rekey_seconds <= MAX_HANDSHAKE_S else None
