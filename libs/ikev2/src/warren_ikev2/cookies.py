"""Stateless cookies against floods of IKE_SA_INIT (RFC 7296, 2.6)."""

from cryptography.hazmat.primitives.constant_time import bytes_eq

from warren_ikev2.addresses import SocketAddress
from warren_ikev2.constants import Prf
from warren_ikev2.crypto.prf import prf
from warren_ikev2.randomness import RandomBytes

ROTATION = 60.0  # seconds until a new secret; cookies of the previous one are still accepted


class CookieGenerator:
    """Cookie = number of the secret | HMAC(secret, Ni | address | port | SPIi)."""

    def __init__(self, random_bytes: RandomBytes) -> None:
        self._random_bytes = random_bytes
        self._version = 0
        self._rotated_at = float("-inf")
        self._secrets: dict[int, bytes] = {}

    def generate(self, nonce: bytes, source: SocketAddress, spi_i: bytes, now: float) -> bytes:
        """Return the cookie that the peer must return."""
        if now - self._rotated_at >= ROTATION:
            self._version = (self._version + 1) % 256
            self._secrets = {
                self._version: self._random_bytes(32),
                **{v: s for v, s in self._secrets.items() if v == (self._version - 1) % 256},
            }
            self._rotated_at = now
        return self._cookie(self._version, nonce, source, spi_i)

    def accepts(self, cookie: bytes, nonce: bytes, source: SocketAddress, spi_i: bytes) -> bool:
        """Whether we generated the cookie for this peer and request."""
        if not cookie or cookie[0] not in self._secrets:
            return False
        return bytes_eq(cookie, self._cookie(cookie[0], nonce, source, spi_i))

    def _cookie(self, version: int, nonce: bytes, source: SocketAddress, spi_i: bytes) -> bytes:
        data = nonce + source.host.packed + source.port.to_bytes(2, "big") + spi_i
        return bytes([version]) + prf(Prf.HMAC_SHA2_256, self._secrets[version], data)
