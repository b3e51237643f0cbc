"""IKE_SA_INIT as a question: what does a peer accept? Sans-IO: builds requests, reads answers, keeps no state.

Two kinds of question. A *complete* one carries a real key exchange value: the answer shows the chosen algorithms and the
peer's features, and leaves a half-open IKE_SA there. A *stateless* one carries the value of a group that no proposal
names: a peer that likes a proposal answers INVALID_KE_PAYLOAD with the group it wants, one that does not answers
NO_PROPOSAL_CHOSEN (RFC 7296, 1.3 and 2.7), and either way it keeps nothing. So every algorithm can be asked for alone.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from warren_ikev2.addresses import Path
from warren_ikev2.constants import (
    FIRST_STATUS_NOTIFY,
    ExchangeType,
    HeaderFlag,
    KeGroup,
    NotifyType,
    SignatureHash,
    TransformType,
)
from warren_ikev2.crypto import groups
from warren_ikev2.errors import ProtocolError
from warren_ikev2.events import NatSituation
from warren_ikev2.exchanges.nat import build_detection, detect
from warren_ikev2.suites import Proposal, parse_ike_proposals
from warren_ikev2.wire.header import Header
from warren_ikev2.wire.message import Message, Payloads, build_message, parse_message
from warren_ikev2.wire.payloads import (
    CertReqPayload,
    KePayload,
    NoncePayload,
    NotifyPayload,
    Payload,
    SaPayload,
    VendorPayload,
)

NONCE_SIZE = 32
_UNNAMED_GROUP, _UNNAMED_SIZE = 27, 56
"""brainpoolP224r1, which is never asked for, and the bytes of its KE data (RFC 6954)."""
RandomBytes = Callable[[int], bytes]

ENCRYPTION = ("aes256gcm16", "aes192gcm16", "aes128gcm16", "chacha20poly1305", "aes256", "aes192", "aes128")
PRF = ("prfsha512", "prfsha384", "prfsha256")
INTEGRITY = ("sha512", "sha384", "sha256")
GROUPS = (
    *("x25519", "x448", "ecp521", "ecp384", "ecp256", "ecp512bp", "ecp384bp", "ecp256bp"),
    *("modp4096", "modp3072", "modp2048"),
)
POST_QUANTUM = ("mlkem1024", "mlkem768")
_AEAD = ENCRYPTION[:4]
_CBC = ENCRYPTION[4:]
_VENDORS = {
    bytes.fromhex("882fe56d6fd20dbc2251613b2ebe5beb"): "strongSwan",
    bytes.fromhex("1e2b516905991c7d7c96fcbfb587e46100000009"): "Microsoft Windows",
    bytes.fromhex("4048b7d56ebce88525e7de7f00d6c2d3"): "IKE fragmentation of IKEv1",
    bytes.fromhex("4f45755c645c6a795c5c6170"): "libreswan",
}


class Verdict(Enum):
    """What an answer says."""

    ACCEPTED = "accepted"
    """The peer chose a proposal and went on."""
    WANTS_GROUP = "wants-group"
    """The peer likes a proposal, with another key exchange group."""
    REFUSED = "refused"
    """NO_PROPOSAL_CHOSEN."""
    COOKIE = "cookie"
    """The peer is busy and wants the request again, with its cookie (RFC 7296, 2.6)."""
    REDIRECTED = "redirected"
    """The peer names another gateway (RFC 5685)."""
    ERROR = "error"
    """Another error notify."""


@dataclass(frozen=True, slots=True)
class Features:
    """What a peer announces in its answer."""

    vendor_ids: tuple[bytes, ...] = ()
    nat: NatSituation | None = None
    """None: the peer takes no part in NAT detection."""
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

    verdict: Verdict
    proposal: Proposal | None = None
    """With ACCEPTED: the chosen algorithms."""
    group: int | None = None
    """With WANTS_GROUP: the group that the peer wants."""
    notify: int | None = None
    """With an error: its code."""
    cookie: bytes = b""
    features: Features = Features()


@dataclass(frozen=True, slots=True)
class Question:
    """One IKE_SA_INIT request."""

    proposals: tuple[Proposal, ...]
    spi: bytes
    nonce: bytes
    group: int
    public: bytes
    cookie: bytes = b""

    @classmethod
    def complete(cls, proposals: Sequence[Proposal], group: KeGroup, random: RandomBytes) -> "Question":
        """With a real value of `group`, one that the proposals should name."""
        return cls(tuple(proposals), random(8), random(NONCE_SIZE), group, groups.start(group).public)

    @classmethod
    def stateless(cls, proposals: Sequence[Proposal], random: RandomBytes) -> "Question":
        """With a value of a group that none of our proposals names, and that nobody computes with."""
        return cls(tuple(proposals), random(8), random(NONCE_SIZE), _UNNAMED_GROUP, random(_UNNAMED_SIZE))

    def with_cookie(self, cookie: bytes) -> "Question":
        """The same request again, behind the peer's cookie."""
        return replace(self, cookie=cookie)

    def build(self, path: Path, random: RandomBytes) -> bytes:
        """The message, for a datagram without non-ESP marker."""
        header = Header(self.spi, bytes(8), ExchangeType.IKE_SA_INIT, HeaderFlag.INITIATOR, 0)
        payloads: list[Payload] = [NotifyPayload(NotifyType.COOKIE, self.cookie)] if self.cookie else []
        payloads += [SaPayload(self.proposals), KePayload(self.group, self.public), NoncePayload(self.nonce)]
        payloads += build_detection(self.spi, bytes(8), path, random, pretend=False)
        payloads += [NotifyPayload(kind, data) for kind, data in _ANNOUNCED]
        return build_message(header, payloads)

    def read(self, data: bytes, path: Path) -> Answer | None:
        """The answer in a datagram, or `None` if it is none to this question."""
        try:
            message = parse_message(data)
            header = message.header
            if header.spi_i != self.spi or not header.is_response or header.exchange != ExchangeType.IKE_SA_INIT:
                return None
            return _read(message, path)
        except ProtocolError:
            return None


