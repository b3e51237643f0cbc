"""The listening side of the driver: VICI events, error-notify records, and charon's coming and going.

Events are not replayed: after every connection the driver reads everything again before it trusts an event.
"""

import asyncio
import contextlib
import random
from pathlib import Path
from typing import Protocol

import structlog

from warren_agent.drivers.strongswan.error_notify import RECORD_SIZE, Notification, NotificationReader, parse_alert
from warren_agent.drivers.strongswan.errors import ViciClosedError, ViciProtocolError, ViciUnknownEventError
from warren_agent.drivers.strongswan.reasons import may_have_reason
from warren_agent.drivers.strongswan.vici_client import CONNECT_TIMEOUT, ViciConnection
from warren_agent.drivers.strongswan.vici_codec import Section, parse_message
from warren_agent.errors import DriverError, DriverUnavailableError
from warren_process.backoff import Backoff

log = structlog.get_logger()

EVENTS = ("ike-updown", "ike-rekey", "child-updown", "child-rekey")
# charon starts in 0.2 s; a socket that is not there costs a system call to look for
FIRST_RETRY = 0.1  # s
LAST_RETRY = 0.5  # s; peers wait for the tunnels of a charon that is back
# A charon that hangs keeps its sockets open. It is asked for its version this often, and has this long to answer: 18 s
# together, since an operator is to see it within 20 s.
HEARTBEAT = 4.0  # s
HEARTBEAT_LIMIT = 14.0  # s

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class CharonListener(Protocol):
    """What the driver does about charon's events."""

    def handle_event(self, event: str, message: Section) -> None:
        """A VICI event."""

    def handle_notification(self, notification: Notification) -> None:
        """A reason."""

    async def came_up(self) -> None:
        """charon answers: read everything. DriverError when it became unavailable again meanwhile."""

    def went_down(self, detail: str, step: str) -> None:
        """charon is unreachable. Called once for each absence, and again when another step fails."""


class Monitor:
    """Keeps one connection for events, and one for error-notify where the plugin is loaded."""

    def __init__(self, vici: Path, notify: Path, listener: CharonListener) -> None:
        self._vici = vici
        self._notify = notify
        self._listener = listener
        self._connection: ViciConnection | None = None
        self._suspicion: DriverUnavailableError | None = None
        self._was_up = False

    def suspect(self, error: DriverUnavailableError) -> None:
        """A command was not answered in time: charon counts as unreachable until everything in it was read again."""
        if self._connection is not None and self._was_up:
            self._suspicion = error
            self._connection.close()

    async def run(self) -> None:
        """Listen forever, through every absence of charon; ends by cancellation."""
        reported: str | None = None  # the step that failed
        backoff = Backoff(FIRST_RETRY, LAST_RETRY, random.random)
        while True:
            self._was_up = False
            error = await self._listen()
            if self._was_up:
                reported = None
                backoff.reset()
            step = getattr(error, "step", "") or "other"
            if step != reported:
                reported = step
                self._listener.went_down(str(error), step)
            await asyncio.sleep(backoff.next_s())

    async def _listen(self) -> DriverError:
        """One presence of charon; returns why it ended, or did not begin."""
        self._suspicion = None
        try:
            await self._follow()
        except DriverError as error:
            return error
        return self._suspicion or ViciClosedError()

    async def _follow(self) -> None:
        connection = self._connection = await ViciConnection.open(self._vici, self._dispatch)
        notify: asyncio.Task[None] | None = None
        try:
            for event in EVENTS:
                await connection.register(event)
            notify = await self._reasons(connection)
            await self._listener.came_up()
            self._was_up = True
            await self._watch(connection)
        finally:
            self._connection = None
            connection.close()
            if notify is not None:
                notify.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await notify

    async def _watch(self, connection: ViciConnection) -> None:
        """Return when the connection ends; ViciTimeoutError when charon does not answer any more."""
        while not connection.closed.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT):
                    await connection.closed.wait()
                    return
            with contextlib.suppress(ViciClosedError):
                await connection.request("version", timeout=HEARTBEAT_LIMIT)

    async def _reasons(self, connection: ViciConnection) -> asyncio.Task[None] | None:
        """The best source of reasons that this charon has: alert, else error-notify, else its log."""
        try:
            await connection.register("alert")
        except ViciUnknownEventError:
            try:
                streams = await self._open_notify()
            except DriverUnavailableError as error:
                await self._reasons_from_log(connection, str(error))
            else:
                return asyncio.create_task(self._follow_notify(connection, streams), name="error-notify")
        return None

    async def _follow_notify(self, connection: ViciConnection, streams: Streams) -> None:
        """Read reasons as long as charon is there; should the plugin alone end, from its next socket, else from the log."""
        backoff = Backoff(FIRST_RETRY, LAST_RETRY, random.random)
        while True:
            await self._read_notify(streams)
            await asyncio.sleep(backoff.next_s())
            if connection.closed.is_set():
                return  # charon became unavailable as a whole
            try:
                streams = await self._open_notify()
            except DriverUnavailableError as error:
                with contextlib.suppress(DriverError):  # charon becomes unavailable in this moment
                    await self._reasons_from_log(connection, str(error))
                return

    async def _reasons_from_log(self, connection: ViciConnection, cause: str) -> None:
        log.warning("strongswan.reasons_from_log", error=cause)
        await connection.register("log")

    async def _open_notify(self) -> Streams:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                return await asyncio.open_unix_connection(str(self._notify))
        except (OSError, TimeoutError) as error:
            raise DriverUnavailableError(f"no error-notify socket at {self._notify}: load charon's plugin") from error

    async def _read_notify(self, streams: Streams) -> None:
        """Until the socket ends."""
        reader, writer = streams
        records = NotificationReader()
        try:
            while data := await reader.read(16 * RECORD_SIZE):
                for notification in records.feed(data):
                    self._listener.handle_notification(notification)
        except OSError:
            return
        finally:
            writer.close()

    def _dispatch(self, event: str, payload: bytes) -> None:
        if event == "log" and not may_have_reason(payload):
            return
        try:
            message = parse_message(payload)
        except ViciProtocolError as error:
            log.warning("strongswan.event_unreadable", vici_event=event, error=str(error))
            return
        if event == "alert":
            self._listener.handle_notification(parse_alert(message))
        else:
            self._listener.handle_event(event, message)
