"""Who may connect, and with which rights: the decision of the auth callout.

The server does not verify the signature over its nonce when a callout decides, and `user` is what the client claims: so
nothing is believed here before the signature has been verified. Then three doors, tried by what was shown:

    shown                          account  named       may
    an operator's bearer token     OPS      op.<name>   policy's verbs by role, events
    a join token, and a key        AGENTS   <nkey>      the one RPC that enrols this key
    a key alone                    AGENTS   <peer>      what its peer's own readers allow

Anything else, anything malformed and anything unknown is refused. A refusal's text goes to the server's log and never to
the client; it names no token.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from warren_contracts.names import is_name
from warren_registry.domain.tokens import (
    JOIN_PREFIX,
    JoinTokenRow,
    OperatorRow,
    PresentedToken,
    bus_user,
    parse_join_token,
    parse_operator_token,
    recognise,
    require_usable,
)
from warren_registry.errors import JoinTokenRefusedError
from warren_service.permissions import Permissions, agent, enrolling, operator
from warren_trust.errors import InvalidKeyError, InvalidTokenError
from warren_trust.jwt import verify_nonce
from warren_trust.keys import KeyKind, decode_public

AUDIENCE = "nats-authorization-request"
AGENTS = "AGENTS"
OPS = "OPS"
MAX_FIELD = 512  # bytes of a field of a CONNECT that we look at; the longest genuine one is a join token with 126


class AdmissionRefusedError(Exception):
    """The connection is refused; the text is for the server's log."""


@dataclass(frozen=True, slots=True)
class AuthRequest:
    """An authorization request, parsed. `user` is the one-time key that the answer must name."""

    server: str
    user: str
    nkey: str = ""
    signature: str = ""
    nonce: str = ""
    token: str = ""

    def __repr__(self) -> str:
        return f"Ask(server={self.server!r}, nkey={self.nkey[:8]!r}..., token={'given' if self.token else 'none'})"


class OperatorCredential(NamedTuple):
    """A bearer token, by its hash."""

    digest: bytes


class JoinCredential(NamedTuple):
    """A proved key and a join token."""

    nkey: str
    token: PresentedToken


class KeyCredential(NamedTuple):
    """A proved key alone."""

    nkey: str


Shown = OperatorCredential | JoinCredential | KeyCredential


class KeyRight(NamedTuple):
    """What the rows say about a key. `id` is empty for a key that is no peer's; `version` orders what is known of it."""

    nkey: str
    id: str = ""
    tags: tuple[str, ...] = ()
    version: int = 0
    revoked: bool = False


class Grant(NamedTuple):
    """An accepted connection."""

    account: str
    name: str
    permissions: Permissions
    expires_at: datetime | None = None  # when the server closes the connection by itself


def parse_ask(claims: Mapping[str, Any], now: float) -> AuthRequest:
    """The request in the claims of a token whose signature was verified. Raises AdmissionRefusedError.

    The server signs by its own key and names itself twice; `exp` keeps an old request from being answered again.
    """
    try:
        nats = claims["nats"]
        server, user = str(nats["server_id"]["id"]), str(nats["user_nkey"])
        options, client = dict(nats["connect_opts"]), dict(nats["client_info"])
        expires = float(claims["exp"])
    except (KeyError, TypeError, ValueError):
        raise AdmissionRefusedError("the authorization request is malformed") from None
    if claims.get("aud") != AUDIENCE or claims.get("iss") != server:
        raise AdmissionRefusedError("the authorization request is not the server's own")
    if expires <= now:
        raise AdmissionRefusedError("the authorization request has expired")
    return AuthRequest(
        server=server, user=user, nkey=_text(options, "nkey"), signature=_text(options, "sig"),
        nonce=_text(client, "nonce"), token=_text(options, "auth_token"),
    )  # fmt: skip


def prove(ask: AuthRequest) -> Shown:
    """What the client has shown, its key proved by its signature over the server's nonce. Raises AdmissionRefusedError."""
    bearer = parse_operator_token(ask.token)
    if bearer is not None:
        return OperatorCredential(bearer)
    if not ask.nkey:
        raise AdmissionRefusedError("neither a key nor an operator's token was shown")
    if not ask.signature or not ask.nonce:
        raise AdmissionRefusedError("the key was not proved: no signature over the nonce")
    try:
        decode_public(ask.nkey, KeyKind.USER)
        verify_nonce(ask.nkey, ask.nonce, ask.signature)
    except (InvalidKeyError, InvalidTokenError):
        raise AdmissionRefusedError("the key was not proved: the signature over the nonce is wrong") from None
    if not ask.token:
        return KeyCredential(ask.nkey)
    if not ask.token.startswith(JOIN_PREFIX):
        raise AdmissionRefusedError("the token is of no kind that is known")
    try:
        return JoinCredential(ask.nkey, parse_join_token(ask.token))
    except JoinTokenRefusedError as error:
        raise AdmissionRefusedError(error.detail) from None


def admit_operator(row: OperatorRow | None, now: datetime) -> Grant:
    """A person or another system."""
    if row is None or not row.valid(now):
        raise AdmissionRefusedError("the operator's token is unknown or has expired")
    if not is_name(row.name):
        raise AdmissionRefusedError("the operator's name is no name")
    return Grant(OPS, bus_user(row.name), operator(row.name, row.role), row.expires_at)


def admit_joining(shown: JoinCredential, token: JoinTokenRow | None, right: KeyRight, now: datetime) -> Grant:
    """A key that wants to enrol. One that is enrolled already may ask again by a token that is spent meanwhile: the reply
    may have been lost on its way. Nothing is spent here: the RPC does it, in its transaction."""
    if right.revoked:
        raise AdmissionRefusedError("the key is revoked")
    try:
        known = recognise(token, shown.token)
        if not right.id:
            require_usable(known, now)
    except JoinTokenRefusedError as error:
        raise AdmissionRefusedError(error.detail) from None
    return Grant(AGENTS, shown.nkey, enrolling(shown.nkey))


def admit_peer(right: KeyRight) -> Grant:
    """An enrolled peer: its own readers, and nothing else. Names are checked here again, since a `>` would be a right."""
    if right.revoked:
        raise AdmissionRefusedError("the key is revoked")
    if not right.id:
        raise AdmissionRefusedError("the key is not enrolled")
    if not is_name(right.id) or not all(map(is_name, right.tags)):
        raise AdmissionRefusedError("the peer's id or one of its tags is no name")
    try:
        return Grant(AGENTS, right.id, agent(right.id, right.tags))
    except ValueError as error:
        raise AdmissionRefusedError(str(error)) from None


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name, "")
    if not isinstance(value, str) or len(value) > MAX_FIELD:
        raise AdmissionRefusedError(f"the field {name} is malformed")
    return value
