"""The outbox: order, the events that were stored before a failure, one id in every attempt."""

from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from warren_bus.errors import NotStoredError
from warren_service.outbox import OutboxEvent, OutboxPublisher


@dataclass(frozen=True)
class Reply:
    data: bytes


@dataclass
class FakeStream:
    """A connection to JetStream, which refuses some subjects."""

    refused: set[str] = field(default_factory=set)
    stored: list[tuple[str, str]] = field(default_factory=list)

    async def request(self, subject: str, payload: bytes, *, timeout: float, headers: dict[str, str]) -> Reply:
        if subject in self.refused:
            return Reply(
                b'{"error": {"code": 400, "err_code": 10003, "description": "refused"}, "stream": "", "seq": 0}'
            )
        self.stored.append((subject, headers["Nats-Msg-Id"]))
        return Reply(b'{"stream": "EVENT", "seq": 1}')


def events(*subjects: str) -> list[OutboxEvent]:
    return [OutboxEvent(f"id-{name}", name, "t", "{}", "", datetime(2026, 1, 1, tzinfo=UTC)) for name in subjects]


async def drain(stream: Any, found: list[OutboxEvent], parallel: int) -> list[str]:
    done: list[str] = []
    publisher = OutboxPublisher(lambda: stream, "/services/test", parallel)
    with pytest.raises(NotStoredError) if stream.refused else nullcontext():
        async for stored in publisher.publish(found):
            done += [event.subject for event in stored]
    return done


async def test_events_are_published_in_order_with_their_ids() -> None:
    stream = FakeStream()
    assert await drain(stream, events("a", "b", "c"), parallel=1) == ["a", "b", "c"]
    assert stream.stored == [("a", "id-a"), ("b", "id-b"), ("c", "id-c")]


@pytest.mark.parametrize(("parallel", "done"), [(1, ["a"]), (4, ["a", "c"])])
async def test_a_failure_ends_the_attempt_after_what_is_stored_was_yielded(parallel: int, done: list[str]) -> None:
    assert await drain(FakeStream({"b"}), events("a", "b", "c"), parallel) == done
