"""The response to a probe: what it contains, and whether RFC 7296 allows it. Pure.

Nothing in it is authenticated. It is checked by the same functions as in the engine's own handshakes: a choice is accepted only
if it was offered.
"""

from dataclasses import dataclass, field
from enum import Enum

from warren_ikev2.addresses import Path
from warren_ikev2.constants import FIRST_STATUS_NOTIFY, ExchangeType, NotifyType, SignatureHash
from warren_ikev2.crypto import groups
from warren_ikev2.errors import (
    MalformedMessageError,
    NegotiationError,
    NoProposalChosenError,
    ProtocolError,
    UnsupportedVersionError,
)
from warren_ikev2.events import NatSituation
from warren_ikev2.exchanges.ike_sa_init import MAX_COOKIE, confirm_answer
from warren_ikev2.exchanges.nat import detect
from warren_ikev2.exchanges.negotiation import confirm_group
from warren_ikev2.exchanges.redirect import parse_gateway
from warren_ikev2.suites import Proposal
from warren_ikev2.wire.header import parse_header
from warren_ikev2.wire.message import Message, Payloads, parse_message
from warren_ikev2.wire.payloads import CertReqPayload, KePayload, NotifyPayload, SaPayload, VendorPayload


class ProbeVerdict(Enum):
    """The result of a probe."""

    ACCEPTED = "accepted"
    """The peer chose a proposal."""
    WANTS_GROUP = "wants-group"
    """The peer accepts a proposal, but requests another key exchange group."""
    REFUSED = "refused"
    """NO_PROPOSAL_CHOSEN."""
    COOKIE = "cookie"
    """The peer demands the request again, with its cookie (RFC 7296, 2.6)."""
    REDIRECTED = "redirected"
    """The peer redirects to another gateway (RFC 5685)."""
    ERROR = "error"
    """Another error notify."""
    INVALID_CHOICE = "invalid-choice"
    """The peer chose algorithms, or requests a group, that were not offered (RFC 7296, 2.7 and 3.3.6): it accepts nothing."""
    MALFORMED = "malformed"
    """The response is not valid IKEv2."""
    OTHER_VERSION = "other-version"
    """The peer answers in another major version of IKE."""
    CLOSED = "closed"
    """The host reports by ICMP that the port is closed."""


@dataclass(frozen=True, slots=True)
class Features:
    """What a peer announces in its answer."""

    vendor_ids: tuple[bytes, ...] = ()
    nat: NatSituation | None = None
    """None: the peer does not support NAT detection."""
    fragmentation: bool = False
    intermediate: bool = False
    """IKE_INTERMEDIATE (RFC 9242), which post-quantum key exchanges need."""
    childless: bool = False
    redirect: bool = False
    multiple_authentication: bool = False
    ppk: bool = False
    signature_hashes: tuple[str, ...] = ()
    asks_for_certificates: bool = False
    other_notifies: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """A peer's answer to one question."""

    verdict: ProbeVerdict
    proposal: Proposal | None = None
    """With ACCEPTED: the chosen algorithms."""
    group: int | None = None
    """With WANTS_GROUP: the group that the peer requests."""
    gateway: str = ""
    """With REDIRECTED: the gateway, printable."""
    notify: int | None = None
    """With an error: its code."""
    reason: str = ""
    """With INVALID_CHOICE, MALFORMED and OTHER_VERSION: what is wrong with the answer."""
    cookie: bytes = b""
    features: Features = Features()


@dataclass(frozen=True, slots=True)
class Asked:
    """The request, against which the response is checked."""

    proposals: tuple[Proposal, ...]
    spi: bytes
    nonce: bytes
    group: int
    """Of our KE payload."""
    exchange: groups.Exchange | None = field(default=None, repr=False)
    """Of a complete question."""


def read_answer(data: bytes, asked: Asked, path: Path) -> Answer | None:
    """Read a datagram from the peer; None: it belongs to another question. Never raises."""
    try:
        header = parse_header(data)
        if header.spi_i != asked.spi:
            return None
        message = parse_message(data)
        if not header.is_response or header.exchange != ExchangeType.IKE_SA_INIT or message.encrypted is not None:
            raise MalformedMessageError("not a response of IKE_SA_INIT")
        return _read(message, asked, path)
    except UnsupportedVersionError:
        return Answer(ProbeVerdict.OTHER_VERSION, reason=f"the peer responds in version {header.version >> 4} of IKE")
    except NegotiationError as error:
        return Answer(ProbeVerdict.INVALID_CHOICE, reason=str(error))
    except ProtocolError as error:
        return Answer(ProbeVerdict.MALFORMED, reason=str(error))


