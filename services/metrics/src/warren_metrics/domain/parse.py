"""Parse untrusted telemetry, and enforce limits that a regular agent never reaches.

A compromised agent may send anything on its own subjects. It must not be able to report about another peer, to fill memory, or to
block the batch of its message.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from pydantic import ValidationError

from warren_contracts import telemetry
from warren_contracts.base import Document, read
from warren_contracts.status import TrafficStats, TunnelStatus
from warren_contracts.subjects import parse_telemetry
from warren_contracts.telemetry import Applied, AttemptFailure, Presence, Report, TunnelChange
from warren_metrics.errors import TelemetryRejectedError

MAX_PAYLOAD = telemetry.MAX_TELEMETRY  # bytes: the limit of the stream
MAX_TUNNELS = 2_000  # in one message: a report of more comes in parts
MAX_SAS = 64  # of one tunnel: rekeying overlaps two or three
MAX_VIPS = 16  # virtual addresses of one end
MAX_PARTS = 128  # of one report: 100 kB each
MAX_SELECTORS = 256  # of one SA, on either side: agents have 64
MAX_TEXT = 256  # characters of a cipher or an address (a host name has 253)
MAX_COUNTER = 2**63 - 1  # of bytes, packets and other counters: a float in Prometheus

Body = Presence | Report | TunnelChange | Applied | AttemptFailure

_MODELS: dict[str, type[Document]] = {
    telemetry.PRESENCE: Presence,
    telemetry.REPORT: Report,
    telemetry.TUNNEL: TunnelChange,
    telemetry.APPLIED: Applied,
    telemetry.REASON: AttemptFailure,
}


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
    """A parsed message: its sender, its body, and when it was stored."""

    peer: str
    place: MessageSource
    body: Body


def parse(subject: str, payload: bytes, place: MessageSource) -> Observation:
    """Parse a message; raises TelemetryRejectedError with the reason by which it is counted."""
    try:
        sender = parse_telemetry(subject)
    except ValueError as error:
        raise TelemetryRejectedError("subject", str(error)) from None
    model = _MODELS.get(sender.kind)
    if model is None:
        raise TelemetryRejectedError("kind", sender.kind)
    if len(payload) > MAX_PAYLOAD:
        raise TelemetryRejectedError("too-large", f"{len(payload)} bytes")
    try:
        body = read(model, payload)
    except ValidationError as error:
        raise TelemetryRejectedError("malformed", f"{error.error_count()} errors") from None
    assert isinstance(body, Body)
    _check_bounds(body)
    return Observation(sender.peer, place, body)


def may_report(peer: str, tunnel: str, ends: Mapping[str, frozenset[str]]) -> bool:
    """Whether `peer` can be an end of `tunnel`: a derived name contains its two ends, and `ends` has those of explicit tunnels.

    A name that no policy has yet is nobody's: it may be reported a moment before its policy is known here.
    """
    if "+" in tunnel:
        return peer in tunnel.split("+")
    return tunnel not in ends or peer in ends[tunnel]


def _check_bounds(body: Body) -> None:
    if body.at.tzinfo is None:
        raise TelemetryRejectedError("out-of-bounds", "a time without a time zone")
    numbers: list[float] = []
    match body:
        case Report():
            if len(body.tunnels) > MAX_TUNNELS or body.parts > MAX_PARTS or body.part >= body.parts:
                raise TelemetryRejectedError("out-of-bounds", "too many tunnels or parts")
            numbers = [body.policy_sync_errors, body.dpd_failures]
            for status in body.tunnels:
                numbers += _numbers(status)
        case TunnelChange():
            numbers = _numbers(body.status)
        case Presence():
            if body.started_at.tzinfo is None:
                raise TelemetryRejectedError("out-of-bounds", "a time without a time zone")
            numbers = [body.resident_bytes, body.cpu_seconds, body.queued, body.queued_bytes, body.dropped]
            if body.host is not None:
                numbers.append(body.host.intent_unconfirmed_s or 0.0)
        case Applied():
            if body.delivered_at.tzinfo is None:
                raise TelemetryRejectedError("out-of-bounds", "a time without a time zone")
            numbers = [body.epoch, body.revision, body.unchanged, body.duration_ms]
        case AttemptFailure():
            pass
    _check_numbers(numbers)


def _numbers(status: TunnelStatus) -> list[float]:
    link = status.link
    if len(link.children) > MAX_SAS:
        raise TelemetryRejectedError("out-of-bounds", "too many SAs")
    if max(len(link.local_vips), len(link.remote_vips)) > MAX_VIPS:
        raise TelemetryRejectedError("out-of-bounds", "too many virtual addresses")
    if status.evidence.at is not None and status.evidence.at.tzinfo is None:
        raise TelemetryRejectedError("out-of-bounds", "a time without a time zone")
    texts = [link.ike_cipher, link.local_address, link.remote_address]
    for sa in link.children:
        texts += (sa.cipher, sa.key_exchange)
        if max(len(sa.local_ts), len(sa.remote_ts)) > MAX_SELECTORS:
            raise TelemetryRejectedError("out-of-bounds", "too many selectors")
    if max(map(len, texts)) > MAX_TEXT:
        raise TelemetryRejectedError("out-of-bounds", "a text that is too long")
    found: list[float] = [status.rekeys, status.restarts, *_traffic(status.traffic)]
    for sa in link.children:
        found += [*_traffic(sa.traffic), sa.rekey_in or 0, sa.expires_in or 0]
    return found


def _traffic(traffic: TrafficStats) -> tuple[int, int, int, int]:
    return traffic.bytes_in, traffic.bytes_out, traffic.packets_in, traffic.packets_out


def _check_numbers(numbers: Iterable[float]) -> None:
    if not all(abs(number) <= MAX_COUNTER for number in numbers):  # also false for NaN
        raise TelemetryRejectedError("out-of-bounds", "a number beyond 63 bits")
