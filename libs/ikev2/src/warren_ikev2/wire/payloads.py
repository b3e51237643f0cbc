"""The payloads as values (RFC 7296, 3.3 to 3.16) and their codecs, one table for all."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from warren_ikev2.constants import PayloadType
from warren_ikev2.errors import MalformedMessageError
from warren_ikev2.selectors import Selectors
from warren_ikev2.suites import Proposal
from warren_ikev2.wire.reader import ByteReader
from warren_ikev2.wire.sa import build_proposals, parse_proposals
from warren_ikev2.wire.ts import build_selectors, parse_selectors

MIN_NONCE = 16  # RFC 7296, 3.9
MAX_NONCE = 256


@dataclass(frozen=True, slots=True)
class SaPayload:
    """Proposals (3.3)."""

    type: ClassVar[PayloadType] = PayloadType.SA
    proposals: tuple[Proposal, ...]


@dataclass(frozen=True, slots=True)
class KePayload:
    """A public key (3.4)."""

    type: ClassVar[PayloadType] = PayloadType.KE
    group: int
    data: bytes


@dataclass(frozen=True, slots=True)
class IdPayload:
    """An identity (3.5)."""

    type: PayloadType
    """IDI or IDR."""
    id_type: int
    data: bytes

    @property
    def body(self) -> bytes:
        """What AUTH covers: the payload without its generic header (2.15)."""
        return bytes([self.id_type, 0, 0, 0]) + self.data


@dataclass(frozen=True, slots=True)
class CertPayload:
    """A certificate, CRL or raw key (3.6)."""

    type: ClassVar[PayloadType] = PayloadType.CERT
    encoding: int
    data: bytes


@dataclass(frozen=True, slots=True)
class CertReqPayload:
    """Authorities that the sender trusts (3.7)."""

    type: ClassVar[PayloadType] = PayloadType.CERTREQ
    encoding: int
    data: bytes


@dataclass(frozen=True, slots=True)
class AuthPayload:
    """The proof of identity (3.8)."""

    type: ClassVar[PayloadType] = PayloadType.AUTH
    method: int
    data: bytes


@dataclass(frozen=True, slots=True)
class NoncePayload:
    """A nonce (3.9)."""

    type: ClassVar[PayloadType] = PayloadType.NONCE
    data: bytes


@dataclass(frozen=True, slots=True)
class NotifyPayload:
    """An error or status (3.10)."""

    type: ClassVar[PayloadType] = PayloadType.NOTIFY
    notify: int
    data: bytes = b""
    protocol: int = 0
    spi: bytes = b""


@dataclass(frozen=True, slots=True)
class DeletePayload:
    """SAs that the sender has deleted (3.11)."""

    type: ClassVar[PayloadType] = PayloadType.DELETE
    protocol: int
    spis: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class VendorPayload:
    """A vendor id (3.12)."""

    type: ClassVar[PayloadType] = PayloadType.VENDOR
    data: bytes


@dataclass(frozen=True, slots=True)
class TsPayload:
    """Traffic selectors (3.13)."""

    type: PayloadType
    """TSI or TSR."""
    selectors: Selectors


@dataclass(frozen=True, slots=True)
class CpPayload:
    """Configuration (3.15)."""

    type: ClassVar[PayloadType] = PayloadType.CP
    cp_type: int
    attributes: tuple[tuple[int, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class EapPayload:
    """An EAP packet (3.16)."""

    type: ClassVar[PayloadType] = PayloadType.EAP
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class UnknownPayload:
    """A payload of an unknown type that is not critical (2.5)."""

    type: int
    data: bytes


Payload = (
    SaPayload
    | KePayload
    | IdPayload
    | CertPayload
    | CertReqPayload
    | AuthPayload
    | NoncePayload
    | NotifyPayload
    | DeletePayload
    | VendorPayload
    | TsPayload
    | CpPayload
    | EapPayload
    | UnknownPayload
)


def parse_payload(kind: int, data: bytes) -> Payload:
    """One payload from its body. MalformedMessageError: it does not parse."""
    parse = _PARSERS.get(kind)
    return UnknownPayload(kind, data) if parse is None else parse(data)


def build_payload(payload: Payload) -> bytes:
    """One payload's body."""
    return _BUILDERS[type(payload)](payload)


def _parse_ke(data: bytes) -> KePayload:
    reader = ByteReader(data)
    group = reader.number(2)
    reader.take(2)
    if not reader.remaining:
        raise MalformedMessageError("empty key exchange data")
    return KePayload(group, reader.rest())


def _build_ke(payload: KePayload) -> bytes:
    return payload.group.to_bytes(2, "big") + bytes(2) + payload.data


