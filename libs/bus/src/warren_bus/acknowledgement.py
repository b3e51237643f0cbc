"""Publish one message to a stream and wait for its acknowledgement: by a request, as JetStream defines it.

nats-py's JetStream client does the same and costs an agent 1 MB.
"""

import json
from collections.abc import Mapping
from typing import NamedTuple, Protocol

from nats.aio.msg import Msg

from warren_bus.errors import StreamRefusedError

UNAVAILABLE = 503  # the code of an error that passes: the stream has no leader, or the server no JetStream yet


class StreamClient(Protocol):
    """The part of a nats-py client that an acknowledged message needs."""

    async def request(
        self, subject: str, payload: bytes = ..., timeout: float = ..., *, headers: dict[str, str] | None = ...
    ) -> Msg: ...


class Stored(NamedTuple):
    """The stream and sequence of a message, and whether it was stored before."""

    stream: str
    sequence: int
    duplicate: bool


async def publish_once(
    client: StreamClient, subject: str, payload: bytes, headers: Mapping[str, str], timeout: float
) -> Stored:
    """Publish, once. Raises StreamRefusedError, and the errors of a request: nats.errors.Error, TimeoutError, OSError."""
    reply = await client.request(subject, payload, timeout=timeout, headers=dict(headers))
    return parse_acknowledgement(reply.data)


def parse_acknowledgement(data: bytes) -> Stored:
    """The reply of a stream (a PubAck). Raises StreamRefusedError with the server's words, or for a reply that is none."""
    try:
        reply = json.loads(data)
        error = reply.get("error")
        if error is None:
            return Stored(str(reply["stream"]), int(reply["seq"]), bool(reply.get("duplicate")))
        refused = StreamRefusedError(
            str(error.get("description", "")), int(error["code"]), int(error.get("err_code", 0))
        )
    except (
        ValueError,
        TypeError,
        AttributeError,
        KeyError,
    ):  # a ValueError as well: bytes that are not text, or not JSON
        raise StreamRefusedError("the reply is not an acknowledgement of a stream", UNAVAILABLE) from None
    raise refused
