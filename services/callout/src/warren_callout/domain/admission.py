"""The auth callout's decision: which account, name and permissions a connection gets.

With an auth callout, nats-server does not verify the client's signature over its nonce, and the `user` of a CONNECT is
only the client's claim. So the signature is verified here before anything is looked up. Then, by what was presented:

    presented                     account  named       permissions
    an operator's bearer token    OPS      op.<name>   the verbs of its role, and what is live; refused with a scope
    a join token and a key        AGENTS   <nkey>      the one RPC that enrols this key
    a key                         AGENTS   <peer>      the subjects of its peer's readers
    a key and a probe's token     OPS      probe       nothing, for five seconds: the API server's health checks

Anything else is refused. The reason goes to the server's log, never to the client, and contains no token.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from warren_bus.probe_token import PREFIX as PROBE_PREFIX
from warren_bus.probe_token import is_probe
from warren_contracts.commands import Role
from warren_contracts.names import is_name
from warren_contracts.tokens import (
    JOIN_PREFIX,
    JoinTokenRefusedError,
    PresentedToken,
    bus_user,
    parse_join_token,
    parse_operator_token,
    require_usable,
    verify_join_token,
)
from warren_service.permissions import Permissions, agent, enrolling, operator, probing
from warren_trust.errors import InvalidKeyError, InvalidTokenError
from warren_trust.jwt import verify_nonce
from warren_trust.keys import KeyKind, decode_public

AUDIENCE = "nats-authorization-request"
AGENTS = "AGENTS"
OPS = "OPS"
CLOCK_TOLERANCE_S = 120.0
ENROLLING = timedelta(seconds=60)  # of a connection that may only enrol: a call takes 15 s at most
PROBE = "probe"
PROBING = timedelta(seconds=5)  # of a health probe's connection, which it closes itself
MAX_FIELD = 512  # characters of a CONNECT field; the longest genuine one is a join token with 126


class AdmissionRefusedError(Exception):
    """The connection is refused; the text is for the server's log."""


@dataclass(frozen=True, slots=True)
class AuthRequest:
    """A parsed authorization request. `user` is the one-time key that the response must name."""

    server: str
    user: str
    nkey: str = ""
    signature: str = ""
    nonce: str = ""
    token: str = ""
    address: str = ""  # of the client, as the server sees it

    def __repr__(self) -> str:
        token = "present" if self.token else "none"
        return f"AuthRequest(server={self.server!r}, nkey={self.nkey[:8]!r}..., token={token})"


class OperatorCredential(NamedTuple):
    """A bearer token, by its hash."""

    digest: bytes


class JoinCredential(NamedTuple):
    """A verified key and a join token."""

    nkey: str
    token: PresentedToken


class KeyCredential(NamedTuple):
    """A verified key."""

    nkey: str


class ProbeCredential(NamedTuple):
    """A verified key and a token that says that a service probes."""

    nkey: str
    token: str


Credential = OperatorCredential | JoinCredential | KeyCredential | ProbeCredential


class KeyStatus(NamedTuple):
    """What the rows say about a key. `id` is empty for a key of no peer; `version` orders rows of one key."""

    nkey: str
    id: str = ""
    tags: tuple[str, ...] = ()
    version: int = 0
    revoked: bool = False


@dataclass(frozen=True, slots=True)
class JoinTokenState:
    """A stored join token, as far as a connection needs it."""

    id: str
    digest: bytes
    uses: int
    used: int
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class OperatorTokenRow:
    """A stored bearer token, as far as a connection needs it."""

    name: str
    role: Role
    digest: bytes
    expires_at: datetime | None
    scoped: bool = False  # it is for a part of the fleet

    def valid(self, now: datetime) -> bool:
        return self.expires_at is None or now < self.expires_at


class Grant(NamedTuple):
    """An accepted connection."""

    account: str
    name: str
    permissions: Permissions
    expires_at: datetime | None = None  # when nats-server closes the connection
    join_token: str = ""  # the id of the token that opened a connection to enrol


