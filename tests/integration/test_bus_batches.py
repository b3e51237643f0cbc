"""Atomic batches on a real server: all or none, and the errors of a repeated or a stale one."""

import asyncio
from pathlib import Path

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from warren_bus.client_subjects import inbox
from warren_bus.connection import Connection
from warren_bus.errors import BatchConflictError, NotStoredError
from warren_bus.publisher import MAX_BATCH, Outgoing, publish, publish_atomic
from warren_contracts import subjects
from warren_service.streams import POLICY
from warren_testkit.bus import RealServer
from warren_testkit.bus.streams import declare_streams

LIMIT = 60.0  # s


def message(reader: str, body: bytes, event_id: str = "", expected: int | None = None) -> Outgoing:
    headers = {"Nats-Msg-Id": event_id} if event_id else {}
    return Outgoing(subjects.policy(reader), body, headers, expected)


async def stored(client: Client, reader: str) -> bytes | None:
    answer = await client.request(f"$JS.API.DIRECT.GET.POLICY.{subjects.policy(reader)}", b"", timeout=LIMIT)
    return None if (answer.headers or {}).get("Status") == "404" else answer.data


async def test_batch_is_stored_as_a_whole(policy_client: Client) -> None:
    ack = await publish_atomic(policy_client, [message("tag=a", b"1"), message("tag=b", b"2"), message("all", b"3")])
    assert (ack.stream, ack.sequence) == ("POLICY", 3)
    assert [await stored(policy_client, reader) for reader in ("tag=a", "tag=b", "all")] == [b"1", b"2", b"3"]


async def test_batch_with_a_stale_sequence_stores_nothing(policy_client: Client) -> None:
    await publish_atomic(policy_client, [message("tag=a", b"1", expected=0)])
    with pytest.raises(BatchConflictError):
        await publish_atomic(policy_client, [message("tag=b", b"x"), message("tag=a", b"x", expected=0)])
    assert await stored(policy_client, "tag=a") == b"1"
    assert await stored(policy_client, "tag=b") is None
    await publish_atomic(policy_client, [message("tag=b", b"2"), message("tag=a", b"2", expected=1)])
    assert await stored(policy_client, "tag=a") == b"2"


async def test_repeated_batch_is_distinguished(policy_client: Client) -> None:
    batch = [message("tag=a", b"1", "id-a"), message("tag=b", b"1", "id-b")]
    await publish_atomic(policy_client, batch)
    with pytest.raises(BatchConflictError):
        await publish_atomic(policy_client, batch)
    with pytest.raises(BatchConflictError):  # one known id refuses the whole
        await publish_atomic(policy_client, [message("tag=c", b"1", "id-c"), message("tag=b", b"1", "id-b")])
    assert await stored(policy_client, "tag=c") is None


async def test_largest_batch_is_stored_and_a_larger_one_is_refused_here(policy_client: Client) -> None:
    batch = [message(f"peer=p{number}", b"{}") for number in range(MAX_BATCH)]
    assert (await publish_atomic(policy_client, batch)).sequence == MAX_BATCH
    with pytest.raises(ValueError, match="split it"):
        await publish_atomic(policy_client, [*batch, message("all", b"{}")])


async def test_publish_to_no_stream_ends_with_an_error(policy_client: Client) -> None:
    with pytest.raises(NotStoredError):
        await publish(lambda: policy_client, subjects.event("policy", "changed", "x"), b"{}", {}, retries=0)


async def test_purge_and_delete_are_forbidden(policy_client: Client) -> None:
    await publish_atomic(policy_client, [message("tag=a", b"1")])
    for subject in ("$JS.API.STREAM.PURGE.POLICY", "$JS.API.STREAM.MSG.DELETE.POLICY", "$JS.API.STREAM.DELETE.POLICY"):
        with pytest.raises((TimeoutError, asyncio.TimeoutError)):
            await policy_client.request(subject, b"", timeout=0.3)
    assert await stored(policy_client, "tag=a") == b"1"


async def test_stored_messages_are_republished_with_their_sequences(tmp_path: Path) -> None:
    async with (
        RealServer(tmp_path) as server,
        Connection(server.settings("policy"), name="policy", inbox_prefix=inbox("policy")) as writer,
        Connection(server.settings("api"), name="api", inbox_prefix=inbox("api")) as reader,
    ):
        client, watcher = await writer.wait_connected(), await reader.wait_connected()
        await declare_streams(server, POLICY)
        seen: asyncio.Queue[Msg] = asyncio.Queue()
        await watcher.subscribe("live.warren.v1.policy.>", cb=seen.put)
        await watcher.flush()
        await publish_atomic(client, [message("tag=a", b"1"), message("tag=b", b"2")])
        await publish_atomic(client, [message("tag=a", b"3")])
        messages = [await asyncio.wait_for(seen.get(), LIMIT) for _ in range(3)]
    marks = []
    for item in messages:
        headers = item.headers or {}
        marks.append((item.data, headers["Nats-Sequence"], headers["Nats-Last-Sequence"]))
    assert marks == [(b"1", "1", "0"), (b"2", "2", "0"), (b"3", "3", "1")]
