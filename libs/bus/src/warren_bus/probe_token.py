"""The token of a health probe of the auth callout: a service's signature over the one-time key of the probing connection.

Without it a probe would be a connection with an unknown key, which the callout and nats-server log as an intruder's. The token
is of no use to another: the connection must also sign the server's nonce with the key that it names.
"""

import base64
import binascii

from warren_trust.errors import InvalidKeyError, InvalidSignatureError
from warren_trust.keys import KeyPair, raw_public_key, verify

PREFIX = "probe1_"


def build_probe_token(key: KeyPair, nkey: str) -> str:
    """`key` signs the calls of a service (`warren_trust.keys.call_key`), `nkey` is the connection's public key."""
    return PREFIX + base64.b64encode(key.sign(_signed_bytes(nkey))).decode()


def is_probe(token: str, nkey: str, public_key: str) -> bool:
    """Whether the service with this public key (base64) signed it for this connection."""
    try:
        signature = base64.b64decode(token.removeprefix(PREFIX), validate=True)
        verify(raw_public_key(public_key), _signed_bytes(nkey), signature)
    except (binascii.Error, ValueError, InvalidKeyError, InvalidSignatureError):
        return False
    return token.startswith(PREFIX)


def _signed_bytes(nkey: str) -> bytes:
    return f"warren-callout-probe-v1\n{nkey}".encode()
