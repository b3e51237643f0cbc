"""Join tokens as they are stored: their hashes only (`warren_contracts.tokens`)."""

from dataclasses import dataclass
from datetime import datetime

from warren_contracts.addresses import IPNetwork
from warren_contracts.names import PeerId, Tag


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