def _read(message: Message, asked: Asked, path: Path) -> Answer:
    payloads = message.payloads
    features = _features(payloads, message.header.spi_i, message.header.spi_r, path)
    if payloads.first(SaPayload) is not None:
        return Answer(ProbeVerdict.ACCEPTED, proposal=_confirm(message, asked), features=features)
    if (cookie := payloads.notify(NotifyType.COOKIE)) is not None:
        if not 1 <= len(cookie.data) <= MAX_COOKIE:
            raise MalformedMessageError(f"a cookie of {len(cookie.data)} bytes")
        return Answer(ProbeVerdict.COOKIE, cookie=cookie.data)
    if (invalid_ke := payloads.notify(NotifyType.INVALID_KE_PAYLOAD)) is not None:
        group = confirm_group(invalid_ke.data, asked.proposals, asked.group)
        return Answer(ProbeVerdict.WANTS_GROUP, group=group, features=features)
    if (redirect := payloads.notify(NotifyType.REDIRECT)) is not None:
        return Answer(ProbeVerdict.REDIRECTED, gateway=_gateway(redirect.data, asked), features=features)
    errors = [notify.notify for notify in payloads.errors()]
    if NotifyType.NO_PROPOSAL_CHOSEN in errors:
        return Answer(ProbeVerdict.REFUSED, notify=NotifyType.NO_PROPOSAL_CHOSEN, features=features)
    if not errors:
        raise MalformedMessageError("neither a proposal nor an error")
    return Answer(ProbeVerdict.ERROR, notify=errors[0], features=features)


def _confirm(message: Message, asked: Asked) -> Proposal:
    """Check and return the peer's choice: it was offered, with a valid key of its group."""
    try:
        chosen = confirm_answer(message, asked.proposals, asked.group)
    except MalformedMessageError:
        raise
    except ProtocolError as error:
        raise NoProposalChosenError(str(error)) from error
    if asked.exchange is not None:
        groups.finish(asked.exchange, message.payloads.require(KePayload).data)
    return chosen


def _gateway(data: bytes, asked: Asked) -> str:
    gateway, nonce = parse_gateway(data)
    if nonce != asked.nonce:  # RFC 5685, 3
        raise MalformedMessageError("the nonce of the redirection is not ours")
    return gateway


_KNOWN = {
    NotifyType.IKEV2_FRAGMENTATION_SUPPORTED: "fragmentation",
    NotifyType.INTERMEDIATE_EXCHANGE_SUPPORTED: "intermediate",
    NotifyType.CHILDLESS_IKEV2_SUPPORTED: "childless",
    NotifyType.MULTIPLE_AUTH_SUPPORTED: "multiple_authentication",
    NotifyType.REDIRECT_SUPPORTED: "redirect",
    NotifyType.USE_PPK: "ppk",
}
_ELSEWHERE = frozenset({
    NotifyType.NAT_DETECTION_SOURCE_IP, NotifyType.NAT_DETECTION_DESTINATION_IP, NotifyType.SIGNATURE_HASH_ALGORITHMS,
    NotifyType.COOKIE, NotifyType.REDIRECT,
})  # fmt: skip


def _features(payloads: Payloads, spi_i: bytes, spi_r: bytes, path: Path) -> Features:
    hashes = payloads.notify(NotifyType.SIGNATURE_HASH_ALGORITHMS)
    status = [payload.notify for payload in payloads.all(NotifyPayload) if payload.notify >= FIRST_STATUS_NOTIFY]
    flags = {name: True for kind, name in _KNOWN.items() if kind in status}
    return Features(
        vendor_ids=tuple(payload.data for payload in payloads.all(VendorPayload)),
        nat=detect(payloads, spi_i, spi_r, path),
        signature_hashes=_hash_names(hashes.data if hashes else b""),
        asks_for_certificates=bool(payloads.all(CertReqPayload)),
        other_notifies=tuple(kind for kind in status if kind not in _KNOWN and kind not in _ELSEWHERE),
        **flags,
    )


def _hash_names(data: bytes) -> tuple[str, ...]:
    numbers = [int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data) - 1, 2)]
    known = {int(kind): kind.name for kind in SignatureHash}
    return tuple(known.get(number, str(number)) for number in numbers)