def parse_request(claims: Mapping[str, Any], now: float) -> AuthRequest:
    """Parse the claims of an authorization request whose signature was verified. Raises AdmissionRefusedError.

    The server signs with its own key and names itself twice. A request expires within seconds by the server's clock, which may be
    behind ours by CLOCK_TOLERANCE_S; it is for one connection only, whose nonce its credentials are compared with.
    """
    try:
        nats = claims["nats"]
        server, user = str(nats["server_id"]["id"]), str(nats["user_nkey"])
        options, client = dict(nats["connect_opts"]), dict(nats["client_info"])
        expires = float(claims["exp"])
    except (KeyError, TypeError, ValueError):
        raise AdmissionRefusedError("the authorization request is malformed") from None
    if claims.get("aud") != AUDIENCE or claims.get("iss") != server:
        raise AdmissionRefusedError("the authorization request was not issued by the server that it names")
    if expires + CLOCK_TOLERANCE_S <= now:
        raise AdmissionRefusedError(
            f"the authorization request expired {now - expires:.0f} s ago: the clocks of nats-server's host and of this one differ,"
            " synchronise them"
        )
    return AuthRequest(
        server=server, user=user, nkey=_text(options, "nkey"), signature=_text(options, "sig"),
        nonce=_text(client, "nonce"), token=_text(options, "auth_token"), address=_text(client, "host"),
    )  # fmt: skip


def verify_credential(request: AuthRequest) -> Credential:
    """The credential of a request, its key verified by the signature over the nonce. Raises AdmissionRefusedError."""
    bearer = parse_operator_token(request.token)
    if bearer is not None:
        return OperatorCredential(bearer)
    if not request.nkey:
        raise AdmissionRefusedError("neither a key nor an operator's token was presented")
    if not request.signature or not request.nonce:
        raise AdmissionRefusedError("the key was not verified: no signature over the nonce")
    try:
        decode_public(request.nkey, KeyKind.USER)
        verify_nonce(request.nkey, request.nonce, request.signature)
    except (InvalidKeyError, InvalidTokenError):
        raise AdmissionRefusedError("the key was not verified: invalid signature over the nonce") from None
    if not request.token:
        return KeyCredential(request.nkey)
    if request.token.startswith(PROBE_PREFIX):
        return ProbeCredential(request.nkey, request.token)
    if not request.token.startswith(JOIN_PREFIX):
        raise AdmissionRefusedError("the token is of an unknown kind")
    try:
        return JoinCredential(request.nkey, parse_join_token(request.token))
    except JoinTokenRefusedError as error:
        raise AdmissionRefusedError(error.detail) from None


def admit_operator(token: OperatorTokenRow | None, now: datetime) -> Grant:
    """Admit a person or another system by a bearer token."""
    if token is None or not token.valid(now):
        raise AdmissionRefusedError("the operator's token is unknown or has expired")
    if token.scoped:
        raise AdmissionRefusedError(
            "the operator's token has a scope: it is for the API, as the bus has no part of a fleet"
        )
    if not is_name(token.name):
        raise AdmissionRefusedError("the operator's name is invalid")
    return Grant(OPS, bus_user(token.name), operator(token.name, token.role), token.expires_at)


def admit_probe(credential: ProbeCredential, prober: str, now: datetime) -> Grant:
    """Admit a health probe, which may do nothing. `prober` is the public key of the API server's calls."""
    if not prober or not is_probe(credential.token, credential.nkey, prober):
        raise AdmissionRefusedError("the probe's token is not signed by the API server")
    return Grant(OPS, PROBE, probing(), now + PROBING)


def admit_joining(credential: JoinCredential, stored: JoinTokenState | None, key: KeyStatus, now: datetime) -> Grant:
    """Admit a key that is to be enrolled. An enrolled key may repeat the request with a token that is used up by now:
    the reply may have been lost. The RPC counts the use in its transaction, not the callout.

    The connection ends after a minute, or with its token: an agent that has not enrolled by then reconnects.
    """
    if key.revoked:
        raise AdmissionRefusedError("the key is revoked")
    try:
        verified = verify_join_token(stored, credential.token)
        if not key.id:
            require_usable(verified, now)
    except JoinTokenRefusedError as error:
        raise AdmissionRefusedError(error.detail) from None
    end = min(now + ENROLLING, verified.expires_at) if now < verified.expires_at else now + ENROLLING
    return Grant(AGENTS, credential.nkey, enrolling(credential.nkey), end, verified.id)


def admit_peer(key: KeyStatus) -> Grant:
    """Admit an enrolled peer to its own readers. Names are checked again: a `>` in one would grant every subject."""
    if key.revoked:
        raise AdmissionRefusedError("the key is revoked")
    if not key.id:
        raise AdmissionRefusedError("the key is not enrolled")
    if not is_name(key.id) or not all(map(is_name, key.tags)):
        raise AdmissionRefusedError("the peer's id or one of its tags is invalid")
    try:
        return Grant(AGENTS, key.id, agent(key.id, key.tags))
    except ValueError as error:
        raise AdmissionRefusedError(str(error)) from None


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name, "")
    if not isinstance(value, str) or len(value) > MAX_FIELD:
        raise AdmissionRefusedError(f"the field {name} is malformed")
    return value
