"""Check that a stream republished a live message, and detect gaps before it.

A stream that republishes adds `Nats-Stream`, `Nats-Subject`, `Nats-Sequence` and `Nats-Last-Sequence` (the sequence of the
message before it on the same subject). A reply that was directed to a live subject by its reply subject lacks the last one; the
server lets none through (docs/bus.md, c10), and this is the second check. Sequences reveal gaps in one incarnation of a stream; they
order nothing, and a reconnect clears them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from warren_contracts.subjects import DIRECTORY_STREAM, LIVE_OF_CLIENTS, POLICY_STREAM, SECRET_STREAM
from warren_trust.errors import NotRepublishedError, WrongSubjectError

HEADER_STREAM = "Nats-Stream"
HEADER_SUBJECT = "Nats-Subject"
HEADER_SEQUENCE = "Nats-Sequence"
HEADER_LAST_SEQUENCE = "Nats-Last-Sequence"

_STREAM_OF = {
    "policy": POLICY_STREAM,
    "directory": DIRECTORY_STREAM,
    "digest": DIRECTORY_STREAM,
    "secret": SECRET_STREAM,
}


@dataclass(frozen=True, slots=True)
class LivePosition:
    """The position of a live message in its stream."""

    subject: str  # as stored
    kind: str  # policy, directory, digest, secret
    sequence: int
    previous: int  # of the same subject; 0: it is the first


class Order(Enum):
    """How a message follows those received before on its subject."""

    FIRST = auto()  # nothing received since the connect
    NEXT = auto()
    GAP = auto()  # at least one message is missing
    SEEN = auto()  # not newer than what a Direct Get brought


def parse_live(live_subject: str, headers: Mapping[str, str] | None) -> LivePosition:
    """The position of a message on a live subject; raises NotRepublishedError or WrongSubjectError. Costs no signature."""
    if headers is None or not live_subject.startswith(LIVE_OF_CLIENTS):
        raise NotRepublishedError
    subject = live_subject[len(LIVE_OF_CLIENTS) :]
    try:
        kind = subject.split(".", 3)[2]
        if headers[HEADER_STREAM] != _STREAM_OF[kind]:
            raise NotRepublishedError(f"{live_subject} does not come from its stream")
        if headers[HEADER_SUBJECT] != subject:
            raise WrongSubjectError(f"{live_subject} carries a message of another subject")
        return LivePosition(subject, kind, _number(headers[HEADER_SEQUENCE]), _number(headers[HEADER_LAST_SEQUENCE]))
    except (LookupError, ValueError):
        raise NotRepublishedError(f"{live_subject} lacks the headers that its stream adds") from None


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 20):
        raise ValueError
    return int(text)


class SequenceLog:
    """The last sequence of each subject since the last connect."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}

    def note(self, position: LivePosition) -> Order:
        """Record a live message; returns how it follows the last one."""
        last = self._last.get(position.subject)
        if last is not None and position.sequence <= last:
            return Order.SEEN
        self._last[position.subject] = position.sequence
        if last is None:
            return Order.FIRST
        return Order.NEXT if position.previous == last else Order.GAP

    def stored(self, subject: str, sequence: int) -> None:
        """Record the sequence of a stored message that a Direct Get returned."""
        self._last[subject] = max(sequence, self._last.get(subject, 0))

    def forget(self) -> None:
        self._last.clear()
