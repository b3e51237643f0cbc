"""Opening and sealing the encrypted payload (RFC 7296, 3.14; RFC 5282; RFC 7634)."""

from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.constant_time import bytes_eq
from cryptography.hazmat.primitives.hmac import HMAC

from warren_ikev2.constants import Encr, Integ
from warren_ikev2.errors import IntegrityError, MalformedMessageError
from warren_ikev2.randomness import RandomBytes
from warren_ikev2.suites import AEAD, IkeSuite, encryption_key_size

_AEAD_IV = 8
_AEAD_ICV = 16
_CBC_BLOCK = 16
_INTEGRITY: dict[Integ, tuple[hashes.HashAlgorithm, int]] = {
    Integ.HMAC_SHA2_256_128: (hashes.SHA256(), 16),
    Integ.HMAC_SHA2_384_192: (hashes.SHA384(), 24),
    Integ.HMAC_SHA2_512_256: (hashes.SHA512(), 32),
}


class SkCipher(Protocol):
    """One direction of an IKE_SA. `body` is IV, ciphertext and checksum."""

    def sealed_size(self, plaintext_size: int) -> int:
        """Bytes of the body for so many bytes of payloads."""

    def seal(self, aad: bytes, plaintext: bytes) -> bytes:
        """The body; `aad` must already name the final lengths."""

    def open(self, aad: bytes, body: bytes) -> bytes:
        """The payloads. IntegrityError: forged, damaged or with other keys."""


def sk_cipher(suite: IkeSuite, encryption_key: bytes, integrity_key: bytes, random_bytes: RandomBytes) -> SkCipher:
    """The cipher of a suite for one direction."""
    if suite.encryption in AEAD:
        return AeadSk(suite.encryption, encryption_key)
    if suite.integrity is None:
        raise ValueError("a cipher without AEAD needs an integrity algorithm")
    return CbcSk(
        encryption_key[: encryption_key_size(suite.encryption, suite.key_length)],
        suite.integrity,
        integrity_key,
        random_bytes,
    )


class AeadSk:
    """AES-GCM-16 and ChaCha20-Poly1305: a 4-byte salt after the key, an 8-byte counter as IV (RFC 5282, 4)."""

    def __init__(self, encryption: Encr, key: bytes, first_iv: int = 0) -> None:
        make = AESGCM if encryption == Encr.AES_GCM_16 else ChaCha20Poly1305
        self._cipher: AESGCM | ChaCha20Poly1305 = make(key[:-4])
        self._salt = key[-4:]
        self._counter = first_iv

    def sealed_size(self, plaintext_size: int) -> int:
        """IV, payloads, pad length, checksum."""
        return _AEAD_IV + plaintext_size + 1 + _AEAD_ICV

    def seal(self, aad: bytes, plaintext: bytes) -> bytes:
        """See SkCipher."""
        iv = self._counter.to_bytes(_AEAD_IV, "big")
        self._counter += 1
        return iv + self._cipher.encrypt(self._salt + iv, plaintext + b"\x00", aad)

    def open(self, aad: bytes, body: bytes) -> bytes:
        """See SkCipher."""
        if len(body) < _AEAD_IV + 1 + _AEAD_ICV:
            raise IntegrityError("too short")
        try:
            padded = self._cipher.decrypt(self._salt + body[:_AEAD_IV], body[_AEAD_IV:], aad)
        except InvalidTag as error:
            raise IntegrityError from error
        return _strip_padding(padded)


class CbcSk:
    """AES-CBC, then HMAC over the message up to the checksum."""

    def __init__(self, key: bytes, integrity: Integ, integrity_key: bytes, random_bytes: RandomBytes) -> None:
        self._algorithm = algorithms.AES(key)
        self._hash, self._icv_size = _INTEGRITY[integrity]
        self._integrity_key = integrity_key
        self._random_bytes = random_bytes

    def sealed_size(self, plaintext_size: int) -> int:
        """IV, payloads, padding up to a block, checksum."""
        blocks = plaintext_size // _CBC_BLOCK + 1
        return (blocks + 1) * _CBC_BLOCK + self._icv_size

    def seal(self, aad: bytes, plaintext: bytes) -> bytes:
        """See SkCipher."""
        iv = self._random_bytes(_CBC_BLOCK)
        pad = _CBC_BLOCK - 1 - len(plaintext) % _CBC_BLOCK
        encryptor = Cipher(self._algorithm, modes.CBC(iv)).encryptor()
        text = iv + encryptor.update(plaintext + bytes(pad) + bytes([pad])) + encryptor.finalize()
        return text + self._checksum(aad + text)

    def open(self, aad: bytes, body: bytes) -> bytes:
        """See SkCipher."""
        text, checksum = body[: -self._icv_size], body[-self._icv_size :]
        if len(text) < 2 * _CBC_BLOCK or len(text) % _CBC_BLOCK:
            raise IntegrityError("not whole blocks")
        if not bytes_eq(self._checksum(aad + text), checksum):
            raise IntegrityError
        decryptor = Cipher(self._algorithm, modes.CBC(text[:_CBC_BLOCK])).decryptor()
        return _strip_padding(decryptor.update(text[_CBC_BLOCK:]) + decryptor.finalize())

    def _checksum(self, data: bytes) -> bytes:
        mac = HMAC(self._integrity_key, self._hash)
        mac.update(data)
        return mac.finalize()[: self._icv_size]


def _strip_padding(padded: bytes) -> bytes:
    """Any padding bytes are allowed (RFC 7296, 3.14)."""
    pad = padded[-1]
    if pad + 1 > len(padded):
        raise MalformedMessageError("more padding than data")
    return padded[: len(padded) - pad - 1]
