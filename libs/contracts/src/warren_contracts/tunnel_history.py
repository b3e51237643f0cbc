"""The history of tunnels and peers: what happened to one tunnel, and the fleet at an instant."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, StringConstraints

from warren_contracts.base import STRICT_INT, Document, Input
from warren_contracts.commands import MAX_ENDS
from warren_contracts.names import PeerId, PolicyId, TunnelName
from warren_contracts.peers import PresenceState
from warren_contracts.status import FleetTunnel, ReasonCode, TunnelState

CURSOR_PATTERN = r"^[0-9]{1,18}-[0-9]{1,18}$"
Cursor = Annotated[str, StringConstraints(pattern=CURSOR_PATTERN)]  # microseconds since 1970, sequence in EVENT
MAX_OFFLINE = 1_000  # gateways that a reply names


class TunnelHistoryQuery(Input):
    """What happened to one tunnel, the newest first: a page of entries before `before`, or up to `until`."""

    name: TunnelName
    before: Cursor | None = None
    until: AwareDatetime | None = None
    limit: Annotated[int, Field(ge=1, le=500), STRICT_INT] = 100


class StateEntry(Document):
    """One end reported another state or reason. `previous` None: the first report of this end within the history."""

    kind: Literal["state"] = "state"
    at: datetime
    peer: PeerId
    state: TunnelState
    previous: TunnelState | None = None
    reason: ReasonCode = ReasonCode.NONE
    detail: str = ""
    policy: PolicyId | None = None
    removed: bool = False


class PresenceEntry(Document):
    """An end came online or went offline."""

    kind: Literal["presence"] = "presence"
    at: datetime
    peer: PeerId
    presence: PresenceState
    reason: str = ""


class AppliedEntry(Document):
    """An end applied a revision of the policies, or failed to."""

    kind: Literal["applied"] = "applied"
    at: datetime
    peer: PeerId
    epoch: int
    revision: int
    ok: bool
    duration_ms: float
    error: str = ""


HistoryEntry = Annotated[StateEntry | PresenceEntry | AppliedEntry, Field(discriminator="kind")]


class HistoryStrip(Document):
    """The states of a tunnel over a time, in buckets of equal length: the seconds that it was in each state.

    Where nothing is known (before the first report, or before the history begins), a bucket has no seconds.
    """

    start: datetime
    bucket_seconds: int
    buckets: tuple[dict[TunnelState, float], ...]
    up_ratio: float | None = None  # of the seconds that are known; None: none are


def up_ratio(buckets: Iterable[Mapping[TunnelState, float]]) -> float | None:
    """The part of the known seconds in which a tunnel was up or stood by; None: none are known. `unknown`: its ends were silent."""
    known = up = 0.0
    for bucket in buckets:
        known += sum(bucket.values()) - bucket.get(TunnelState.UNKNOWN, 0.0)
        up += bucket.get(TunnelState.UP, 0.0) + bucket.get(TunnelState.STANDBY, 0.0)
    return round(up / known, 6) if known else None


class TunnelHistory(Document):
    """A page of entries, and the strips of the last 24 hours and 7 days on the first page."""

    name: TunnelName
    entries: tuple[HistoryEntry, ...]
    next_before: Cursor | None = None
    begins: datetime  # what is older has been removed
    last_24h: HistoryStrip | None = None
    last_7d: HistoryStrip | None = None


class TunnelCountersQuery(Input):
    """The traffic of one tunnel in the last hour."""

    name: TunnelName


class EndCounters(Document):
    """The bytes that one end counted in each minute; None: it sent no report in that minute."""

    bytes_in: tuple[int | None, ...]
    bytes_out: tuple[int | None, ...]


class TunnelCounters(Document):
    """The traffic of a tunnel in steps from `start` on; the last step is not over. Ends that are not recorded are left out."""

    name: TunnelName
    start: datetime
    step_seconds: int
    ends: dict[PeerId, EndCounters] = Field(default_factory=dict)


class FleetAtQuery(Input):
    """The tunnels as they were observed at an instant, in order of names.

    `ends`: only tunnels with at least one of these ends; all numbers and peers of the reply are of them only, too.
    """

    at: AwareDatetime
    after: Annotated[str, StringConstraints(max_length=127)] = ""
    limit: Annotated[int, Field(ge=1, le=500), STRICT_INT] = 200
    ends: Annotated[tuple[PeerId, ...], Field(max_length=MAX_ENDS)] | None = None


class PeerAt(Document):
    """A peer at an instant: its presence, since when, and the newest revision that it had applied."""

    peer: PeerId
    presence: PresenceState
    since: datetime | None = None
    reason: str = ""
    applied_epoch: int = 0
    applied_revision: int = 0


class FleetObserved(Document):
    """What was observed at an instant. Numbers are of the whole fleet; `peers` are those of this page's tunnels."""

    at: datetime
    begins: datetime
    states: dict[TunnelState, int] = Field(default_factory=dict)
    gateways: dict[PresenceState, int] = Field(default_factory=dict)
    offline: tuple[PeerId, ...] = Field(default=(), max_length=MAX_OFFLINE)
    peers: tuple[PeerAt, ...] = ()
    tunnels: tuple[FleetTunnel, ...] = ()
    next_after: str | None = None


class PoliciesAtQuery(Input):
    """The policies as they were stored at an instant."""

    at: AwareDatetime


class PolicyAt(Document):
    """A policy that was stored; `revision` is the one that stored this version."""

    id: PolicyId
    version: int
    revision: int
    enabled: bool


class PoliciesDesired(Document):
    """The newest revision at an instant (0: none), when and by whom it was stored, and the policies of it."""

    at: datetime
    epoch: int = 0
    revision: int = 0
    stored_at: datetime | None = None
    actor: str = ""
    policies: tuple[PolicyAt, ...] = ()


class FleetAt(Document):
    """What was desired and what was observed at an instant."""

    at: datetime
    desired: PoliciesDesired
    observed: FleetObserved
