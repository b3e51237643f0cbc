"""Operators' bearer tokens as they are stored: their hashes only (`warren_contracts.tokens`)."""

from dataclasses import dataclass
from datetime import datetime

from warren_contracts.commands import Role
from warren_contracts.names import Scope


@dataclass(frozen=True, slots=True)
class OperatorRow:
    """A stored bearer token."""

    name: str
    role: Role
    digest: bytes
    created_at: datetime
    expires_at: datetime | None
    created_by: str = ""
    scope: Scope | None = None  # the tags whose peers it is for; None: the whole fleet

    def valid(self, now: datetime) -> bool:
        return self.expires_at is None or now < self.expires_at