_ANNOUNCED: tuple[tuple[NotifyType, bytes], ...] = (
    (NotifyType.IKEV2_FRAGMENTATION_SUPPORTED, b""),
    (
        NotifyType.SIGNATURE_HASH_ALGORITHMS,
        b"".join(int(kind).to_bytes(2, "big") for kind in SignatureHash if kind is not SignatureHash.SHA1),
    ),
    (NotifyType.REDIRECT_SUPPORTED, b""),
    (NotifyType.INTERMEDIATE_EXCHANGE_SUPPORTED, b""),
    (NotifyType.USE_PPK, b""),
)


def _read(message: Message, path: Path) -> Answer:
    payloads = message.payloads
    cookie, wanted = payloads.notify(NotifyType.COOKIE), payloads.notify(NotifyType.INVALID_KE_PAYLOAD)
    features = _features(payloads, message.header.spi_i, message.header.spi_r, path)
    chosen = payloads.first(SaPayload)
    if chosen is not None and chosen.proposals:
        return Answer(Verdict.ACCEPTED, proposal=chosen.proposals[0], features=features)
    if cookie is not None:
        return Answer(Verdict.COOKIE, cookie=cookie.data)
    if wanted is not None and len(wanted.data) == 2:
        return Answer(Verdict.WANTS_GROUP, group=int.from_bytes(wanted.data, "big"), features=features)
    if payloads.notify(NotifyType.REDIRECT) is not None:
        return Answer(Verdict.REDIRECTED, features=features)
    errors = [payload.notify for payload in payloads.all(NotifyPayload) if payload.notify < FIRST_STATUS_NOTIFY]
    if NotifyType.NO_PROPOSAL_CHOSEN in errors:
        return Answer(Verdict.REFUSED, notify=NotifyType.NO_PROPOSAL_CHOSEN, features=features)
    return Answer(Verdict.ERROR, notify=errors[0] if errors else None, features=features)


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


def everything() -> tuple[Proposal, ...]:
    """One proposal of all AEAD ciphers and one of all others, strongest first."""
    rest = "-".join((*PRF, *GROUPS))
    return parse_ike_proposals("-".join((*_AEAD, rest)), "-".join((*_CBC, *INTEGRITY, rest)))


def alone(keyword: str) -> tuple[Proposal, ...]:
    """Proposals that offer one algorithm alone, with everything else beside it: accepted only if that one is.

    A post-quantum keyword (`mlkem768`) is offered as an additional key exchange (RFC 9370).
    """
    prfs, all_groups = "-".join(PRF), "-".join(GROUPS)
    aead, cbc, integrity = "-".join(_AEAD), "-".join(_CBC), "-".join(INTEGRITY)
    if keyword in _AEAD:
        return parse_ike_proposals(f"{keyword}-{prfs}-{all_groups}")
    if keyword in _CBC:
        return parse_ike_proposals(f"{keyword}-{integrity}-{prfs}-{all_groups}")
    if keyword in INTEGRITY:
        return parse_ike_proposals(f"{cbc}-{keyword}-{prfs}-{all_groups}")
    if keyword in PRF:
        return parse_ike_proposals(f"{aead}-{keyword}-{all_groups}", f"{cbc}-{integrity}-{keyword}-{all_groups}")
    if keyword in POST_QUANTUM:
        return parse_ike_proposals(f"{aead}-{prfs}-{all_groups}-ke1_{keyword}")
    return parse_ike_proposals(f"{aead}-{prfs}-{keyword}", f"{cbc}-{integrity}-{prfs}-{keyword}")


def vendor_name(vendor_id: bytes) -> str:
    """A vendor id as text: its known name, its own letters, or hexadecimal."""
    known = next((name for start, name in _VENDORS.items() if vendor_id.startswith(start)), None)
    if known is not None:
        return known
    return vendor_id.decode("ascii") if vendor_id and all(32 <= byte < 127 for byte in vendor_id) else vendor_id.hex()


def missing_types(wanted: Proposal, accepted: Iterable[str]) -> list[str]:
    """Why a peer that accepts these algorithms, each asked for alone, refuses a proposal: its types without a common one."""
    known = set(accepted)
    reasons = []
    for kind in TransformType:
        names = [str(Proposal(wanted.protocol, (transform,))) for transform in wanted.of_type(kind)]
        names = [name.removeprefix(f"ke{kind - TransformType.ADDKE1 + 1}_") for name in names]
        if names and not known.intersection(names):
            reasons.append(f"{kind.name}: the peer accepts none of {', '.join(names)}")
    return reasons
