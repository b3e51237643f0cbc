"""Decode captured IKE messages, and decrypt them if the keys are given. Pure: datagrams in, values out."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from warren_ikev2.addresses import Path
from warren_ikev2.constants import (
    KEEPALIVE,
    NON_ESP_MARKER,
    AuthMethod,
    CertEncoding,
    ConfigAttribute,
    ConfigType,
    ExchangeType,
    HeaderFlag,
    IdType,
    KeGroup,
    NotifyType,
    PayloadType,
    Protocol,
)
from warren_ikev2.crypto.sk import SkCipher, sk_cipher
from warren_ikev2.errors import IkeError, IntegrityError, UnsupportedVersionError
from warren_ikev2.esp.udp import DatagramKind, classify
from warren_ikev2.fragments import Reassembly
from warren_ikev2.identity import Identity
from warren_ikev2.keylog import DecryptionKeys
from warren_ikev2.probe import vendor_name
from warren_ikev2.randomness import RandomBytes
from warren_ikev2.wire.header import HEADER_SIZE
from warren_ikev2.wire.message import EncryptedPart, Message, parse_chain, parse_message
from warren_ikev2.wire.payloads import (
    AuthPayload,
    CertPayload,
    CertReqPayload,
    CpPayload,
    DeletePayload,
    EapPayload,
    IdPayload,
    KePayload,
    NoncePayload,
    NotifyPayload,
    Payload,
    SaPayload,
    TsPayload,
    UnknownPayload,
    VendorPayload,
)

IKE_PORT, NATT_PORT = 500, 4500
_FRAGMENTS, _MESSAGE_SIZE = 255, 1 << 20
"""Limits of a reassembled message: a capture is not trusted."""
_IKEV1 = {1: "base", 2: "main mode", 4: "aggressive mode", 5: "informational", 6: "transaction", 32: "quick mode"}
"""Exchange types of RFC 2408, 3.1, and RFC 2409, appendix A."""


@dataclass(frozen=True, slots=True)
class PayloadView:
    """A payload as text."""

    type: str
    text: str


@dataclass(frozen=True, slots=True)
class MessageView:
    """A message as text. `protection`: `clear`, `decrypted`, `fragment`, `no keys`, `wrong keys` or `unknown`."""

    exchange: str
    """Empty if there is no header."""
    message_id: int
    response: bool
    from_initiator: bool
    spi_i: str
    spi_r: str
    length: int
    protection: str
    payloads: tuple[PayloadView, ...] = ()
    problem: str = ""
    """Why it could not be read (`malformed: …`), or of which other version it is (`IKEv1, …`)."""


@dataclass(slots=True)
class _Direction:
    cipher: SkCipher
    fragments: Reassembly = field(default_factory=lambda: Reassembly(_FRAGMENTS, _MESSAGE_SIZE))


class Decoder:
    """Decode the datagrams of a capture, in order."""

    def __init__(self, keys: Iterable[DecryptionKeys], random_bytes: RandomBytes) -> None:
        self._directions: dict[tuple[bytes, bytes, bool], _Direction] = {}
        for item in keys:
            for from_initiator, secret, integrity in ((True, item.ei, item.ai), (False, item.er, item.ar)):
                cipher = sk_cipher(item.suite, secret, integrity, random_bytes)
                self._directions[item.spi_i, item.spi_r, from_initiator] = _Direction(cipher)

    def decode(self, data: bytes, path: Path) -> MessageView | None:
        """Decode a datagram; `None` for ESP, keepalives and, on other ports than IKE's, for anything but IKE."""
        ports = (path.local.port, path.remote.port)
        marked = NATT_PORT in ports or IKE_PORT not in ports
        if data == KEEPALIVE:
            return None
        if marked and classify(data) is DatagramKind.IKE:
            data = data[len(NON_ESP_MARKER) :]
        elif NATT_PORT in ports and IKE_PORT not in ports:
            return None
        try:
            return self._view(parse_message(data))
        except IkeError as error:
            return _view_problem(data, error) if {IKE_PORT, NATT_PORT}.intersection(ports) else None

    def _view(self, message: Message) -> MessageView:
        header = message.header
        protection, problem, payloads = "clear", "", [view_payload(payload) for payload in message.payloads]
        if message.encrypted is not None:
            try:
                protection, inside = self._open(message, message.encrypted)
                payloads += inside
            except IkeError as error:
                protection, problem = "decrypted", f"malformed: {error}"
        return MessageView(
            _name(ExchangeType, header.exchange), header.message_id, header.is_response, header.from_initiator,
            header.spi_i.hex(), header.spi_r.hex(), header.length, protection, tuple(payloads), problem,
        )  # fmt: skip

    def _open(self, message: Message, part: EncryptedPart) -> tuple[str, list[PayloadView]]:
        """Decrypt the message. IkeError: it is authentic, but malformed."""
        header = message.header
        direction = self._directions.get((header.spi_i, header.spi_r, header.from_initiator))
        if direction is None:
            return "no keys", []
        try:
            first, chain = part.next_payload, direction.cipher.open(part.aad, part.body)
        except IntegrityError:
            return "wrong keys", []
        if part.type is PayloadType.SKF:
            whole = direction.fragments.add(header.message_id, part, chain)
            if whole is None:
                return "fragment", [PayloadView("SKF", f"fragment {part.number} of {part.total}")]
            first, chain = whole
        return "decrypted", [view_payload(payload) for payload in parse_chain(first, chain)]


