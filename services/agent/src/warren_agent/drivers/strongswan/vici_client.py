"""An asyncio VICI client: a connection carries one command at a time, and events at any time.

VICI has no request ids, so that an answer belongs to whatever was asked last (one lock a connection). A command that was
given up leaves its answer on the way: such a connection is closed, never reused. Events may come between a question and
its answer; the reader sorts them out by type. A blocked command holds one of charon's few worker threads, so that
`initiate` and `terminate` are always sent with `timeout=-1` or a positive timeout (strongSwan issue 2776).
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from warren_agent.drivers.strongswan.errors import (
    ViciClosedError,
    ViciCommandError,
    ViciProtocolError,
    ViciTimeoutError,
    ViciUnknownCommandError,
    ViciUnknownEventError,
)
from warren_agent.drivers.strongswan.vici_codec import (
    Message,
    Packet,
    PacketReader,
    PacketType,
    Section,
    build_message,
    build_packet,
    parse_message,
    text,
)
from warren_agent.errors import DriverUnavailableError

DEFAULT_SOCKET = Path("/var/run/charon.vici")
CONNECT_TIMEOUT = 5.0  # s
# Far above anything measured (list-sas of 1,000 tunnels: 0.06 s), below the patience of an operator.
REQUEST_TIMEOUT = 15.0  # s

EventHandler = Callable[[str, bytes], None]


class ViciConnection(asyncio.Protocol):
    """One connection to charon's VICI socket. Not reused once it is closed."""

    def __init__(self, on_event: EventHandler | None = None) -> None:
        self._reader = PacketReader()
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[Packet] | None = None
        self._collected: list[bytes] | None = None
        self._collecting = ""
        self._on_event = on_event
        self._lock = asyncio.Lock()
        self.closed = asyncio.Event()

    @classmethod
    async def open(
        cls, path: Path = DEFAULT_SOCKET, on_event: EventHandler | None = None, timeout: float = CONNECT_TIMEOUT
    ) -> "ViciConnection":
        """Connect; DriverUnavailableError when nothing listens there."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout):
                _, connection = await loop.create_unix_connection(lambda: cls(on_event), str(path))
        except (OSError, TimeoutError) as error:
            reason = getattr(error, "strerror", None) or "no answer"
            step, remedy = "connect", "is charon running?"
            if isinstance(error, PermissionError):
                step, remedy = "permission", "let the agent's user write to it"
            detail = f"{step}: charon's VICI socket {path}: {reason}; {remedy}"
            raise DriverUnavailableError(detail, step) from error
        return connection

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            packets = self._reader.feed(data)
        except ViciProtocolError as error:
            self._fail(error)
            return
        for packet in packets:
            self._receive(packet)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(ViciClosedError())

    def _receive(self, packet: Packet) -> None:
        if packet.type is PacketType.EVENT:
            if self._collected is not None and packet.name == self._collecting:
                self._collected.append(packet.payload)
            elif self._on_event is not None:
                self._on_event(packet.name, packet.payload)
        elif self._answer is not None and not self._answer.done():
            self._answer.set_result(packet)
        else:
            self._fail(ViciProtocolError(f"an answer ({packet.type.name}) to nothing that was asked"))

    def _fail(self, error: Exception) -> None:
        self.closed.set()
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)
        if self._transport is not None:
            self._transport.abort()

    # commands

    async def request(self, command: str, message: Message | None = None, timeout: float = REQUEST_TIMEOUT) -> Section:
        """Send a command and return its answer.

        ViciCommandError when charon refuses it, ViciUnknownCommandError when it does not know it, ViciTimeoutError and
        ViciClosedError when it does not answer: then the connection is gone.
        """
        async with self._lock:
            return await self._command(command, message, timeout)

    async def stream(
        self, command: str, event: str, message: Message | None = None, timeout: float = REQUEST_TIMEOUT
    ) -> list[Section]:
        """Send a command that answers by a stream of events, such as list-sas by list-sa, and return all of them."""
        return [parse_message(payload) for payload in await self.collect(command, event, message, timeout)]

    async def collect(
        self, command: str, event: str, message: Message | None = None, timeout: float = REQUEST_TIMEOUT
    ) -> list[bytes]:
        """As `stream`, the events not parsed."""
        async with self._lock:
            await self._registration(PacketType.EVENT_REGISTER, event, timeout)
            self._collected, self._collecting = [], event
            try:
                await self._command(command, message, timeout)
                collected = self._collected
            finally:
                self._collected = None
            await self._registration(PacketType.EVENT_UNREGISTER, event, timeout)
        return collected

    async def register(self, event: str, timeout: float = REQUEST_TIMEOUT) -> None:
        """Ask for an event. ViciUnknownEventError where this charon has no such event."""
        async with self._lock:
            await self._registration(PacketType.EVENT_REGISTER, event, timeout)

    def close(self) -> None:
        """Close at once; harmless when it is closed already."""
        self._fail(ViciClosedError("the agent closed the connection"))

    async def _command(self, command: str, message: Message | None, timeout: float) -> Section:
        payload = build_message(message) if message else b""
        packet = await self._exchange(Packet(PacketType.CMD_REQUEST, command, payload), timeout)
        if packet.type is PacketType.CMD_UNKNOWN:
            raise ViciUnknownCommandError(f"charon does not know the command {command}")
        if packet.type is not PacketType.CMD_RESPONSE:
            raise self._unexpected(packet)
        answer = parse_message(packet.payload)
        if text(answer, "success", "yes") != "yes":
            raise ViciCommandError(command, text(answer, "errmsg", "refused without a reason"))
        return answer

    async def _registration(self, kind: PacketType, event: str, timeout: float) -> None:
        packet = await self._exchange(Packet(kind, event, b""), timeout)
        if packet.type is PacketType.EVENT_UNKNOWN:
            raise ViciUnknownEventError(f"charon does not know the event {event}")
        if packet.type is not PacketType.EVENT_CONFIRM:
            raise self._unexpected(packet)

    def _unexpected(self, packet: Packet) -> ViciProtocolError:
        error = ViciProtocolError(f"the answer {packet.type.name} does not fit the question")
        self._fail(error)
        return error

    async def _exchange(self, packet: Packet, timeout: float) -> Packet:
        data = build_packet(packet)
        if self._transport is None or self.closed.is_set():
            raise ViciClosedError()
        self._answer = asyncio.get_running_loop().create_future()
        try:
            self._transport.write(data)
            async with asyncio.timeout(timeout):
                return await self._answer
        except TimeoutError:
            error = ViciTimeoutError(packet.name, timeout)
            self._fail(error)
            raise error from None
        except asyncio.CancelledError:
            self._fail(ViciClosedError("a command was given up"))
            raise
        finally:
            answer, self._answer = self._answer, None
            if answer.done() and not answer.cancelled():
                answer.exception()  # seen: a late failure is raised once, in the caller that waited


class ViciClient:
    """Commands over a connection that is made when it is needed, and re-created after it was lost.

    A command is never repeated by itself: the caller knows whether it may run twice.
    """

    def __init__(
        self, path: Path = DEFAULT_SOCKET, on_timeout: Callable[[ViciTimeoutError], None] = lambda error: None
    ) -> None:
        """`on_timeout` is called with each command that was not answered in time, before its caller gets the error."""
        self.path = path
        self._on_timeout = on_timeout
        self._connection: ViciConnection | None = None
        self._opening = asyncio.Lock()

    async def request(self, command: str, message: Message | None = None, timeout: float = REQUEST_TIMEOUT) -> Section:
        """See ViciConnection.request; DriverUnavailableError when there is no charon."""
        connection = await self._connected()
        with self._reporting():
            return await connection.request(command, message, timeout)

    async def stream(
        self, command: str, event: str, message: Message | None = None, timeout: float = REQUEST_TIMEOUT
    ) -> list[Section]:
        """See ViciConnection.stream; DriverUnavailableError when there is no charon."""
        connection = await self._connected()
        with self._reporting():
            return await connection.stream(command, event, message, timeout)

    async def collect(
        self, command: str, event: str, message: Message | None = None, timeout: float = REQUEST_TIMEOUT
    ) -> list[bytes]:
        """See ViciConnection.collect; DriverUnavailableError when there is no charon."""
        connection = await self._connected()
        with self._reporting():
            return await connection.collect(command, event, message, timeout)

    @contextlib.contextmanager
    def _reporting(self) -> Iterator[None]:
        try:
            yield
        except ViciTimeoutError as error:
            self._on_timeout(error)
            raise

    async def close(self) -> None:
        """Close the connection, if there is one."""
        if self._connection is not None:
            self._connection.close()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CONNECT_TIMEOUT):
                    await self._connection.closed.wait()
            self._connection = None

    async def _connected(self) -> ViciConnection:
        async with self._opening:
            if self._connection is None or self._connection.closed.is_set():
                self._connection = await ViciConnection.open(self.path)
            return self._connection
