"""Pseudo-random functions (RFC 7296, 2.13; RFC 4868)."""

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from warren_ikev2.constants import Prf

_HASHES: dict[Prf, hashes.HashAlgorithm] = {
    Prf.HMAC_SHA2_256: hashes.SHA256(),
    Prf.HMAC_SHA2_384: hashes.SHA384(),
    Prf.HMAC_SHA2_512: hashes.SHA512(),
}


def key_size(kind: Prf) -> int:
    """Bytes of the preferred key, which is also the output size."""
    return _HASHES[kind].digest_size


def prf(kind: Prf, key: bytes, data: bytes) -> bytes:
    """prf(key, data)."""
    mac = HMAC(key, _HASHES[kind])
    mac.update(data)
    return mac.finalize()


def prf_plus(kind: Prf, key: bytes, seed: bytes, size: int) -> bytes:
    """The first `size` bytes of prf+(key, seed); for HMAC this is HKDF-Expand (RFC 5869, 2.3)."""
    return HKDFExpand(_HASHES[kind], size, seed).derive(key)