def _view_problem(data: bytes, error: IkeError) -> MessageView:
    """Decode as much of the header as there is."""
    header = data[:HEADER_SIZE] if len(data) >= HEADER_SIZE else bytes(HEADER_SIZE)
    flags, other = header[19], isinstance(error, UnsupportedVersionError)
    problem = f"malformed: {error}"
    if other:
        major = header[17] >> 4
        exchange = _IKEV1.get(header[18]) if major == 1 else None
        problem = f"IKEv{major}, {exchange or f'exchange {header[18]}'}"
    return MessageView(
        "" if other or len(data) < HEADER_SIZE else _name(ExchangeType, header[18]),
        int.from_bytes(header[20:24], "big"), bool(flags & HeaderFlag.RESPONSE) and not other,
        bool(flags & HeaderFlag.INITIATOR) and not other, header[:8].hex(), header[8:16].hex(), len(data), "unknown",
        problem=problem,
    )  # fmt: skip


def view_payload(payload: Payload) -> PayloadView:
    """Return a payload as text, without secrets."""
    match payload:
        case SaPayload(proposals):
            text = "; ".join(f"{p.number}: {_name(Protocol, p.protocol)} {p}" + _spi(p.spi) for p in proposals)
        case KePayload(group, data):
            text = f"{_name(KeGroup, group)}, {len(data)} bytes"
        case IdPayload(_, id_type, data):
            text = f"{_name(IdType, id_type)} {_identity(id_type, data)}"
        case CertPayload(encoding, data) | CertReqPayload(encoding, data):
            text = f"{_name(CertEncoding, encoding)}, {len(data)} bytes"
        case AuthPayload(method, data):
            text = f"{_name(AuthMethod, method)}, {len(data)} bytes"
        case NoncePayload(data):
            text = f"{len(data)} bytes"
        case NotifyPayload(notify, data, _, spi):
            text = _name(NotifyType, notify) + (f", {len(data)} bytes" if data else "") + _spi(spi)
        case DeletePayload(protocol, spis):
            text = _name(Protocol, protocol) + "".join(_spi(spi) for spi in spis)
        case VendorPayload(data):
            text = vendor_name(data)
        case TsPayload(_, selectors):
            text = ", ".join(str(selector) for selector in selectors)
        case CpPayload(cp_type, attributes):
            names = ", ".join(f"{_name(ConfigAttribute, kind)}{_value(value)}" for kind, value in attributes)
            text = f"{_name(ConfigType, cp_type)} {names}".rstrip()
        case EapPayload(data):
            text = f"{len(data)} bytes"
        case UnknownPayload(_, data):
            text = f"{len(data)} bytes"
    return PayloadView(_name(PayloadType, int(payload.type)), text)


def _name(kind: type, number: int) -> str:
    try:
        return str(kind(number).name)
    except ValueError:
        return str(number)


def _identity(id_type: int, data: bytes) -> str:
    try:
        return str(Identity(IdType(id_type), data))
    except ValueError:
        return data.hex()


def _spi(spi: bytes) -> str:
    return f" SPI {spi.hex()}" if spi else ""


def _value(value: bytes) -> str:
    return f"={value.hex()}" if value else ""
