"""Join tokens and operator tokens: their text, and how a presented one is compared with the stored hash.

Only SHA-256 hashes are stored. A slow or salted hash would add nothing: a secret has 256 random bits, so there is no
dictionary to try and no two are alike; and the API server can look a bearer token up by its hash without sending it.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple, Protocol, TypeVar

from warren_contracts.peers import JOIN_TOKEN_PATTERN
from warren_contracts.problems import WarrenError

JOIN_PREFIX = "wj1_"
OPERATOR_PREFIX = "wo1_"
BUS_USER_PREFIX = "op."
OPERATOR_TOKEN_PATTERN = r"^wo1_[a-z2-7]{52}$"  # noqa: S105 - a pattern
ID_BYTES = 10  # 80 bits: 16 letters, a name that does not repeat
SECRET_BYTES = 32  # 256 bits: see above
CHECK_BYTES = 4  # a mistyped character is missed once in 4 billion

_JOIN = re.compile(JOIN_TOKEN_PATTERN.replace("$", r"\Z"))
_OPERATOR = re.compile(OPERATOR_TOKEN_PATTERN.replace("$", r"\Z"))

RandomBytes = Callable[[int], bytes]


class JoinTokenRefusedError(WarrenError):
    """The join token is unknown, expired or used up: ask an operator for a new one."""

    code = "join-token-refused"
    status = 401


class NewToken(NamedTuple):
    """A token that was just created: `text` goes to its owner once, `digest` to the database."""

    id: str
    text: str
    digest: bytes

    def __repr__(self) -> str:
        return f"NewToken(id={self.id!r})"


class PresentedToken(NamedTuple):
    """A join token as presented: its id, and the hash of its secret."""

    id: str
    digest: bytes


class TrustAnchors(NamedTuple):
    """What a join token says of its fleet: the root's public key, and the SHA-256 of the bus's CA (None: no TLS)."""

    root: bytes
    authority: bytes | None


class StoredJoinToken(Protocol):
    """What a stored join token must have to be compared with a presented one."""

    @property
    def id(self) -> str: ...
    @property
    def digest(self) -> bytes: ...
    @property
    def uses(self) -> int: ...
    @property
    def used(self) -> int: ...
    @property
    def expires_at(self) -> datetime: ...


StoredT = TypeVar("StoredT", bound=StoredJoinToken)


def bus_user(operator: str) -> str:
    """The name of an operator's connection on the bus: no peer id and no nkey contains a dot."""
    return f"{BUS_USER_PREFIX}{operator}"


def operator_of(user: str) -> str:
    """The operator whose connection has this name, as the audit log and the API name them."""
    return user.removeprefix(BUS_USER_PREFIX)


def new_join_token(random: RandomBytes, root: bytes, authority: bytes | None = None) -> NewToken:
    """A new join token of a fleet whose trust root has the public key `root`, and its bus the CA `authority` (SHA-256; 32 bytes each)."""
    identifier, secret = _letters(random(ID_BYTES)), _letters(random(SECRET_BYTES))
    text = join_token_text(identifier, secret, root, authority)
    return NewToken(identifier, text, _digest(secret))


def join_token_text(identifier: str, secret: str, root: bytes, authority: bytes | None = None) -> str:
    """The text of a join token, with its checksum."""
    anchors = "_".join(_letters(raw) for raw in (root, authority) if raw is not None)
    text = f"{JOIN_PREFIX}{identifier}_{secret}_{anchors}"
    return f"{text}_{_check(text)}"


def new_operator_token(random: RandomBytes, name: str) -> NewToken:
    """A new bearer token."""
    text = OPERATOR_PREFIX + _letters(random(SECRET_BYTES))
    return NewToken(name, text, _digest(text))


def parse_join_token(text: str) -> PresentedToken:
    """Parse a join token; JoinTokenRefusedError if it is malformed. The error never quotes it."""
    _, identifier, secret, *_ = _parts(text)
    return PresentedToken(identifier, _digest(secret))


def trust_anchors(text: str) -> TrustAnchors:
    """By what a joining host verifies its fleet; JoinTokenRefusedError for a token that is malformed or mistyped."""
    _, _, _, root, *rest = _parts(text)
    return TrustAnchors(_raw(root), _raw(rest[0]) if len(rest) == 2 else None)


def _parts(text: str) -> list[str]:
    if _JOIN.match(text) is None:
        raise JoinTokenRefusedError("the join token is malformed: copy all of it; it begins with wj1_")
    before, _, check = text.rpartition("_")
    if check != _check(before):
        raise JoinTokenRefusedError("the join token is mistyped (its checksum does not match): copy it again")
    return text.split("_")


def parse_operator_token(text: str) -> bytes | None:
    """The hash by which a bearer token is stored; None if it is malformed."""
    return _digest(text) if _OPERATOR.match(text) else None


def verify_join_token(stored: StoredT | None, presented: PresentedToken) -> StoredT:
    """The stored token if the presented secret matches, used up or not; JoinTokenRefusedError otherwise."""
    if stored is None or not hmac.compare_digest(stored.digest, presented.digest):
        raise JoinTokenRefusedError("the join token is unknown: ask an operator for a new one")
    return stored


def require_usable(stored: StoredJoinToken, now: datetime) -> None:
    """JoinTokenRefusedError if the token has expired or is used up."""
    if now >= stored.expires_at:
        raise JoinTokenRefusedError(f"the join token {stored.id} has expired: ask an operator for a new one")
    if stored.used >= stored.uses:
        raise JoinTokenRefusedError(f"the join token {stored.id} is used up: ask an operator for a new one")


def _check(text: str) -> str:
    return _letters(hashlib.sha256(text.encode()).digest()[:CHECK_BYTES])


def _raw(letters: str) -> bytes:
    try:
        return base64.b32decode(letters.upper() + "=" * (-len(letters) % 8))
    except binascii.Error:
        raise JoinTokenRefusedError("the join token is malformed: copy all of it; it begins with wj1_") from None


def _letters(raw: bytes) -> str:
    return base64.b32encode(raw).decode().rstrip("=").lower()


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
