"""NATS JWTs of an authorization callout: the two tokens that a callout writes and the one that it reads.

Format: JOSE header `{"typ":"JWT","alg":"ed25519-nkey"}`, base64url without padding, Ed25519 over `header.claims`
(https://github.com/nats-io/jwt, README; ADR-26 for the authorization request and response). `jti` is the base32 SHA-512/256 of
the claims with an empty `jti`.
"""

import base64
import binascii
import hashlib
import json
from typing import Any

from warren_trust.errors import InvalidKeyError, InvalidSignatureError, InvalidTokenError
from warren_trust.keys import KeyKind, KeyPair, decode_public, verify

MAX_TOKEN = 64 * 1024  # bytes; a request of the server has some 2 kB
Claims = dict[str, Any]


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _unb64(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise InvalidTokenError("a part of the token is not base64url") from None


_HEADER = _b64(json.dumps({"typ": "JWT", "alg": "ed25519-nkey"}, separators=(",", ":")).encode())


def encode(key: KeyPair, claims: Claims, issued_at: int) -> str:
    """Sign claims; `issued_at` is in seconds since the epoch."""
    text = json.dumps({**claims, "iss": key.public, "iat": issued_at}, separators=(",", ":"))
    identifier = base64.b32encode(hashlib.new("sha512_256", text.encode()).digest()).rstrip(b"=").decode()
    named = f'{text[:-1]},"jti":"{identifier}"}}'
    body = f"{_HEADER}.{_b64(named.encode())}"
    return f"{body}.{_b64(key.sign(body.encode()))}"


def decode(token: bytes, kind_letter: str = "N") -> Claims:
    """Verify a token by the key that it names as its issuer, and return its claims; raises InvalidTokenError.

    `kind_letter` is the issuer's nkey kind (N: a server). The caller decides whether to trust that issuer.
    """
    parts = token.decode("ascii", "replace").split(".")
    if len(token) > MAX_TOKEN or len(parts) != 3:
        raise InvalidTokenError("not three parts, or too long")
    try:
        claims = json.loads(_unb64(parts[1]))
        issuer = claims["iss"]
        verify(_issuer_key(issuer, kind_letter), f"{parts[0]}.{parts[1]}".encode(), _unb64(parts[2]))
    except (ValueError, KeyError, TypeError, RecursionError):
        raise InvalidTokenError("claims are not a JSON object with an issuer") from None
    except (InvalidKeyError, InvalidSignatureError):
        raise InvalidTokenError from None
    return dict(claims)


def _issuer_key(issuer: str, kind_letter: str) -> bytes:
    raw = base64.b32decode(issuer + "=" * (-len(issuer) % 8))
    if len(raw) != 35 or issuer[:1] != kind_letter:
        raise InvalidKeyError
    if binascii.crc_hqx(raw[:-2], 0) != int.from_bytes(raw[-2:], "little"):
        raise InvalidKeyError
    return raw[1:33]


def user_token(
    issuer: KeyPair, user_nkey: str, name: str, account: str, permissions: Claims, issued_at: int,
    expires_at: int | None = None,
) -> str:  # fmt: skip
    """The user JWT of an accepted connection: `name` becomes the connection's user everywhere.

    `expires_at` (seconds since the epoch): the server closes a client whose token expires for good. Peers have none, and are revoked
    by the row and a KICK.
    """
    nats = {"type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1, **permissions}
    end = {} if expires_at is None else {"exp": expires_at}
    return encode(issuer, {"name": name, "sub": user_nkey, "aud": account, "nats": nats, **end}, issued_at)


def response_token(
    issuer: KeyPair, user_nkey: str, server_id: str, issued_at: int, *, user_jwt: str = "", error: str = ""
) -> str:
    """The reply to an authorization request: a user JWT, or an error text (logged by the server, never sent to the client)."""
    nats: Claims = {"type": "authorization_response", "version": 2}
    nats.update({"jwt": user_jwt} if user_jwt else {"error": error or "refused"})
    return encode(issuer, {"sub": user_nkey, "aud": server_id, "nats": nats}, issued_at)


def verify_nonce(nkey: str, nonce: str, signature: str) -> None:
    """Verify a client's signature over the server's nonce: the server does not when a callout decides (docs/bus.md).

    nats-py signs in standard base64 with padding, Go in raw base64url. Raises InvalidTokenError.
    """
    try:
        verify(decode_public(nkey, KeyKind.USER), nonce.encode(), _unb64(signature.rstrip("=").translate(_TO_URL)))
    except (InvalidKeyError, InvalidSignatureError):
        raise InvalidTokenError("the nonce is not signed by this nkey") from None


_TO_URL = str.maketrans("+/", "-_")
