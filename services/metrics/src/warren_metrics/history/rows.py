"""The rows of the history, and which of them an event gives.

A row is placed by the time at which the bus stored its cause, and identified by the event's id, which a repeat has too: so late,
repeated and reordered events give the same rows as those in order. `sequence`, of EVENT, only orders rows of the same moment.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from pydantic import ValidationError

from warren_contracts.base import Document
from warren_contracts.bus_queries import EventRecord
from warren_contracts.events import PeerRevoked, PolicyApplied, PresenceChanged, TunnelChanged
from warren_contracts.peers import PresenceState
from warren_contracts.status import ReasonCode, TunnelState, TunnelStatus

MAX_TEXT = 512  # characters of a reason or an error


@dataclass(frozen=True, slots=True)
class RowPlace:
    """When the cause was stored, the event's sequence in EVENT, and its id."""

    at: datetime
    sequence: int
    event_id: UUID


@dataclass(frozen=True, slots=True)
class TunnelRow:
    """One end reported this state of a tunnel."""

    place: RowPlace
    peer: str
    tunnel: str
    state: TunnelState
    reason: ReasonCode
    detail: str
    policy: str | None
    other: str | None  # the peer at the other end
    initiator: bool
    removed: bool

    @property
    def shown(self) -> tuple[TunnelState, ReasonCode, bool]:
        """What makes two rows of one end different for a reader."""
        return self.state, self.reason, self.removed

    def status(self) -> TunnelStatus:
        """The status as far as the history holds it: without SAs and counters."""
        return TunnelStatus(
            name=self.tunnel, policy=self.policy, peer=self.other, state=self.state, initiator=self.initiator,
            reason=self.reason, detail=self.detail, since=self.place.at,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class PeerRow:
    """A peer came online or went offline; `revoked`: for good."""

    place: RowPlace
    peer: str
    presence: PresenceState
    reason: str
    revoked: bool = False


@dataclass(frozen=True, slots=True)
class AppliedRow:
    """A peer applied a revision, or failed to."""

    place: RowPlace
    peer: str
    epoch: int
    revision: int
    ok: bool
    duration_ms: float
    error: str


@dataclass(slots=True)
class HistoryRows:
    """The rows of a page of events."""

    tunnels: list[TunnelRow] = field(default_factory=list)
    peers: list[PeerRow] = field(default_factory=list)
    applied: list[AppliedRow] = field(default_factory=list)
    invalid: int = 0  # events that cannot be read

    def __bool__(self) -> bool:
        return bool(self.tunnels or self.peers or self.applied)


_MODELS: Mapping[str, type[Document]] = {
    model.TYPE: model for model in (TunnelChanged, PresenceChanged, PeerRevoked, PolicyApplied)
}


def rows_of(events: Iterable[EventRecord]) -> HistoryRows:
    """The rows that these events give; events of other types and changes of SAs only give none."""
    rows = HistoryRows()
    for record in events:
        model = _MODELS.get(str(record.event.get("type")))
        if model is None:
            continue
        try:
            body = model.model_validate(record.event.get("data"))
        except ValidationError:
            rows.invalid += 1
            continue
        _add(rows, body, record)
    return rows


def _add(rows: HistoryRows, body: Document, record: EventRecord) -> None:
    match body:
        case TunnelChanged() if body.at.tzinfo is not None and not _is_of_sas(body):
            rows.tunnels.append(_tunnel_row(body, _place(body.at, record)))
        case PresenceChanged() if body.at.tzinfo is not None:
            rows.peers.append(PeerRow(_place(body.at, record), body.peer, body.state, body.reason[:MAX_TEXT]))
        case PeerRevoked() if body.at.tzinfo is not None:
            rows.peers.append(
                PeerRow(_place(body.at, record), body.peer, PresenceState.OFFLINE, "revoked", revoked=True)
            )
        case PolicyApplied() if body.at.tzinfo is not None:
            rows.applied.append(
                AppliedRow(
                    _place(body.at, record), body.peer, body.epoch, body.revision, body.ok, body.duration_ms,
                    body.error[:MAX_TEXT],
                )
            )  # fmt: skip


def _is_of_sas(event: TunnelChanged) -> bool:
    """Whether only the SAs changed: a rekeying is not a transition."""
    same = event.previous is event.state and event.previous_reason is event.status.reason
    return same and not event.removed


def _tunnel_row(event: TunnelChanged, place: RowPlace) -> TunnelRow:
    status = event.status
    return TunnelRow(
        place, event.peer, event.tunnel, event.state, status.reason, status.detail, status.policy, status.peer,
        status.initiator, event.removed,
    )  # fmt: skip


def _place(at: datetime, record: EventRecord) -> RowPlace:
    text: Any = record.event.get("id", "")
    try:
        event_id = UUID(str(text))
    except ValueError:
        event_id = uuid5(NAMESPACE_URL, str(text))
    return RowPlace(at, record.sequence, event_id)
