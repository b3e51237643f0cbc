"""Join tokens and operator tokens as the registry stores them: their hashes only (`warren_contracts.tokens`)."""

from dataclasses import dataclass
from datetime import datetime

from warren_contracts.commands import Role
from warren_contracts.names import PeerId, Tag
from warren_contracts.tunnel import IPNetwork


@dataclass(frozen=True, slots=True)
class JoinTokenRow:
    """A stored join token."""

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
    """A stored bearer token."""

    name: str
    role: Role
    digest: bytes
    created_at: datetime
    expires_at: datetime | None
    created_by: str = ""

    def valid(self, now: datetime) -> bool:
        return self.expires_at is None or now < self.expires_at
