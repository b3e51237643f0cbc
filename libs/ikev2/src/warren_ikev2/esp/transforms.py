"""The ciphers of ESP: AES-GCM-16 (RFC 4106), ChaCha20-Poly1305 (RFC 7634), AES-CBC with HMAC-SHA2 (RFC 3602, 4868).

A transform protects one direction of one SA, whole ESP packets at a time: `seal` takes the SPI, the full sequence number
and the padded plaintext and returns the packet; `open` takes the packet and the full sequence number (see
`ReplayWindow.infer`) and returns the padded plaintext. What RFC 4303 calls combined-mode and separate algorithms, and
where the high half of an ESN goes, are therefore hidden from callers.
"""

import hmac
import struct
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from warren_ikev2.children import EspKeys
from warren_ikev2.constants import Encr, Integ
from warren_ikev2.errors import ConfigurationError
from warren_ikev2.esp.drops import DropReason, PacketDroppedError
from warren_ikev2.randomness import RandomBytes
from warren_ikev2.suites import EspSuite

_LOW = 0xFFFFFFFF
_HEADER = struct.Struct(">II").pack
_ESN_HEADER = struct.Struct(">IQ").pack
_HEADER_AND_IV = struct.Struct(">IIQ").pack
HEADER_LENGTH = 8
"""Bytes: SPI and the low 32 bits of the sequence number."""


class EspTransform(Protocol):
    """One direction of an SA."""

    iv_length: int
    icv_length: int
    alignment: int
    """Bytes that the padded plaintext must be a multiple of (RFC 4303, 2.4)."""

    def seal(self, spi: int, sequence: int, plaintext: bytes) -> bytes:
        """Return the ESP packet; `sequence` must never repeat under one key."""
        ...

    def seal_all(self, spi: int, first: int, plaintexts: list[bytes]) -> list[bytes]:
        """Return the ESP packets of plaintexts that are numbered from `first` on."""
        ...

    def open(self, packet: bytes, sequence: int) -> bytes:
        """Return the padded plaintext or raise `PacketDroppedError(INTEGRITY)`."""
        ...


class AeadTransform:
    """AES-GCM with a 16-byte tag, or ChaCha20-Poly1305: the nonce is salt | IV, the additional data SPI | sequence.

    The IV is the sequence number, which is unique for as long as the key lives (RFC 4106, 3.1; RFC 7634, 2).
    """

    iv_length = 8
    icv_length = 16
    alignment = 4
    __slots__ = ("_decrypt", "_encrypt", "cipher", "esn", "salt")

    def __init__(self, cipher: AESGCM | ChaCha20Poly1305, salt: bytes, *, esn: bool) -> None:
        self.cipher = cipher
        """For `warren_ikev2.dataplane`, which seals and opens many packets at a time."""
        self.salt = salt
        self.esn = esn
        self._encrypt = cipher.encrypt
        self._decrypt = cipher.decrypt

    def seal(self, spi: int, sequence: int, plaintext: bytes) -> bytes:
        """See `EspTransform.seal`."""
        if self.esn:
            head, associated = _HEADER_AND_IV(spi, sequence & _LOW, sequence), _ESN_HEADER(spi, sequence)
        else:
            head = _HEADER_AND_IV(spi, sequence, sequence)
            associated = head[:8]
        return head + self._encrypt(self.salt + head[8:], plaintext, associated)

    def seal_all(self, spi: int, first: int, plaintexts: list[bytes]) -> list[bytes]:
        """See `EspTransform.seal_all`."""
        if self.esn:
            return [self.seal(spi, sequence, plaintext) for sequence, plaintext in enumerate(plaintexts, first)]
        salt, encrypt, sealed = self.salt, self._encrypt, []
        for sequence, plaintext in enumerate(plaintexts, first):
            head = _HEADER_AND_IV(spi, sequence, sequence)
            sealed.append(head + encrypt(salt + head[8:], plaintext, head[:8]))
        return sealed

    def open(self, packet: bytes, sequence: int) -> bytes:
        """See `EspTransform.open`."""
        associated = packet[:4] + sequence.to_bytes(8, "big") if self.esn else packet[:8]
        try:
            return self._decrypt(self.salt + packet[8:16], packet[16:], associated)
        except InvalidTag:
            raise PacketDroppedError(DropReason.INTEGRITY) from None


