"""Key exchange (RFC 7296, 3.4; RFC 8031; RFC 5903; RFC 9370 with ML-KEM): one interface for Diffie-Hellman and KEM.

The initiator creates an Exchange and later calls `shared` with the response; the responder calls `respond` with the request.
Public keys are checked as RFC 6989 requires; an invalid one raises ProtocolError.
"""

from collections.abc import Callable
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric import ec, mlkem, x448, x25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from warren_ikev2.constants import KeGroup
from warren_ikev2.crypto.modp import ModpExchange
from warren_ikev2.errors import ProtocolError


class Exchange(Protocol):
    """An ephemeral private key."""

    public: bytes
    """The data of our KE payload."""

    def shared(self, peer: bytes) -> bytes:
        """The secret, from the peer's KE data. ValueError: unusable."""


class X25519Exchange:
    """RFC 8031, 2. `key` is for published vectors; otherwise it is fresh."""

    def __init__(self, key: x25519.X25519PrivateKey | None = None) -> None:
        self._key = key or x25519.X25519PrivateKey.generate()
        self.public = self._key.public_key().public_bytes_raw()

    def shared(self, peer: bytes) -> bytes:
        """The secret. ValueError: wrong length, or a point of small order, which makes it zero."""
        return self._key.exchange(x25519.X25519PublicKey.from_public_bytes(peer))


class X448Exchange:
    """RFC 8031, 2."""

    def __init__(self, key: x448.X448PrivateKey | None = None) -> None:
        self._key = key or x448.X448PrivateKey.generate()
        self.public = self._key.public_key().public_bytes_raw()

    def shared(self, peer: bytes) -> bytes:
        """The secret. ValueError: wrong length, or a point of small order, which makes it zero."""
        return self._key.exchange(x448.X448PublicKey.from_public_bytes(peer))


class EcpExchange:
    """RFC 5903, and RFC 6954 for brainpool's curves: x and y without the leading 4; the secret is only x."""

    def __init__(self, curve: ec.EllipticCurve, private_value: int | None = None) -> None:
        self._curve = curve
        if private_value is None:
            self._key = ec.generate_private_key(curve)
        else:
            self._key = ec.derive_private_key(private_value, curve)
        point = self._key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        self.public = point[1:]

    def shared(self, peer: bytes) -> bytes:
        """The x coordinate of the shared point. ValueError: not on the curve."""
        point = ec.EllipticCurvePublicKey.from_encoded_point(self._curve, b"\x04" + peer)
        return self._key.exchange(ec.ECDH(), point)


class MlKem768Exchange:
    """The side that decapsulates (FIPS 203, 7.3)."""

    def __init__(self, key: mlkem.MLKEM768PrivateKey | None = None) -> None:
        self._key = key or mlkem.MLKEM768PrivateKey.generate()
        self.public = self._key.public_key().public_bytes_raw()

    def shared(self, peer: bytes) -> bytes:
        """The secret; another one, not an error, for a forged ciphertext. ValueError: wrong length."""
        return self._key.decapsulate(peer)


class MlKem1024Exchange:
    """The side that decapsulates (FIPS 203, 7.3)."""

    def __init__(self, key: mlkem.MLKEM1024PrivateKey | None = None) -> None:
        self._key = key or mlkem.MLKEM1024PrivateKey.generate()
        self.public = self._key.public_key().public_bytes_raw()

    def shared(self, peer: bytes) -> bytes:
        """The secret; another one, not an error, for a forged ciphertext. ValueError: wrong length."""
        return self._key.decapsulate(peer)


_EXCHANGES: dict[KeGroup, Callable[[], Exchange]] = {
    KeGroup.MODP_2048: lambda: ModpExchange(KeGroup.MODP_2048),
    KeGroup.MODP_3072: lambda: ModpExchange(KeGroup.MODP_3072),
    KeGroup.MODP_4096: lambda: ModpExchange(KeGroup.MODP_4096),
    KeGroup.ECP_256: lambda: EcpExchange(ec.SECP256R1()),
    KeGroup.ECP_384: lambda: EcpExchange(ec.SECP384R1()),
    KeGroup.ECP_521: lambda: EcpExchange(ec.SECP521R1()),
    KeGroup.BRAINPOOL_P256R1: lambda: EcpExchange(ec.BrainpoolP256R1()),
    KeGroup.BRAINPOOL_P384R1: lambda: EcpExchange(ec.BrainpoolP384R1()),
    KeGroup.BRAINPOOL_P512R1: lambda: EcpExchange(ec.BrainpoolP512R1()),
    KeGroup.X25519: X25519Exchange,
    KeGroup.X448: X448Exchange,
    KeGroup.ML_KEM_768: MlKem768Exchange,
    KeGroup.ML_KEM_1024: MlKem1024Exchange,
}


def start(group: KeGroup) -> Exchange:
    """A fresh ephemeral key."""
    return _EXCHANGES[group]()


def finish(exchange: Exchange, peer: bytes) -> bytes:
    """The initiator's secret. ProtocolError: the peer's key is unusable."""
    try:
        return exchange.shared(peer)
    except ValueError as error:
        raise ProtocolError("the peer's key exchange data is not usable") from error


def respond(group: KeGroup, peer: bytes) -> tuple[bytes, bytes]:
    """The responder's KE data and secret. ProtocolError: the peer's key is unusable."""
    if group in (KeGroup.ML_KEM_768, KeGroup.ML_KEM_1024):
        return _encapsulate(group, peer)
    exchange = start(group)
    return exchange.public, finish(exchange, peer)


def _encapsulate(group: KeGroup, peer: bytes) -> tuple[bytes, bytes]:
    try:
        if group == KeGroup.ML_KEM_768:
            secret, ciphertext = mlkem.MLKEM768PublicKey.from_public_bytes(peer).encapsulate()
        else:
            secret, ciphertext = mlkem.MLKEM1024PublicKey.from_public_bytes(peer).encapsulate()
    except ValueError as error:
        raise ProtocolError("the peer's ML-KEM key is not usable") from error
    return ciphertext, secret
