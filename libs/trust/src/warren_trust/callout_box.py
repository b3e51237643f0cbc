"""Authorization requests sealed between nats-server and the callout: NATS's `xkey` of the auth callout.

A request holds what a client presented, tokens included. Sealed, only the callout can read it, not a thief of the key of its bus
user. The form is that of nkeys' curve keys: `xkv1`, a nonce of 24 bytes, and a NaCl box (X25519, XSalsa20-Poly1305).
https://docs.nats.io/running-a-nats-service/configuration/securing_nats/auth_callout
"""

from functools import lru_cache

from nacl.exceptions import CryptoError
from nacl.public import Box, PrivateKey, PublicKey

from warren_trust.errors import InvalidKeyError, InvalidTokenError
from warren_trust.keys import KeyKind, KeyPair, box_seed, decode_public

HEADER_SERVER_KEY = "Nats-Server-Xkey"
_VERSION = b"xkv1"
SERVERS = 64  # of one cluster


class CalloutBox:
    """The callout's end. The public half of its key is in the server's configuration (`keys.XKEY`)."""

    def __init__(self, issuer: KeyPair) -> None:
        self._key = PrivateKey(box_seed(issuer))
        self._box = lru_cache(SERVERS)(
            self._make_box
        )  # a server has one key as long as it runs, and 100 us go into a box

    def open(self, sealed: bytes, server: str) -> bytes:
        """A request of the server with this key (nkey form); raises InvalidTokenError when it is not sealed for us."""
        if not sealed.startswith(_VERSION):
            raise InvalidTokenError("the authorization request is not sealed: the server's configuration has no xkey")
        try:
            return self._box(server).decrypt(sealed[len(_VERSION) :])
        except (CryptoError, ValueError):
            raise InvalidTokenError("the authorization request is sealed for another callout") from None

    def seal(self, response: bytes, server: str) -> bytes:
        """A response that only this server can read; raises InvalidTokenError for an invalid key."""
        return _VERSION + bytes(self._box(server).encrypt(response))

    def _make_box(self, server: str) -> Box:
        try:
            return Box(self._key, PublicKey(decode_public(server, KeyKind.CURVE)))
        except InvalidKeyError as error:
            raise InvalidTokenError(f"the key of the server is invalid: {error}") from None
