"""Pull messages of a JetStream consumer in batches.

nats-py's `fetch` makes two tasks, a timer and a random name for each message, a sixth of all that the metrics service does with a
report. This waits for the queue of the subscription itself, once for whatever has arrived meanwhile.

FastStream waits until a batch is full or its time is over, which would be the delay of every message of a quiet fleet. A batch ends
with the last message that waits in the stream instead, which each message says (`num_pending`).
"""

import asyncio
import json

from nats.aio.msg import Msg
from nats.errors import ConnectionClosedError
from nats.errors import TimeoutError as NatsTimeout
from nats.js import JetStreamContext
from nats.js.errors import APIError

# s between the beginnings of two batches, at least: a batch costs about a millisecond of its own, so that many small ones would take
# a busy service's time. After a quiet time the first message waits for nothing.
PACE = 0.03
REST_WAIT = 0.1  # s for messages that wait in the stream: the server has them, unless newer ones have replaced them
GRACE = 0.05  # s that the server's message about the end of a pull may be late: without it, that would end the next one

# Statuses of the server: https://docs.nats.io/reference/reference-protocols/nats_api_reference
_HEARTBEAT, _NO_MESSAGES, _EXPIRED, _CONFLICT = "100", "404", "408", "409"


class PacedPull:
    """Pulls for FastStream's loop, which asks for the rest of a batch until it is full: `fetch` says that there is none."""

    def __init__(self, pull: JetStreamContext.PullSubscription, batch: int) -> None:
        self._pull = pull
        self._batch = batch
        self._next_at = 0.0

    async def fetch(self, batch: int = 1, timeout: float | None = 5.0) -> list[Msg]:
        """What `fetch` of this module does, PACE seconds after the last time at the earliest; its errors."""
        if batch < self._batch:
            raise NatsTimeout
        now = asyncio.get_running_loop().time
        await asyncio.sleep(max(0.0, self._next_at - now()))
        found = await fetch(self._pull, batch, timeout)
        self._next_at = now() + PACE
        return found


async def fetch(pull: JetStreamContext.PullSubscription, batch: int = 1, timeout: float | None = 5.0) -> list[Msg]:
    """What waits in the stream, at most `batch` messages; if nothing does, the first one that arrives within `timeout` seconds.

    Raises:
        nats.errors.TimeoutError: none arrived.
        nats.js.errors.APIError: the server refuses the request.
    """
    found: list[Msg] = []
    while pull._sub._pending_queue.qsize() and len(found) < batch:  # of an earlier pull, after a reconnect
        message = await _next(pull)
        if _status_of(message) is None:
            found.append(message)
    wanted = min(batch - len(found), _waiting(found)) if found else 1
    seconds = REST_WAIT if found else 5.0 if timeout is None else timeout
    while wanted:
        arrived = await _request(pull, wanted, seconds)
        found += arrived
        if len(arrived) < wanted:
            break
        wanted, seconds = min(batch - len(found), _waiting(found)), REST_WAIT
    if pull._nc.is_closed:
        raise ConnectionClosedError
    if not found:
        raise NatsTimeout
    return found


async def _request(pull: JetStreamContext.PullSubscription, wanted: int, seconds: float) -> list[Msg]:
    """As many messages as arrive within these seconds, at most `wanted`: one request to the server for all of them."""
    deadline = asyncio.get_running_loop().time() + seconds + GRACE
    found: list[Msg] = []
    request = {"batch": wanted, "expires": int(seconds * 1_000_000_000)}
    await pull._nc.publish(pull._nms, json.dumps(request).encode(), pull._deliver)
    try:
        async with asyncio.timeout_at(deadline):
            while len(found) < wanted and not _is_end(message := await _next(pull)):
                if _status_of(message) is None:
                    found.append(message)
    except TimeoutError:
        pass
    return found


def _waiting(found: list[Msg]) -> int:
    """How many messages waited in the stream when the last one was sent."""
    return found[-1].metadata.num_pending or 0


async def _next(pull: JetStreamContext.PullSubscription) -> Msg:
    """The next message of the queue, with the accounts of nats-py."""
    subscription = pull._sub
    message = await subscription._pending_queue.get()
    subscription._pending_size -= len(message.data)
    subscription._pending_queue.task_done()
    return message


def _status_of(message: Msg) -> str | None:
    """The status of a message of the server itself; None: it is one of the stream."""
    return JetStreamContext.is_status_msg(message)


def _is_end(message: Msg) -> bool:
    """Whether the server will send no more for this request. Raises APIError if it refuses it.

    A conflict (a leader that changed, too many requests) is waited out: to repeat the request at once would not be a pause at all.
    """
    status = _status_of(message)
    if status in (None, _HEARTBEAT, _CONFLICT):
        return False
    if status in (_NO_MESSAGES, _EXPIRED):
        return True
    raise APIError.from_msg(message)
