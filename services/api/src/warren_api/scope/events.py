"""What of an event is shown to a reader of a scope. Pure."""

from collections.abc import Mapping
from dataclasses import replace

from pydantic import ValidationError

from warren_api.ports import StoredEvent
from warren_api.scope.view import ScopeView
from warren_contracts.base import Document, amended, read
from warren_contracts.cloudevents import HEADER_TRACEPARENT
from warren_contracts.events import (
    EVENTS,
    KeySharedByConnections,
    PeerAnnounced,
    PeerEnrolled,
    PeerPriorityChanged,
    PeerRetagged,
    PeerRevoked,
    PolicyApplied,
    PresenceChanged,
    ReportingChanged,
    TunnelChanged,
)

_MODELS: Mapping[str, type[Document]] = {model.TYPE: model for model in EVENTS}
_OF_PEER = (
    PeerEnrolled, PeerAnnounced, PeerRevoked, PeerRetagged, PeerPriorityChanged, KeySharedByConnections, PresenceChanged, PolicyApplied,
    ReportingChanged,
)  # fmt: skip
MOVES = frozenset({PeerEnrolled.TYPE, PeerRetagged.TYPE, PeerRevoked.TYPE})
"""The types of events with which a peer may enter a scope or leave it."""


def shown_event(event: StoredEvent, view: ScopeView) -> StoredEvent | None:
    """An event as it is shown to a reader of a scope; None: it does not concern it, or nothing says that it does.

    Events of policies and of the epoch concern the fleet. A trace, too: it runs through other peers.
    """
    model = _MODELS.get(event.headers.get("ce-type", ""))
    if model is None:
        return None
    try:
        body = read(model, event.data)
    except ValidationError:
        return None
    data = _shown(body, view, event.data)
    if data is None:
        return None
    headers = {name: value for name, value in event.headers.items() if name.lower() != HEADER_TRACEPARENT}
    return replace(event, headers=headers, data=data)


def _shown(body: Document, view: ScopeView, data: bytes) -> bytes | None:
    if isinstance(body, _OF_PEER):
        return data if view.has_event((body.peer,), body.at) else None
    if isinstance(body, TunnelChanged):
        named = () if body.status.peer is None else (body.status.peer,)
        if not view.has_event((body.peer, *named, *ends_of(body.tunnel)), body.at):
            return None
        if view.has_peer(body.peer) or not body.status.detail:
            return data
        return amended(body, status=amended(body.status, detail="")).model_dump_json().encode()
    return None


def ends_of(tunnel: str) -> tuple[str, ...]:
    """The ends in the name of a derived tunnel (`warren_contracts.names.tunnel_name`); none in that of another."""
    return tuple(tunnel.split("+")) if "+" in tunnel else ()