class CbcHmacTransform:
    """AES-CBC, then HMAC-SHA2 over header, IV, ciphertext and the high ESN half (RFC 4303, 2.8 and 3.3.2.2).

    Setting up a CBC context costs more than encrypting a packet with it, so each direction keeps one running. To seal,
    a random block goes first: the running cipher turns it into an unpredictable block, which is the packet's IV, and
    the next block is chained to it, just as CBC with that IV would (NIST SP 800-38A, appendix C, first method). To
    open, the IV is fed like ciphertext; what comes out for it is discarded, and the next block is chained to it.
    """

    iv_length = 16
    alignment = 16
    __slots__ = ("_decrypt", "_encrypt", "_esn", "_mac", "_random_bytes", "icv_length")

    def __init__(
        self, key: bytes, integrity_key: bytes, digest: str, icv_length: int, random_bytes: RandomBytes, *, esn: bool
    ) -> None:
        running = Cipher(algorithms.AES(key), modes.CBC(random_bytes(16)))
        self._random_bytes = random_bytes
        self._encrypt = running.encryptor().update
        self._decrypt = running.decryptor().update
        self._mac = hmac.new(integrity_key, digestmod=digest)
        self._esn = esn
        self.icv_length = icv_length

    def seal(self, spi: int, sequence: int, plaintext: bytes) -> bytes:
        """See `EspTransform.seal`."""
        protected = _HEADER(spi, sequence & _LOW) + self._encrypt(self._random_bytes(16) + plaintext)
        return protected + self._icv(protected, sequence)

    def seal_all(self, spi: int, first: int, plaintexts: list[bytes]) -> list[bytes]:
        """See `EspTransform.seal_all`."""
        return [self.seal(spi, sequence, plaintext) for sequence, plaintext in enumerate(plaintexts, first)]

    def open(self, packet: bytes, sequence: int) -> bytes:
        """See `EspTransform.open`; the integrity check comes before any decryption."""
        protected, icv = packet[: -self.icv_length], packet[-self.icv_length :]
        if len(protected) % 16 != HEADER_LENGTH or not hmac.compare_digest(self._icv(protected, sequence), icv):
            raise PacketDroppedError(DropReason.INTEGRITY)
        return self._decrypt(protected[HEADER_LENGTH:])[16:]

    def _icv(self, protected: bytes, sequence: int) -> bytes:
        mac = self._mac.copy()
        mac.update(protected)
        if self._esn:
            mac.update((sequence >> 32).to_bytes(4, "big"))
        return mac.digest()[: self.icv_length]


_INTEGRITY = {
    Integ.HMAC_SHA2_256_128: ("sha256", 32, 16),
    Integ.HMAC_SHA2_384_192: ("sha384", 48, 24),
    Integ.HMAC_SHA2_512_256: ("sha512", 64, 32),
}
"""Digest, key length and ICV length in bytes (RFC 4868, 2.3)."""
_AEAD: dict[Encr, type[AESGCM] | type[ChaCha20Poly1305]] = {
    Encr.AES_GCM_16: AESGCM,
    Encr.CHACHA20_POLY1305: ChaCha20Poly1305,
}


def build_transform(suite: EspSuite, keys: EspKeys, random_bytes: RandomBytes) -> EspTransform:
    """One direction's transform; `ConfigurationError` for algorithms or key lengths that ESP here does not have."""
    try:
        if suite.encryption in _AEAD and not suite.integrity and len(keys.salt) == 4:
            return AeadTransform(_AEAD[suite.encryption](keys.encryption), keys.salt, esn=suite.esn)
        digest, key_length, icv_length = _INTEGRITY[suite.integrity or Integ.NONE]
        if suite.encryption is not Encr.AES_CBC or len(keys.integrity) != key_length:
            raise ValueError
        return CbcHmacTransform(keys.encryption, keys.integrity, digest, icv_length, random_bytes, esn=suite.esn)
    except (KeyError, ValueError):
        raise ConfigurationError(f"ESP cannot use {suite}: unknown algorithms or wrong key lengths") from None
