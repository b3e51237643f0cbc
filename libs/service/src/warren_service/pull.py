"""Pull messages of a JetStream consumer in batches.

nats-py's `fetch` makes two tasks, a timer and a random name for each message, a sixth of all that the metrics service does with a
report. This waits for the queue of the subscription itself, once for whatever has arrived meanwhile.
"""

import asyncio
import json

from nats.aio.msg import Msg
from nats.errors import ConnectionClosedError
from nats.errors import TimeoutError as NatsTimeout
from nats.js import JetStreamContext
from nats.js.errors import APIError

GRACE = 0.05  # s that the server's message about the end of a pull may be late: without it, that would end the next one

# Statuses of the server: https://docs.nats.io/reference/reference-protocols/nats_api_reference
_HEARTBEAT, _NO_MESSAGES, _EXPIRED, _CONFLICT = "100", "404", "408", "409"


async def fetch(pull: JetStreamContext.PullSubscription, batch: int = 1, timeout: float | None = 5.0) -> list[Msg]:
    """As many messages as arrive within `timeout` seconds, at most `batch`: one request to the server for all of them.

    Raises:
        nats.errors.TimeoutError: none arrived.
        nats.js.errors.APIError: the server refuses the request.
    """
    seconds = 5.0 if timeout is None else timeout
    deadline = asyncio.get_running_loop().time() + seconds + GRACE
    found: list[Msg] = []
    while pull._sub._pending_queue.qsize() and len(found) < batch:  # of an earlier pull, after a reconnect
        message = await _next(pull)
        if _status_of(message) is None:
            found.append(message)
    if len(found) == batch:
        return found
    request = {"batch": batch - len(found), "expires": int(seconds * 1_000_000_000)}
    await pull._nc.publish(pull._nms, json.dumps(request).encode(), pull._deliver)
    try:
        async with asyncio.timeout_at(deadline):
            while len(found) < batch and not _is_end(message := await _next(pull)):
                if _status_of(message) is None:
                    found.append(message)
    except TimeoutError:
        pass
    if pull._nc.is_closed:
        raise ConnectionClosedError
    if not found:
        raise NatsTimeout
    return found


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

    A conflict (a leader that changed, too many requests) is waited out: to repeat the request at once would be no pause at all.
    """
    status = _status_of(message)
    if status in (None, _HEARTBEAT, _CONFLICT):
        return False
    if status in (_NO_MESSAGES, _EXPIRED):
        return True
    raise APIError.from_msg(message)
