"""Join tokens and operator tokens: their text, and what is kept of them.

Only SHA-256 hashes are at rest. A slow or salted hash would add nothing: a secret has 256 random bits, so there is no
dictionary to try and no two are alike; and the gateway can ask about a bearer token by its hash without ever sending it.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from warren_contracts.commands import Role
from warren_contracts.names import PeerId, Tag
from warren_contracts.peers import JOIN_TOKEN_PATTERN
from warren_contracts.tunnel import IPNetwork
from warren_registry.errors import JoinTokenRefusedError

JOIN_PREFIX = "wj1_"
OPERATOR_PREFIX = "wo1_"
BUS_USER_PREFIX = "op."
OPERATOR_TOKEN_PATTERN = r"^wo1_[a-z2-7]{52}$"  # noqa: S105 - a pattern
ID_BYTES = 10  # 80 bits: 16 letters, a name that does not repeat
SECRET_BYTES = 32  # 256 bits: see above

_JOIN = re.compile(JOIN_TOKEN_PATTERN.replace("$", r"\Z"))
_OPERATOR = re.compile(OPERATOR_TOKEN_PATTERN.replace("$", r"\Z"))

Random = Callable[[int], bytes]


class NewToken(NamedTuple):
    """A token that was just made: `text` goes to its owner once, `digest` to the database."""

    id: str
    text: str
    digest: bytes

    def __repr__(self) -> str:
        return f"NewToken(id={self.id!r})"


class PresentedToken(NamedTuple):
    """A join token that somebody shows: its id, and the hash of its secret."""

    id: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class JoinTokenRow:
    """A join token at rest."""

    id: str
    digest: bytes
    tags: tuple[Tag, ...]
    uses: int
    used: int
    created_at: datetime
    expires_at: datetime
    peer: PeerId | None = None
    subnets: tuple[IPNetwork, ...] = ()
    note: str = ""
    created_by: str = ""


@dataclass(frozen=True, slots=True)
class OperatorRow:
    """A bearer token at rest."""

    name: str
    role: Role
    digest: bytes
    created_at: datetime
    expires_at: datetime | None
    created_by: str = ""

    def valid(self, now: datetime) -> bool:
        return self.expires_at is None or now < self.expires_at


def bus_user(operator: str) -> str:
    """What an operator is called on the bus: no peer's id and no nkey has a dot."""
    return f"{BUS_USER_PREFIX}{operator}"


def new_join_token(random: Random, root: bytes) -> NewToken:
    """A new join token of a fleet whose trust root has the public key `root` (32 bytes)."""
    identifier, secret = _letters(random(ID_BYTES)), _letters(random(SECRET_BYTES))
    text = f"{JOIN_PREFIX}{identifier}_{secret}_{_letters(root)}"
    return NewToken(identifier, text, _digest(secret))


def new_operator_token(random: Random, name: str) -> NewToken:
    """A new bearer token."""
    text = OPERATOR_PREFIX + _letters(random(SECRET_BYTES))
    return NewToken(name, text, _digest(text))


def parse_join_token(text: str) -> PresentedToken:
    """What a shown token claims; JoinTokenRefusedError when it is none. The text is never quoted."""
    if _JOIN.match(text) is None:
        raise JoinTokenRefusedError("the join token is malformed: copy it whole, it begins with wj1_")
    _, identifier, secret, _ = text.split("_")
    return PresentedToken(identifier, _digest(secret))


def parse_operator_token(text: str) -> bytes | None:
    """The hash by which a bearer token is found; None when it is none."""
    return _digest(text) if _OPERATOR.match(text) else None


def recognise(token: JoinTokenRow | None, shown: PresentedToken) -> JoinTokenRow:
    """The token that was shown, spent or not; JoinTokenRefusedError when there is none such."""
    if token is None or not hmac.compare_digest(token.digest, shown.digest):
        raise JoinTokenRefusedError("the join token is unknown: ask an operator for a new one")
    return token


def require_usable(token: JoinTokenRow, now: datetime) -> None:
    """JoinTokenRefusedError when the token has expired or is used up."""
    if now >= token.expires_at:
        raise JoinTokenRefusedError(f"the join token {token.id} has expired: ask an operator for a new one")
    if token.used >= token.uses:
        raise JoinTokenRefusedError(f"the join token {token.id} is used up: ask an operator for a new one")


def _letters(raw: bytes) -> str:
    return base64.b32encode(raw).decode().rstrip("=").lower()


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
