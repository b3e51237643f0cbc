"""The key schedule (RFC 7296, 2.13 to 2.18; RFC 9370, 2.2; RFC 8784, 3)."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from warren_ikev2.children import EspKeys
from warren_ikev2.constants import Prf
from warren_ikev2.crypto.prf import key_size, prf, prf_plus
from warren_ikev2.suites import EspSuite, IkeSuite, encryption_key_size, integrity_key_size, salt_size


@dataclass(frozen=True, slots=True)
class Nonces:
    """Ni and Nr of an exchange, without headers."""

    initiator: bytes
    responder: bytes

    @property
    def joined(self) -> bytes:
        """Ni | Nr."""
        return self.initiator + self.responder


@dataclass(frozen=True, slots=True)
class IkeKeys:
    """SK_d and its siblings. Never printed."""

    d: bytes = field(repr=False)
    ai: bytes = field(repr=False)
    ar: bytes = field(repr=False)
    ei: bytes = field(repr=False)
    """With AEAD ciphers: key, then salt (RFC 5282, 7.1)."""
    er: bytes = field(repr=False)
    pi: bytes = field(repr=False)
    pr: bytes = field(repr=False)


def initial_seed(kind: Prf, nonces: Nonces, shared: bytes) -> bytes:
    """SKEYSEED of IKE_SA_INIT (2.14)."""
    return prf(kind, nonces.joined, shared)


def rekey_seed(kind: Prf, old_d: bytes, nonces: Nonces, shared: Sequence[bytes]) -> bytes:
    """SKEYSEED of a rekeyed IKE_SA, with the old SA's PRF (2.18; RFC 9370, 2.2.4)."""
    return prf(kind, old_d, shared[0] + nonces.joined + b"".join(shared[1:]))


def additional_seed(kind: Prf, previous_d: bytes, nonces: Nonces, shared: bytes) -> bytes:
    """SKEYSEED(n) after an additional key exchange in IKE_INTERMEDIATE (RFC 9370, 2.2.2)."""
    return prf(kind, previous_d, shared + nonces.joined)


def derive_ike_keys(suite: IkeSuite, seed: bytes, nonces: Nonces, spi_i: bytes, spi_r: bytes) -> IkeKeys:
    """All seven keys from SKEYSEED (2.14)."""
    prf_size = key_size(suite.prf)
    integrity = integrity_key_size(suite.integrity)
    encryption = encryption_key_size(suite.encryption, suite.key_length) + salt_size(suite.encryption)
    sizes = (prf_size, integrity, integrity, encryption, encryption, prf_size, prf_size)
    stream = prf_plus(suite.prf, seed, nonces.joined + spi_i + spi_r, sum(sizes))
    return IkeKeys(*_cut(stream, sizes))


def mix_ppk(kind: Prf, keys: IkeKeys, ppk: bytes) -> IkeKeys:
    """SK_d, SK_pi and SK_pr with a post-quantum pre-shared key (RFC 8784, 3)."""
    size = key_size(kind)
    return replace(
        keys,
        d=prf_plus(kind, ppk, keys.d, size),
        pi=prf_plus(kind, ppk, keys.pi, size),
        pr=prf_plus(kind, ppk, keys.pr, size),
    )


def derive_child_keys(
    kind: Prf, sk_d: bytes, suite: EspSuite, nonces: Nonces, shared: Sequence[bytes] = ()
) -> tuple[EspKeys, EspKeys]:
    """Keys of the exchange's initiator-to-responder direction, then of the other (2.17; RFC 9370, 2.2.4)."""
    encryption = encryption_key_size(suite.encryption, suite.key_length)
    sizes = (encryption, salt_size(suite.encryption), integrity_key_size(suite.integrity)) * 2
    seed = b"".join(shared[:1]) + nonces.joined + b"".join(shared[1:])
    parts = _cut(prf_plus(kind, sk_d, seed, sum(sizes)), sizes)
    return EspKeys(*parts[:3]), EspKeys(*parts[3:])


def _cut(stream: bytes, sizes: Sequence[int]) -> list[bytes]:
    parts, offset = [], 0
    for size in sizes:
        parts.append(stream[offset : offset + size])
        offset += size
    return parts
