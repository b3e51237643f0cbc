"""Probes by IKE_SA_INIT of what a peer accepts. Sans-IO and stateless: builds requests and reads responses.

There are two kinds of question. A *complete* one carries a real key exchange value: the response shows the chosen algorithms and
the peer's features, and leaves a half-open IKE_SA there. A *stateless* one carries the value of a group that is in no proposal: a
peer that accepts a proposal responds with INVALID_KE_PAYLOAD and its group, one that does not with NO_PROPOSAL_CHOSEN (RFC 7296,
1.3 and 2.7), and neither stores any state. So each algorithm can be probed by itself.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from warren_ikev2.addresses import Path
from warren_ikev2.constants import ExchangeType, HeaderFlag, KeGroup, NotifyType, SignatureHash, TransformType
from warren_ikev2.crypto import groups
from warren_ikev2.exchanges.nat import build_detection
from warren_ikev2.probe_answer import Answer, Asked, read_answer
from warren_ikev2.randomness import RandomBytes
from warren_ikev2.suites import Proposal, ike_proposals
from warren_ikev2.wire.header import Header
from warren_ikev2.wire.message import build_message
from warren_ikev2.wire.payloads import KePayload, NoncePayload, NotifyPayload, Payload, SaPayload

NONCE_SIZE = 32
_UNNAMED_GROUP, _UNNAMED_SIZE = 27, 56
"""brainpoolP224r1, which is never offered, and the bytes of its KE data (RFC 6954)."""

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


@dataclass(frozen=True, slots=True)
class Question:
    """One IKE_SA_INIT request."""

    proposals: tuple[Proposal, ...]
    spi: bytes
    nonce: bytes
    group: int
    public: bytes
    exchange: groups.Exchange | None = field(default=None, repr=False)
    """With a complete question: the private half of `public`."""
    cookie: bytes = b""

    @classmethod
    def complete(cls, proposals: Sequence[Proposal], group: KeGroup, random_bytes: RandomBytes) -> "Question":
        """With a real value of `group`, one that the proposals should name."""
        exchange = groups.start(group)
        return cls(tuple(proposals), random_bytes(8), random_bytes(NONCE_SIZE), group, exchange.public, exchange)

    @classmethod
    def stateless(cls, proposals: Sequence[Proposal], random_bytes: RandomBytes) -> "Question":
        """With a value of a group that none of our proposals names, and that no implementation computes with."""
        return cls(
            tuple(proposals), random_bytes(8), random_bytes(NONCE_SIZE), _UNNAMED_GROUP, random_bytes(_UNNAMED_SIZE)
        )

    def with_cookie(self, cookie: bytes) -> "Question":
        """Return the same request with the peer's cookie."""
        return replace(self, cookie=cookie)

    def build(self, path: Path, random_bytes: RandomBytes) -> bytes:
        """Build the message, without non-ESP marker."""
        header = Header(self.spi, bytes(8), ExchangeType.IKE_SA_INIT, HeaderFlag.INITIATOR, 0)
        payloads: list[Payload] = [NotifyPayload(NotifyType.COOKIE, self.cookie)] if self.cookie else []
        payloads += [SaPayload(self.proposals), KePayload(self.group, self.public), NoncePayload(self.nonce)]
        payloads += build_detection(self.spi, bytes(8), path, random_bytes, fake_source=False)
        payloads += [NotifyPayload(kind, data) for kind, data in _ANNOUNCED]
        return build_message(header, payloads)

    def read(self, data: bytes, path: Path) -> Answer | None:
        """Read the response in a datagram; `None` if it belongs to another question."""
        return read_answer(data, Asked(self.proposals, self.spi, self.nonce, self.group, self.exchange), path)


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


def all_algorithms() -> tuple[Proposal, ...]:
    """Return one proposal of all AEAD ciphers and one of all others, strongest first."""
    return ike_proposals((*_AEAD, *PRF, *GROUPS), (*_CBC, *INTEGRITY, *PRF, *GROUPS))


def single_algorithm(name: str) -> tuple[Proposal, ...]:
    """Return proposals with only one algorithm of its type and all of the other types: accepted only if that one is.

    A post-quantum algorithm (`mlkem768`) is offered as an additional key exchange (RFC 9370).
    """
    if name in _AEAD:
        return ike_proposals((name, *PRF, *GROUPS))
    if name in _CBC:
        return ike_proposals((name, *INTEGRITY, *PRF, *GROUPS))
    if name in INTEGRITY:
        return ike_proposals((*_CBC, name, *PRF, *GROUPS))
    if name in PRF:
        return ike_proposals((*_AEAD, name, *GROUPS), (*_CBC, *INTEGRITY, name, *GROUPS))
    if name in POST_QUANTUM:
        return ike_proposals((*_AEAD, *PRF, *GROUPS, f"ke1_{name}"))
    return ike_proposals((*_AEAD, *PRF, name), (*_CBC, *INTEGRITY, *PRF, name))


def vendor_name(vendor_id: bytes) -> str:
    """A vendor id as text: its known name, its own letters, or hexadecimal."""
    known = next((name for start, name in _VENDORS.items() if vendor_id.startswith(start)), None)
    if known is not None:
        return known
    return vendor_id.decode("ascii") if vendor_id and all(32 <= byte < 127 for byte in vendor_id) else vendor_id.hex()


def unaccepted_types(proposal: Proposal, accepted: Iterable[str]) -> list[str]:
    """Explain why a peer that accepts these algorithms refuses a proposal: its types without a common algorithm."""
    known = set(accepted)
    reasons = []
    for kind in TransformType:
        names = [str(Proposal(proposal.protocol, (transform,))) for transform in proposal.of_type(kind)]
        names = [name.removeprefix(f"ke{kind - TransformType.ADDKE1 + 1}_") for name in names]
        if names and not known.intersection(names):
            reasons.append(f"{kind.name}: the peer accepts none of {', '.join(names)}")
    return reasons
