"""What the agent needs of the world besides a driver."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from warren_agent.telemetry.message import TelemetryMessage
from warren_bus.feed.state import FeedState
from warren_contracts.peers import Announcement


@dataclass(frozen=True)
class Intent:
    """Everything verified that this peer may read, complete at one moment, and how it came."""

    state: FeedState
    delivered_at: datetime
    traceparent: str = ""  # of the change that made it

    @property
    def epoch(self) -> int:
        return self.state.epoch

    @property
    def revision(self) -> int:
        """The highest policy revision in it; 0 when no policy was ever published."""
        return self.state.policy_revision


class IntentSource(Protocol):
    """Where intents come from."""

    def intents(self) -> AsyncIterator[Intent]:
        """Every intent that differs from the one before; forever, also while the bus is unavailable."""

    @property
    def sync_errors(self) -> int:
        """How often a document was refused or could not be had."""


class TelemetrySink(Protocol):
    """Where telemetry goes."""

    async def send(self, telemetry_message: TelemetryMessage) -> None:
        """Store one message; NotDeliveredError when the bus is unavailable."""


class RegistryClient(Protocol):
    """Where this peer announces itself."""

    async def announce(self, announcement: Announcement) -> None:
        """Announce; NotDeliveredError if the bus is unavailable, AnnouncementRefusedError if the registry refuses it."""
