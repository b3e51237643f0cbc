"""Publish to streams: acknowledged, with a bounded retry that repeats the id, and atomic batches.

A retry with the same id is stored once (`Nats-Msg-Id`), so a lost acknowledgement does no harm.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import uuid4

from nats.aio.client import Client
from nats.errors import Error as NatsError
from pydantic import BaseModel

from warren_bus.acknowledgement import UNAVAILABLE, Stored, publish_once
from warren_bus.errors import BatchConflictError, BusError, NotStoredError, StreamRefusedError
from warren_bus.tracing import outgoing
from warren_contracts.cloudevents import EventAttributes, build_headers
from warren_process.backoff import pause_s

ACK_TIMEOUT = 5.0  # s; an acknowledgement waits behind the fan-out of its stream
RETRIES = 4  # after the first attempt: with the waits below some 8 s, the time that a stream takes to elect a leader
FIRST_WAIT, LONGEST_WAIT = 0.5, 4.0  # s
MAX_BATCH = 1_000  # messages: the server's own limit (err 10199)

# Error codes after which the caller compares what is stored: a known id, a wrong last sequence.
CONFLICTS = frozenset({10201, 10071, 10164})

HEADER_BATCH_ID = "Nats-Batch-Id"
HEADER_BATCH_SEQUENCE = "Nats-Batch-Sequence"
HEADER_BATCH_COMMIT = "Nats-Batch-Commit"
HEADER_EXPECTED_SEQUENCE = "Nats-Expected-Last-Subject-Sequence"

ClientSource = Callable[[], Client]


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message of a batch."""

    subject: str
    payload: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    expected_sequence: int | None = None  # the last sequence of its subject; 0: none yet


async def publish(
    client: ClientSource, subject: str, payload: bytes, headers: Mapping[str, str], retries: int = RETRIES
) -> Stored:
    """Publish and wait for the stream's acknowledgement; raises NotStoredError when all attempts fail."""
    for attempt in range(retries + 1):
        try:
            return await publish_once(client(), subject, payload, headers, ACK_TIMEOUT)
        except StreamRefusedError as error:
            if error.code != UNAVAILABLE:
                raise NotStoredError(f"{subject}: {error.description}") from None
        except (NatsError, BusError, TimeoutError, OSError):
            pass  # the bus is unavailable or does not answer: repeat with the same id
        if attempt < retries:
            await asyncio.sleep(pause_s(attempt, 1.0, first_s=FIRST_WAIT, limit_s=LONGEST_WAIT))
    raise NotStoredError(f"{subject}: not acknowledged after {retries + 1} attempts")


async def publish_atomic(client: Client, messages: Sequence[Outgoing], batch_id: str = "") -> Stored:
    """Store all messages (of one stream) or none. No retry: after a failure compare what is stored (docs/bus.md).

    Raises BatchConflictError when an id is known or a subject has a newer message, NotStoredError otherwise.
    """
    if not 0 < len(messages) <= MAX_BATCH:
        raise ValueError(f"a batch has 1 to {MAX_BATCH} messages; split it, additions before removals")
    batch = batch_id or uuid4().hex
    last = len(messages)
    for number, message in enumerate(messages, 1):
        headers = {**message.headers, HEADER_BATCH_ID: batch, HEADER_BATCH_SEQUENCE: str(number)}
        if message.expected_sequence is not None:
            headers[HEADER_EXPECTED_SEQUENCE] = str(message.expected_sequence)
        if number < last:
            await client.publish(message.subject, message.payload, headers=headers)
        else:
            headers[HEADER_BATCH_COMMIT] = "1"
            return await _commit(client, message, headers)
    raise AssertionError


async def _commit(client: Client, message: Outgoing, headers: dict[str, str]) -> Stored:
    try:
        return await publish_once(client, message.subject, message.payload, headers, ACK_TIMEOUT)
    except StreamRefusedError as error:
        kind = BatchConflictError if error.err_code in CONFLICTS else NotStoredError
        raise kind(f"batch: {error.description} ({error.err_code})") from None
    except (NatsError, TimeoutError, OSError) as error:
        raise NotStoredError(f"batch: {error or type(error).__name__}") from None


class EventPublisher:
    """Publishes CloudEvents of one source (`/services/policy`, `/peers/gw1`)."""

    def __init__(self, client: ClientSource, source: str) -> None:
        self._client = client
        self._source = source

    def headers(self, kind: str, event_id: str = "", time: datetime | None = None) -> dict[str, str]:
        """CloudEvents headers with a random id (never made of a name and a counter: ids are compared stream-wide)."""
        attributes = EventAttributes(kind, self._source, event_id or str(uuid4()), time or datetime.now(UTC))
        return build_headers(attributes, outgoing())

    async def publish(
        self, subject: str, kind: str, event: BaseModel, *, event_id: str = "", retries: int = RETRIES
    ) -> Stored:
        """Publish one event and wait until it is stored; raises NotStoredError. Pass `event_id` to repeat an earlier attempt."""
        return await publish(
            self._client, subject, event.model_dump_json().encode(), self.headers(kind, event_id), retries
        )
