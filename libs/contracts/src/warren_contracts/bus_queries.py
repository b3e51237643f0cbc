"""What operators and other systems read on the bus: the keys, signed policy sets, and stored events.

What streams republish is imported into their account (`subjects.live`); these calls give the state to start from, and what was
missed.
"""

from typing import Annotated, Any

from pydantic import Field, StringConstraints

from warren_contracts.base import STRICT_INT, Document, Input, Position
from warren_contracts.documents import SignedDocument
from warren_contracts.names import NAME_PATTERN, PublicKey
from warren_contracts.subjects import Audience

MAX_EVENTS = 100  # of a page


class FleetTrust(Document):
    """The public key of the trust root, to compare with the one that was pinned, and the trust document that it signed."""

    root: PublicKey
    trust: SignedDocument


class GetPublishedSet(Input):
    """The newest policy set of a reader, signed as it was published on `warren.v1.policy.<reader>`."""

    reader: Audience


class ReadEvents(Input):
    """Stored events after a sequence (exclusive), in order; without `after` none, but the position of the newest one.

    `kind` is the second token of an event's subject (`tunnel` of `warren.v1.event.metrics.tunnel.hub`); empty: every kind.
    """

    after: Position | None = None
    kind: Annotated[str, StringConstraints(pattern=f"{NAME_PATTERN}|^$")] = ""
    limit: Annotated[int, Field(ge=1, le=MAX_EVENTS), STRICT_INT] = MAX_EVENTS


class EventRecord(Document):
    """One event: its sequence in the stream, and the event in the structured JSON format of CloudEvents 1.0."""

    sequence: int
    event: dict[str, Any]


class EventPage(Document):
    """Events in order. `next_after` is the `after` of the next call; `more`: there are events to read at once.

    `missed`: events between `after` and the first one of this page have expired (30 days, 1 GiB), or the stream was created again because
    it was lost: read the state again.
    """

    events: tuple[EventRecord, ...]
    next_after: int
    more: bool = False
    missed: bool = False
