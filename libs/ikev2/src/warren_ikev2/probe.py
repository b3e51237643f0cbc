"""Probes by IKE_SA_INIT of what a peer accepts. Sans-IO and stateless: builds requests and reads responses.

There are two kinds of question. A *complete* one carries a real key exchange value: the response shows the chosen algorithms and
the peer's features, and leaves a half-open IKE_SA there until `Question.closing` ends it. A *stateless* one carries the value of a
group that is in no proposal: a peer that accepts a proposal responds with INVALID_KE_PAYLOAD and its group, one that does not with
NO_PROPOSAL_CHOSEN (RFC 7296, 1.3 and 2.7), and neither stores any state. So each algorithm can be probed by itself.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from warren_ikev2 import algorithms
from warren_ikev2.addresses import Path
from warren_ikev2.constants import (
    AuthMethod,
    ExchangeType,
    HeaderFlag,
    IdType,
    KeGroup,
    NotifyType,
    PayloadType,
    Protocol,
    SignatureHash,
    TransformType,
)
from warren_ikev2.crypto import groups
from warren_ikev2.crypto.keys import Nonces, derive_ike_keys, initial_seed
from warren_ikev2.crypto.sk import sk_cipher
from warren_ikev2.errors import IkeError
from warren_ikev2.exchanges.ike_sa_init import confirm_answer
from warren_ikev2.exchanges.nat import build_detection
from warren_ikev2.fragments import seal
from warren_ikev2.probe_answer import Answer, Asked, read_answer
from warren_ikev2.randomness import RandomBytes
from warren_ikev2.suites import Proposal, ike_suite
from warren_ikev2.wire.header import Header
from warren_ikev2.wire.message import build_chain, build_message, parse_message
from warren_ikev2.wire.payloads import (
    AuthPayload,
    IdPayload,
    KePayload,
    NoncePayload,
    NotifyPayload,
    Payload,
    SaPayload,
)

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
LEGACY_ENCRYPTION = ("camellia256", "camellia128", "3des", "des")
LEGACY_PRF = ("prfaesxcbc", "prfsha1", "prfmd5")
LEGACY_INTEGRITY = ("aesxcbc", "sha1", "md5")
LEGACY_GROUPS = (
    *("modp8192", "modp6144", "modp2048s256", "modp2048s224", "modp1024s160", "modp1536", "modp1024", "modp768"),
    *("ecp224", "ecp192"),
)
_AEAD = ENCRYPTION[:4]
_CBC = ENCRYPTION[4:]
_VENDORS = {
    bytes.fromhex("882fe56d6fd20dbc2251613b2ebe5beb"): "strongSwan",
    bytes.fromhex("1e2b516905991c7d7c96fcbfb587e46100000009"): "Microsoft Windows",
    bytes.fromhex("4048b7d56ebce88525e7de7f00d6c2d3"): "IKE fragmentation of IKEv1",
    bytes.fromhex("4f45755c645c6a795c5c6170"): "libreswan",
}


@dataclass(frozen=True, slots=True)
class ProbeRequest:
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
    def complete(cls, proposals: Sequence[Proposal], group: KeGroup, random_bytes: RandomBytes) -> "ProbeRequest":
        """With a real value of `group`, one that the proposals should name."""
        exchange = groups.start(group)
        return cls(tuple(proposals), random_bytes(8), random_bytes(NONCE_SIZE), group, exchange.public, exchange)

    @classmethod
    def stateless(cls, proposals: Sequence[Proposal], random_bytes: RandomBytes) -> "ProbeRequest":
        """With a value of a group that none of our proposals names, and that no implementation computes with."""
        return cls(
            tuple(proposals), random_bytes(8), random_bytes(NONCE_SIZE), _UNNAMED_GROUP, random_bytes(_UNNAMED_SIZE)
        )

    def with_cookie(self, cookie: bytes) -> "ProbeRequest":
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

    def closing(self, response: bytes, random_bytes: RandomBytes) -> bytes | None:
        """An IKE_AUTH request that the peer refuses, so that it forgets the half-open IKE_SA of a complete question at once.

        It names no identity that could match (RFC 2606, 2) and proves none. Without non-ESP marker. None: the response is none that
        opened an IKE_SA.
        """
        if self.exchange is None:
            return None
        try:
            message = parse_message(response)
            suite = ike_suite(confirm_answer(message, self.proposals, self.group))
            nonces = Nonces(self.nonce, message.payloads.require(NoncePayload).data)
            shared = groups.finish(self.exchange, message.payloads.require(KePayload).data)
        except (IkeError, ValueError):
            return None
        keys = derive_ike_keys(suite, initial_seed(suite.prf, nonces, shared), nonces, self.spi, message.header.spi_r)
        identity = IdPayload(PayloadType.IDI, IdType.FQDN, b"probe.invalid")
        proof = AuthPayload(AuthMethod.SHARED_KEY, bytes(32))
        first, chain = build_chain((identity, proof))
        header = Header(self.spi, message.header.spi_r, ExchangeType.IKE_AUTH, HeaderFlag.INITIATOR, 1)
        (sealed,) = seal(sk_cipher(suite, keys.ei, keys.ai, random_bytes), header, first, chain, None)
        return sealed

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


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The algorithms that a probe asks for, by type, strongest first."""

    aead: tuple[str, ...] = _AEAD
    ciphers: tuple[str, ...] = _CBC
    integrity: tuple[str, ...] = INTEGRITY
    prf: tuple[str, ...] = PRF
    groups: tuple[str, ...] = GROUPS

    @property
    def encryption(self) -> tuple[str, ...]:
        """Every cipher."""
        return (*self.aead, *self.ciphers)

    def all(self) -> tuple[Proposal, ...]:
        """Return one proposal of all AEAD ciphers and one of all others."""
        return _offer((*self.aead, *self.prf, *self.groups), (*self.ciphers, *self.integrity, *self.prf, *self.groups))

    def single(self, name: str) -> tuple[Proposal, ...]:
        """Return proposals with only one algorithm of its type and all of the other types: accepted only if that one is.

        A post-quantum algorithm (`mlkem768`) is offered as an additional key exchange (RFC 9370).
        """
        if name in self.aead:
            return _offer((name, *self.prf, *self.groups))
        if name in self.ciphers:
            return _offer((name, *self.integrity, *self.prf, *self.groups))
        if name in self.integrity:
            return _offer((*self.ciphers, name, *self.prf, *self.groups))
        if name in self.prf:
            return _offer((*self.aead, name, *self.groups), (*self.ciphers, *self.integrity, name, *self.groups))
        if name in POST_QUANTUM:
            return _offer((*self.aead, *self.prf, *self.groups, f"ke1_{name}"))
        return _offer((*self.aead, *self.prf, name), (*self.ciphers, *self.integrity, *self.prf, name))


MODERN = Catalogue()
"""What the engine negotiates."""
LEGACY = Catalogue(
    ciphers=(*_CBC, *LEGACY_ENCRYPTION), integrity=(*INTEGRITY, *LEGACY_INTEGRITY), prf=(*PRF, *LEGACY_PRF),
    groups=(*GROUPS, *LEGACY_GROUPS),
)  # fmt: skip
"""That, and what is still found on old gateways."""


def _offer(*alternatives: tuple[str, ...]) -> tuple[Proposal, ...]:
    """Numbered proposals of algorithms that the engine need not be able to compute."""
    known = {**algorithms.LEGACY, **algorithms.ALGORITHMS}
    return tuple(
        Proposal(Protocol.IKE, tuple(sorted((known[name] for name in names), key=lambda it: it.type)), number)
        for number, names in enumerate(alternatives, 1)
    )


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
