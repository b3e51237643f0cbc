"""The state of one peer and of its tunnels: immutable values, replaced by each newer message."""

from datetime import datetime, timedelta
from operator import itemgetter
from typing import NamedTuple, Self

from warren_contracts.base import Document, assembled
from warren_contracts.status import DriverStatus, ReasonCode, TunnelState, TunnelStatus
from warren_contracts.telemetry import OFFLINE_AFTER
from warren_metrics.domain.budget import stored_weight

_STATUS, _REPORTED_AT, _END = '{"status":', ',"reported_at":"', '"}'  # of a TunnelView in PostgreSQL
_DEFAULTS = TunnelStatus.model_construct(name="", state=TunnelState.UNKNOWN).__dict__
_LEAN = {"name", "policy", "peer", "state", "initiator", "reason", "detail", "skipped", "since"}


def unix_time(at: datetime | None) -> float | None:
    """Unix time to a millisecond; an agent's time without a zone is none."""
    return None if at is None or at.tzinfo is None else round(at.timestamp() * 1_000) / 1_000


class TunnelView(NamedTuple):
    """One tunnel by the last report of one end.

    The status is kept as JSON, a fifth of the memory of its models, and parsed where it is asked for as a whole; what is read of
    every tunnel at every scrape or report is next to it. (A tuple: a frozen dataclass takes ten times as long to make.)
    """

    reported_at: datetime
    encoded: bytes  # TunnelStatus
    weight: int
    state: TunnelState
    reason: ReasonCode
    peer: str | None
    policy: str | None
    initiator: bool
    since: datetime | None
    since_s: float | None  # Unix time, as the two below
    evidence_s: float | None
    established_s: float | None
    rekeys: int
    restarts: int
    bytes_in: int
    bytes_out: int
    packets_in: int
    packets_out: int
    detail: str = ""
    skipped: str = ""
    counters_known: bool = True  # False: restored, and the counters that were shown before may have been higher

    @classmethod
    def of(cls, status: TunnelStatus, reported_at: datetime, encoded: bytes = b"", before: Self | None = None) -> Self:
        """The view of a report. `encoded`: the JSON of which the status was read, if it is known; `before`: the last view, if any."""
        traffic, link = status.traffic, status.link
        encoded = encoded or status.model_dump_json().encode()
        since = status.since
        since_s = before.since_s if before is not None and before.since == since else unix_time(since)
        return cls(
            reported_at, encoded, stored_weight(encoded), status.state, status.reason, status.peer, status.policy,
            status.initiator, since, since_s, unix_time(status.evidence.at), unix_time(link.ike_established_at),
            status.rekeys, status.restarts,
            traffic.bytes_in, traffic.bytes_out, traffic.packets_in, traffic.packets_out, status.detail, status.skipped,
        )  # fmt: skip

    @property
    def status(self) -> TunnelStatus:
        """The whole report, parsed at each call."""
        return TunnelStatus.model_validate_json(self.encoded)

    def lean(self, name: str) -> TunnelStatus:
        """The report without SAs, counters and evidence; nothing is parsed."""
        return assembled(
            TunnelStatus,
            _LEAN,
            {
                **_DEFAULTS, "name": name, "policy": self.policy, "peer": self.peer, "state": self.state,
                "initiator": self.initiator, "reason": self.reason, "detail": self.detail, "skipped": self.skipped,
                "since": self.since,
            },
        )  # fmt: skip

    def to_stored(self) -> str:
        """As JSON: the status, and when it was reported."""
        return f"{_STATUS}{self.encoded.decode()}{_REPORTED_AT}{self.reported_at.isoformat()}{_END}"

    @classmethod
    def from_stored(cls, text: str) -> Self:
        """The view that was stored. Raises ValueError for any other text."""
        status, _, at = text.removeprefix(_STATUS).removesuffix(_END).rpartition(_REPORTED_AT)
        encoded = status.encode()
        return cls.of(TunnelStatus.model_validate_json(encoded), datetime.fromisoformat(at), encoded)


# The times and counters of a view, from `since_s` to `packets_out`, as one tuple.
measured = itemgetter(slice(TunnelView._fields.index("since_s"), TunnelView._fields.index("packets_out") + 1))


class PeerView(Document):
    """One peer by its last messages. Stored in PostgreSQL as JSON, hence a tolerant document."""

    sequence: int = 0  # of its last message in TELEMETRY
    stored_at: datetime | None = None  # when that was stored
    presence_sequence: int = 0  # of its last heartbeat in PRESENCE
    presence_at: datetime | None = None
    last_seen_at: datetime  # the later of the two
    reported_until: datetime | None = None  # the newest time of what it reports of tunnels, by the clock of the bus
    outdated_until: datetime | None = None  # what it reported before is outdated (`domain/lateness.py`); None: nothing
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
    behind_nat: bool | None = None  # the same
    config_drifts: int = 0
    policy_sync_errors: int = 0
    dpd_failures: int = 0
    applied_epoch: int = 0
    applied_revision: int = 0  # the newest that was applied completely
    received_epoch: int = 0
    received_revision: int = 0  # the newest that it has reported, applied or not
    drivers: tuple[DriverStatus, ...] = ()

    def online(self, now: datetime) -> bool:
        """Whether a message arrived within OFFLINE_AFTER and the peer is not stopped, by the bus's clock only."""
        return not self.stopped and now - self.last_seen_at < timedelta(seconds=OFFLINE_AFTER)

    def is_outdated(self, reported_at: datetime) -> bool:
        """Whether what it reported at that time does not show how it is now, although it is online again."""
        return self.outdated_until is not None and reported_at < self.outdated_until
