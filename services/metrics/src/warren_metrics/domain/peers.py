"""The state of one peer and of its tunnels: immutable values, replaced by each newer message."""

from datetime import datetime, timedelta

from warren_contracts.base import Document
from warren_contracts.status import DriverStatus, TunnelStatus
from warren_contracts.telemetry import OFFLINE_AFTER


class TunnelView(Document):
    """One tunnel by the last report of one end."""

    status: TunnelStatus
    reported_at: datetime


class PeerView(Document):
    """One peer by its last messages. Stored in PostgreSQL as JSON, hence a tolerant document."""

    sequence: int = 0  # of its last message in TELEMETRY
    stored_at: datetime | None = None  # when that was stored
    presence_sequence: int = 0  # of its last heartbeat in PRESENCE
    presence_at: datetime | None = None
    last_seen_at: datetime  # the later of the two
    stopped: bool = False  # it announced its stop
    started_at: datetime | None = None
    version: str = ""
    resident_bytes: int = 0
    cpu_seconds: float = 0.0
    queued: int = 0  # telemetry messages that wait in the agent's memory
    queued_bytes: int = 0  # and on its disk
    dropped: int = 0  # those that it dropped since its start
    clock_skew_s: float | None = None  # how far its clock is ahead of the bus's
    intent_unconfirmed_s: float | None = None  # HostFacts has the meaning
    config_drifts: int = 0
    policy_sync_errors: int = 0
    dpd_failures: int = 0
    applied_epoch: int = 0
    applied_revision: int = 0  # the newest that was applied completely
    received_revision: int = 0  # the newest that it has reported, applied or not
    drivers: tuple[DriverStatus, ...] = ()

    def online(self, now: datetime) -> bool:
        """Whether a message arrived within OFFLINE_AFTER and the peer is not stopped, by the bus's clock only."""
        return not self.stopped and now - self.last_seen_at < timedelta(seconds=OFFLINE_AFTER)
