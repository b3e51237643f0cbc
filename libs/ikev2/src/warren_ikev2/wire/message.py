"""Messages: a header and a chain of payloads, the last of which may be encrypted (RFC 7296, 3.2 and 3.14; RFC 7383)."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from warren_ikev2.constants import FIRST_STATUS_NOTIFY, IKE_VERSION, PayloadType
from warren_ikev2.errors import MalformedMessageError, UnsupportedCriticalPayloadError, UnsupportedVersionError
from warren_ikev2.wire.header import HEADER_SIZE, Header, build_header, parse_header
from warren_ikev2.wire.payloads import NotifyPayload, Payload, build_payload, parse_payload
from warren_ikev2.wire.reader import ByteReader

MAX_PAYLOADS = 256  # of one message; charon sends about 20
_CRITICAL = 0x80
_ENCRYPTED = (PayloadType.SK, PayloadType.SKF)
_KNOWN = frozenset(PayloadType)
P = TypeVar("P")


@dataclass(frozen=True, slots=True)
class EncryptedPart:
    """An SK or SKF payload, not decrypted yet."""

    type: PayloadType
    next_payload: int
    """Type of the first payload inside; 0 in fragments after the first (RFC 7383, 2.5)."""
    aad: bytes
    """Everything before `body`: header, earlier payloads, generic header and fragment fields (RFC 5282, 5.1)."""
    body: bytes
    """IV, ciphertext, checksum."""
    number: int = 1
    total: int = 1


@dataclass(frozen=True, slots=True)
class Payloads:
    """The payloads of a message, in order."""

    items: tuple[Payload, ...] = ()

    def __iter__(self) -> Iterator[Payload]:
        return iter(self.items)

    def all(self, kind: type[P]) -> list[P]:
        """All payloads of a class."""
        return [payload for payload in self.items if isinstance(payload, kind)]

    def first(self, kind: type[P], payload_type: PayloadType | None = None) -> P | None:
        """The only payload of a class (and type), None if absent; MalformedMessageError if there are two."""
        found = [p for p in self.all(kind) if payload_type is None or getattr(p, "type", None) == payload_type]
        if len(found) > 1:
            raise MalformedMessageError(f"{len(found)} payloads {kind.__name__}")
        return found[0] if found else None

    def require(self, kind: type[P], payload_type: PayloadType | None = None) -> P:
        """As first; MalformedMessageError if absent."""
        found = self.first(kind, payload_type)
        if found is None:
            raise MalformedMessageError(f"no {kind.__name__}")
        return found

    def notify(self, kind: int) -> NotifyPayload | None:
        """The first notify of a type."""
        return next((p for p in self.all(NotifyPayload) if p.notify == kind), None)

    def errors(self) -> list[NotifyPayload]:
        """The notifies that refuse something (3.10.1)."""
        return [p for p in self.all(NotifyPayload) if p.notify < FIRST_STATUS_NOTIFY]

    def notifies(self, kind: int) -> list[NotifyPayload]:
        """All notifies of a type."""
        return [p for p in self.all(NotifyPayload) if p.notify == kind]


@dataclass(frozen=True, slots=True)
class Message:
    """A parsed message."""

    header: Header
    payloads: Payloads
    encrypted: EncryptedPart | None = None


def parse_message(data: bytes) -> Message:
    """Header and payloads; the encrypted payload is not decrypted.

    MalformedMessageError: any inconsistency. UnsupportedVersionError: another major version.
    UnsupportedCriticalPayloadError: RFC 7296, 2.5.
    """
    header = parse_header(data)
    if header.version & 0xF0 != IKE_VERSION & 0xF0:
        raise UnsupportedVersionError(f"major version {header.version >> 4}")
    items: list[Payload] = []
    reader = ByteReader(data)
    reader.take(HEADER_SIZE)
    kind = header.next_payload
    while kind:
        following, body_size = _parse_generic_header(kind, reader)
        if kind in _ENCRYPTED:
            encrypted = _parse_encrypted(PayloadType(kind), following, data, reader, body_size)
            return Message(header, Payloads(tuple(items)), encrypted)
        items.append(_parse_bounded(kind, reader.take(body_size), len(items)))
        kind = following
    reader.finish()
    return Message(header, Payloads(tuple(items)))


def parse_chain(first: int, data: bytes) -> Payloads:
    """The payloads inside an opened SK payload; errors as parse_message."""
    reader = ByteReader(data)
    items: list[Payload] = []
    kind = first
    while kind:
        following, body_size = _parse_generic_header(kind, reader)
        if kind in _ENCRYPTED:
            raise MalformedMessageError("an encrypted payload inside an encrypted payload")
        items.append(_parse_bounded(kind, reader.take(body_size), len(items)))
        kind = following
    reader.finish()
    return Payloads(tuple(items))


def build_chain(payloads: Iterable[Payload]) -> tuple[int, bytes]:
    """The first payload's type (0: none) and the chained payloads."""
    items = list(payloads)
    parts = []
    for index, payload in enumerate(items):
        following = int(items[index + 1].type) if index + 1 < len(items) else 0
        body = build_payload(payload)
        parts.append(build_generic_header(following, len(body)) + body)
    return (int(items[0].type) if items else 0), b"".join(parts)


def build_message(header: Header, payloads: Iterable[Payload]) -> bytes:
    """A message without encryption."""
    first, body = build_chain(payloads)
    return build_header(header, first, HEADER_SIZE + len(body)) + body


def build_generic_header(following: int, body_size: int) -> bytes:
    """RFC 7296, 3.2; our payloads are never marked critical."""
    if body_size + 4 > 0xFFFF:
        raise ValueError("a payload is too long")
    return bytes([following, 0]) + (body_size + 4).to_bytes(2, "big")


def _parse_generic_header(kind: int, reader: ByteReader) -> tuple[int, int]:
    following, critical, length = reader.number(1), reader.number(1), reader.number(2)
    if length < 4 or length - 4 > reader.remaining:
        raise MalformedMessageError(f"a payload claims {length} bytes")
    if critical & _CRITICAL and kind not in _KNOWN:
        raise UnsupportedCriticalPayloadError(kind)
    return following, length - 4


def _parse_bounded(kind: int, body: bytes, count: int) -> Payload:
    if count >= MAX_PAYLOADS:
        raise MalformedMessageError("too many payloads")
    return parse_payload(kind, body)


def _parse_encrypted(kind: PayloadType, following: int, data: bytes, reader: ByteReader, size: int) -> EncryptedPart:
    if size != reader.remaining:
        raise MalformedMessageError("the encrypted payload is not the last")
    if kind == PayloadType.SK:
        return EncryptedPart(kind, following, data[: reader.offset], reader.rest())
    number, total = reader.number(2), reader.number(2)
    if not 1 <= number <= total:
        raise MalformedMessageError(f"fragment {number} of {total}")
    return EncryptedPart(kind, following, data[: reader.offset], reader.rest(), number, total)
