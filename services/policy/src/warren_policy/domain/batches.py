"""How the sets of one revision are cut into atomic batches.

nats-server 2.15.1 takes at most 1,000 messages in one atomic batch (error 10199) and gathers them in memory until the
commit; measured: 200 sets of 880 kB in one batch were stored in 1.2 s. A revision that does not fit goes in several
batches, in the given order (additions before removals), and the readers wait for all of it by the set's `batch` field.
"""

from collections.abc import Sequence
from typing import Protocol, TypeVar

MAX_MESSAGES = 1_000
MAX_BYTES = 32 * 1024 * 1024  # a sixth of what was seen to work, so that the 10 s limit on a batch is far away


class Sized(Protocol):
    @property
    def payload(self) -> bytes: ...


Message = TypeVar("Message", bound=Sized)


def cut(
    messages: Sequence[Message], max_messages: int = MAX_MESSAGES, max_bytes: int = MAX_BYTES
) -> tuple[tuple[Message, ...], ...]:
    """`messages` in order, in as few batches as the limits allow; a message larger than `max_bytes` stands alone."""
    batches: list[list[Message]] = []
    size = 0
    for message in messages:
        length = len(message.payload)
        if not batches or len(batches[-1]) >= max_messages or size + length > max_bytes:
            batches.append([])
            size = 0
        batches[-1].append(message)
        size += length
    return tuple(tuple(batch) for batch in batches)