def _id_parser(kind: PayloadType) -> Callable[[bytes], IdPayload]:
    def parse(data: bytes) -> IdPayload:
        reader = ByteReader(data)
        id_type = reader.number(1)
        reader.take(3)
        return IdPayload(kind, id_type, reader.rest())

    return parse


def _parse_cert(data: bytes) -> CertPayload:
    reader = ByteReader(data)
    return CertPayload(reader.number(1), reader.rest())


def _parse_certreq(data: bytes) -> CertReqPayload:
    reader = ByteReader(data)
    return CertReqPayload(reader.number(1), reader.rest())


def _parse_auth(data: bytes) -> AuthPayload:
    reader = ByteReader(data)
    method = reader.number(1)
    reader.take(3)
    return AuthPayload(method, reader.rest())


def _parse_nonce(data: bytes) -> NoncePayload:
    if not MIN_NONCE <= len(data) <= MAX_NONCE:
        raise MalformedMessageError(f"a nonce of {len(data)} bytes")
    return NoncePayload(data)


def _parse_notify(data: bytes) -> NotifyPayload:
    reader = ByteReader(data)
    protocol, spi_size, notify = reader.number(1), reader.number(1), reader.number(2)
    spi = reader.take(spi_size)
    return NotifyPayload(notify, reader.rest(), protocol, spi)


def _build_notify(payload: NotifyPayload) -> bytes:
    head = bytes([payload.protocol, len(payload.spi)]) + payload.notify.to_bytes(2, "big")
    return head + payload.spi + payload.data


def _parse_delete(data: bytes) -> DeletePayload:
    reader = ByteReader(data)
    protocol, spi_size, count = reader.number(1), reader.number(1), reader.number(2)
    if spi_size * count != reader.remaining or (count and not spi_size):
        raise MalformedMessageError("a Delete payload's size disagrees with its number of SPIs")
    return DeletePayload(protocol, tuple(reader.take(spi_size) for _ in range(count)))


def _build_delete(payload: DeletePayload) -> bytes:
    size = len(payload.spis[0]) if payload.spis else 0
    return bytes([payload.protocol, size]) + len(payload.spis).to_bytes(2, "big") + b"".join(payload.spis)


def _ts_parser(kind: PayloadType) -> Callable[[bytes], TsPayload]:
    return lambda data: TsPayload(kind, parse_selectors(data))


def _parse_cp(data: bytes) -> CpPayload:
    reader = ByteReader(data)
    cp_type = reader.number(1)
    reader.take(3)
    attributes = []
    while reader.remaining:
        kind = reader.number(2) & 0x7FFF  # the top bit is reserved (3.15.1)
        attributes.append((kind, reader.take(reader.number(2))))
    return CpPayload(cp_type, tuple(attributes))


def _build_cp(payload: CpPayload) -> bytes:
    body = b"".join(
        kind.to_bytes(2, "big") + len(value).to_bytes(2, "big") + value for kind, value in payload.attributes
    )
    return bytes([payload.cp_type, 0, 0, 0]) + body


_PARSERS: dict[int, Callable[[bytes], Payload]] = {
    PayloadType.SA: lambda data: SaPayload(parse_proposals(data)),
    PayloadType.KE: _parse_ke,
    PayloadType.IDI: _id_parser(PayloadType.IDI),
    PayloadType.IDR: _id_parser(PayloadType.IDR),
    PayloadType.CERT: _parse_cert,
    PayloadType.CERTREQ: _parse_certreq,
    PayloadType.AUTH: _parse_auth,
    PayloadType.NONCE: _parse_nonce,
    PayloadType.NOTIFY: _parse_notify,
    PayloadType.DELETE: _parse_delete,
    PayloadType.VENDOR: VendorPayload,
    PayloadType.TSI: _ts_parser(PayloadType.TSI),
    PayloadType.TSR: _ts_parser(PayloadType.TSR),
    PayloadType.CP: _parse_cp,
    PayloadType.EAP: EapPayload,
}

_BUILDERS: dict[type, Callable[[Any], bytes]] = {
    SaPayload: lambda payload: build_proposals(payload.proposals),
    KePayload: _build_ke,
    IdPayload: lambda payload: payload.body,
    CertPayload: lambda payload: bytes([payload.encoding]) + payload.data,
    CertReqPayload: lambda payload: bytes([payload.encoding]) + payload.data,
    AuthPayload: lambda payload: bytes([payload.method, 0, 0, 0]) + payload.data,
    NoncePayload: lambda payload: payload.data,
    NotifyPayload: _build_notify,
    DeletePayload: _build_delete,
    VendorPayload: lambda payload: payload.data,
    TsPayload: lambda payload: build_selectors(payload.selectors),
    CpPayload: _build_cp,
    EapPayload: lambda payload: payload.data,
    UnknownPayload: lambda payload: payload.data,
}
