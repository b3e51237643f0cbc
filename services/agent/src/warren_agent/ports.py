"""What the agent needs of the world besides a driver."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from warren_agent.spool import Letter
from warren_contracts.names import PeerId
from warren_contracts.peers import Announcement, PeerRecord
from warren_contracts.policy import PolicySet, PublishedPolicy
from warren_contracts.subjects import Reader


@dataclass(frozen=True)
class Intent:
    """Everything verified that this peer may read, complete at one moment."""

    peer: PeerId
    epoch: int
    policies: Mapping[Reader, PolicySet]
    directory: Mapping[PeerId, PeerRecord]
    delivered_at: datetime
    traceparent: str = ""  # of the change that made it
    tags: tuple[str, ...] = field(default=())

    @property
    def revision(self) -> int:
        """The highest policy revision in it; 0 when no policy was ever published."""
        return max((documents.revision for documents in self.policies.values()), default=0)

    def published(self) -> list[PublishedPolicy]:
        """All policies of all its readers."""
        return [policy for documents in self.policies.values() for policy in documents.policies]


class IntentSource(Protocol):
    """Where intents come from."""

    def intents(self) -> AsyncIterator[Intent]:
        """Every intent that differs from the one before; for ever, whatever becomes of the bus."""

    @property
    def sync_errors(self) -> int:
        """How often a document was refused or could not be had."""


class Outlet(Protocol):
    """Where telemetry goes."""

    async def send(self, letter: Letter) -> None:
        """Store one message; NotDeliveredError when the bus is away."""


class Registry(Protocol):
    """Where this peer tells what it is."""

    async def announce(self, announcement: Announcement) -> None:
        """Tell it; NotDeliveredError when the bus is away."""
