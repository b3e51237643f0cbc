"""Parse telemetry: untrusted bytes in, a typed observation out, or the reason of the refusal; with the limits of `bounds.py`.

A compromised agent may send anything on its own subjects. It must not be able to report about another peer, to fill memory, or to
block the batch of its message.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from pydantic import ValidationError

from warren_contracts import telemetry
from warren_contracts.base import Document, amended, read
from warren_contracts.subjects import parse_telemetry
from warren_contracts.telemetry import Applied, AttemptFailure, Presence, Report, TunnelChange
from warren_metrics.domain import bounds
from warren_metrics.errors import TelemetryRejectedError

MAX_PAYLOAD = telemetry.MAX_TELEMETRY  # bytes: the limit of the stream

Body = Presence | Report | TunnelChange | Applied | AttemptFailure

_MODELS: dict[str, type[Document]] = {
    telemetry.PRESENCE: bounds.BoundedPresence,
    telemetry.TUNNEL: bounds.BoundedChange,
    telemetry.APPLIED: bounds.BoundedApplied,
    telemetry.REASON: bounds.BoundedFailure,
}
# Kinds of pydantic's errors that are a limit exceeded.
_BOUNDS = frozenset({
    "less_than", "less_than_equal", "greater_than_equal", "too_long", "string_too_long", "timezone_aware", "finite_number",
    "int_parsing_size",
})  # fmt: skip

# A report as agents write it. Between two quotes of a text these bytes cannot be: there a quote has a backslash before it.
_BEFORE, _AFTER = b'"tunnels":[', b"}]"
_BETWEEN = b'},{"name":'


@dataclass(frozen=True, slots=True)
class MessageSource:
    """The position of a message in its stream: its sequence, and when the server stored it."""

    sequence: int
    at: datetime

    def follows(self, other: "MessageSource | None") -> bool:
        """Whether this message is newer than `other`, and not a redelivery.

        A lower sequence with a later time is a stream that was re-created; a higher one with an earlier time is a clock that
        was set back. Only what is earlier by both is old.
        """
        return other is None or self.sequence > other.sequence or self.at > other.at


@dataclass(frozen=True, slots=True)
class Observation:
    """A parsed message: its sender, its body, and when it was stored.

    `encoded` has the JSON of each tunnel of a report, in order, as it was received; empty if it is not known.
    """

    peer: str
    place: MessageSource
    body: Body
    encoded: tuple[bytes, ...] = ()


def parse(subject: str, payload: bytes, place: MessageSource) -> Observation:
    """Parse a message; raises TelemetryRejectedError with the reason by which it is counted."""
    try:
        sender = parse_telemetry(subject)
    except ValueError as error:
        raise TelemetryRejectedError("subject", str(error)) from None
    if sender.kind not in telemetry.KINDS:
        raise TelemetryRejectedError("kind", sender.kind)
    if len(payload) > MAX_PAYLOAD:
        raise TelemetryRejectedError("too-large", f"{len(payload)} bytes")
    try:
        if sender.kind == telemetry.REPORT:
            report, encoded = _read_report(payload)
            if report.part >= report.parts:
                raise TelemetryRejectedError("out-of-bounds", "a part beyond the parts")
            return Observation(sender.peer, place, report, encoded)
        body = read(_MODELS[sender.kind], payload)
    except ValidationError as error:
        kinds = {found["type"] for found in error.errors(include_url=False, include_context=False, include_input=False)}
        reason = "out-of-bounds" if kinds <= _BOUNDS else "malformed"
        raise TelemetryRejectedError(reason, f"{error.error_count()} errors") from None
    assert isinstance(body, Body)
    return Observation(sender.peer, place, body)


def may_report(peer: str, tunnel: str, ends: Mapping[str, frozenset[str]]) -> bool:
    """Whether `peer` can be an end of `tunnel`: a derived name contains its two ends, and `ends` has those of explicit tunnels.

    A name that no policy has yet is nobody's: it may be reported a moment before its policy is known here.
    """
    if "+" in tunnel:
        return peer in tunnel.split("+")
    return tunnel not in ends or peer in ends[tunnel]


def _read_report(payload: bytes) -> tuple[Report, tuple[bytes, ...]]:
    """A report, and the JSON of its tunnels. Raises ValidationError.

    A fleet's reports are most of what this service does, and to write the JSON of each tunnel again took as long as to read it. So a
    report that looks as agents write it is taken apart, and each tunnel is read by itself: what is kept of it is exactly what was
    validated. Whatever looks otherwise, or is invalid so, is read as a whole.
    """
    envelope, encoded = _take_apart(payload)
    if encoded and len(encoded) <= bounds.MAX_TUNNELS:
        try:
            report = read(bounds.BoundedReport, envelope)
            tunnels = tuple([read(bounds.BoundedTunnel, it) for it in encoded])
        except ValidationError:
            pass
        else:
            if not report.tunnels:  # else the text has several of these lists
                return amended(report, tunnels=tunnels), encoded
    return read(bounds.BoundedReport, payload), ()


def _take_apart(payload: bytes) -> tuple[bytes, tuple[bytes, ...]]:
    """A report without its tunnels, and the JSON of each of them; empty if the report does not look as agents write it."""
    before, begin, rest = payload.partition(_BEFORE)
    inside, end, after = rest.rpartition(_AFTER)
    # The list is of the report itself, not of a part of it. And what is kept must be text: of ASCII nothing has to be proved.
    if not end or before.count(b"{") != 1 or not payload.isascii():
        return b"", ()
    parts = inside.split(_BETWEEN)
    begun = [parts[0], *[_BETWEEN[2:] + part for part in parts[1:]]]
    return before + begin + b"]" + after, tuple([part + b"}" for part in begun])
