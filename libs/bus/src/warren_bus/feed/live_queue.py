"""Live messages that were republished by their stream and wait for the verification of their signature: bounded."""

from collections import deque
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from warren_bus.feed.sequence import LivePosition

MAX_QUEUED = 4_096  # messages; more are dropped, and a synchronisation replaces them
MAX_QUEUED_BYTES = 16 * 1024 * 1024


class QueuedMessage(NamedTuple):
    """A live message and the moment of its arrival, by the machine's clock."""

    position: LivePosition
    headers: Mapping[str, str] | None
    payload: bytes
    arrived_at: float


class LiveQueue:
    """Messages in the order of their arrival."""

    def __init__(self) -> None:
        self._messages: deque[QueuedMessage] = deque()
        self._size_bytes = 0

    def __len__(self) -> int:
        return len(self._messages)

    def put(self, message: QueuedMessage) -> bool:
        """Append a message; False when the queue is full."""
        size_bytes = self._size_bytes + len(message.payload)
        if len(self._messages) >= MAX_QUEUED or size_bytes > MAX_QUEUED_BYTES:
            return False
        self._messages.append(message)
        self._size_bytes = size_bytes
        return True

    def take(self, limit: int) -> Iterator[QueuedMessage]:
        """Remove up to `limit` messages, one at a time."""
        for _ in range(min(limit, len(self._messages))):
            message = self._messages.popleft()
            self._size_bytes -= len(message.payload)
            yield message
