"""The guarded publisher on a real nats-server: repeats store nothing, other writers are not overwritten."""

import pytest
from nats.aio.client import Client

from warren_bus.errors import NotStoredError
from warren_contracts import subjects
from warren_contracts.documents import HEADER_EPOCH, HEADER_REVISION
from warren_service.guarded_publisher import GuardedMessage, GuardedPublisher, StreamAheadError

ANY = subjects.policy("all")


def message(revision: int, payload: bytes = b"{}", expected: int | None = None, subject: str = ANY) -> GuardedMessage:
    headers = {HEADER_EPOCH: "1", HEADER_REVISION: str(revision)}
    return GuardedMessage(subject, (1, revision), payload, headers, expected)


@pytest.mark.parametrize("expected", [None, 0, 77], ids=["read back first", "right", "wrong"])
async def test_a_message_is_stored_once_whatever_sequence_was_expected(
    policy_client: Client, expected: int | None
) -> None:
    guarded = GuardedPublisher(lambda: policy_client, "POLICY")
    first = await guarded.publish([message(1, expected=expected)])
    assert await guarded.publish([message(1, expected=expected)]) == first == {ANY: 1}
    assert await guarded.publish([message(2, expected=expected)]) == {ANY: 2}
    assert await guarded.versions(f"{subjects.policy('')}>") == {ANY: (1, 2)}


async def test_a_batch_stores_only_what_is_not_stored_yet(policy_client: Client) -> None:
    guarded = GuardedPublisher(lambda: policy_client, "POLICY")
    other = subjects.policy("tag=a")
    await guarded.publish([message(1)])
    assert await guarded.publish([message(1), message(1, subject=other)]) == {ANY: 1, other: 2}


async def test_a_newer_document_and_another_one_of_the_same_version_are_not_overwritten(policy_client: Client) -> None:
    guarded = GuardedPublisher(lambda: policy_client, "POLICY")
    await guarded.publish([message(5)])
    with pytest.raises(StreamAheadError, match=r"\(1, 5\) on the bus, ahead of \(1, 2\)"):
        await guarded.publish([message(2, expected=0)])
    with pytest.raises(StreamAheadError, match="another document"):
        await guarded.publish([message(5, b"[]", expected=0)])


async def test_a_message_that_is_no_document_is_replaced(policy_client: Client) -> None:
    await policy_client.jetstream().publish(ANY, b"x")
    assert await GuardedPublisher(lambda: policy_client, "POLICY").publish([message(1, expected=0)]) == {ANY: 2}


async def test_a_stream_that_does_not_exist_is_reported(policy_client: Client) -> None:
    with pytest.raises(NotStoredError):
        await GuardedPublisher(lambda: policy_client, "ABSENT").versions(">")
