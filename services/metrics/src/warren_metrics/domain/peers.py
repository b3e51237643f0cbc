"""What is known of one peer and of its tunnels: values, replaced as a whole by each message that is news."""

from datetime import datetime, timedelta

from warren_contracts.base import Document
from warren_contracts.status import DaemonState, TunnelStatus
from warren_contracts.telemetry import OFFLINE_AFTER


class TunnelView(Document):
    """One tunnel as one end told it last."""

    status: TunnelStatus
    reported_at: datetime


class PeerView(Document):
    """One peer as it was heard last. Kept in PostgreSQL as JSON, hence a tolerant document."""

    sequence: int = 0  # where its last message stands in TELEMETRY
    told_at: datetime | None = None  # when that was stored
    presence_sequence: int = 0  # where its last heartbeat stands in PRESENCE
    presence_at: datetime | None = None
    heard_at: datetime  # the later of the two
    stopped: bool = False  # it said goodbye
    started_at: datetime | None = None
    version: str = ""
    resident_bytes: int = 0
    cpu_seconds: float = 0.0
    policy_sync_errors: int = 0
    dpd_failures: int = 0
    applied_epoch: int = 0
    applied_revision: int = 0  # the newest that was applied in full
    received_revision: int = 0  # the newest that it told of, applied or not
    daemon: DaemonState = DaemonState.UNKNOWN

    def online(self, now: datetime) -> bool:
        """Heard within OFFLINE_AFTER, and not stopped. By the bus's clock alone: the peer's own is not believed."""
        return not self.stopped and now - self.heard_at < timedelta(seconds=OFFLINE_AFTER)
