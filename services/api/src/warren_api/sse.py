"""Server-sent events: the stream EVENT as a browser or `curl` reads it (WHATWG HTML, 9.2).

`id` is the sequence in the stream, so that `Last-Event-ID` continues where a listener was; `event` is the CloudEvents type;
`data` is the event in the structured JSON format of CloudEvents 1.0, with `subject` and `sequence` next to its attributes.
The comment `connected` is sent when the position in the stream is fixed: every event stored after it will be sent. The first
`alive` means that all earlier events were sent, if any; further ones are keepalives.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress

from warren_api.ports import StoredEvent
from warren_contracts.cloudevents import structured
from warren_contracts.problems import UnauthorizedError, WarrenError

RETRY_MS = 2_000  # after which a browser reconnects
RECHECK_SECONDS = 30.0  # between two checks of a listener's token


def build_event(event: StoredEvent) -> bytes:
    """One event on the wire."""
    body = structured(event.subject, event.sequence, event.headers, event.data)
    # One line each: JSON has no raw line feeds, and a header cannot hold any.
    kind = str(body.get("type", "message")).replace("\n", " ").replace("\r", " ")
    return f"id: {event.sequence}\nevent: {kind}\ndata: {json.dumps(body, separators=(',', ':'))}\n\n".encode()


async def stream(
    events: AsyncGenerator[StoredEvent | None, None],
    stopping: asyncio.Event,
    recheck: Callable[[], Awaitable[object]],
) -> AsyncIterator[bytes]:
    """The stream of one listener: events, keep-alive comments, and an end when the API server stops or the token was removed."""
    yield f"retry: {RETRY_MS}\n\n".encode()
    loop = asyncio.get_running_loop()
    check_at, connected = loop.time() + RECHECK_SECONDS, False
    stopped = asyncio.ensure_future(stopping.wait())
    try:
        async with aclosing(events):
            while True:
                arriving = asyncio.ensure_future(anext(events))
                try:
                    await asyncio.wait({arriving, stopped}, return_when=asyncio.FIRST_COMPLETED)
                    if not arriving.done():
                        yield b": the API server stops\n\n"
                        return
                    event = arriving.result()
                finally:
                    await _cancelled(arriving)
                if not connected:
                    yield b": connected\n\n"
                if event is None:
                    yield b": alive\n\n"
                if event is not None:
                    yield build_event(event)
                connected = True
                if loop.time() >= check_at:
                    check_at = loop.time() + RECHECK_SECONDS
                    if not await is_authorized(recheck):
                        yield b": the token is no longer valid\n\n"
                        return
    finally:
        stopped.cancel()


async def _cancelled(task: "asyncio.Future[StoredEvent | None]") -> None:
    if not task.done():
        task.cancel()
        with suppress(asyncio.CancelledError, StopAsyncIteration):
            await task


async def is_authorized(recheck: Callable[[], Awaitable[object]]) -> bool:
    """Whether the reader of a stream may go on."""
    try:
        await recheck()
    except UnauthorizedError:
        return False
    except WarrenError:
        # The registry is unavailable: the listener was authenticated before, and is checked again when it has returned.
        return True
    return True
