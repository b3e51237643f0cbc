"""Accept connections, and hand them to their protocols when the TLS handshake is done.

asyncio's own server starts any number of handshakes, each for a minute: clients that connect and stay silent use up the open files of
the process. Here a handshake has HANDSHAKE_SECONDS, and past MAX_HANDSHAKES at once the oldest one is closed: that of an honest client
takes milliseconds, so the oldest is a silent one's.
"""

import asyncio
import errno
import resource
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress

import structlog

from warren_service.limited_log import LimitedLog
from warren_service.server_certificate import ServerCertificate

log = structlog.get_logger(__name__)

HANDSHAKE_SECONDS = 10.0
SHUTDOWN_SECONDS = 5.0  # for the close_notify of a client
MAX_HANDSHAKES = 256  # that have not ended
REFRESH_SECONDS = 1.0  # between two looks at the certificate's files
BACKLOG = 1_024  # connections that the kernel completes before they are accepted
OPEN_FILES = 8_192  # wanted; systemd's soft limit is 1,024
ACCEPT_PAUSE = 0.2  # s, when the process has no file descriptor left
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class TlsListener:
    """Listens until `close`. `sockets`, `close` and `wait_closed` are those of `asyncio.Server`."""

    def __init__(
        self,
        sockets: list[socket.socket],
        create_protocol: Callable[[], asyncio.BaseProtocol],
        certificate: ServerCertificate,
    ) -> None:
        self.sockets = sockets
        self._create_protocol = create_protocol
        self._certificate = certificate
        self._handshakes: dict[asyncio.Task[None], None] = {}  # in order of their starts
        self._failures = LimitedLog(log.info, "tls.handshake_failed")
        self._tasks = [asyncio.create_task(self._accept(listening)) for listening in sockets]
        self._tasks.append(asyncio.create_task(self._follow_files()))

    @property
    def handshakes(self) -> int:
        """How many have not ended."""
        return len(self._handshakes)

    def close(self) -> None:
        """Accept nothing more, and end the handshakes; connections stay."""
        for task in (*self._tasks, *self._handshakes):
            task.cancel()
        for listening in self.sockets:
            listening.close()

    async def wait_closed(self) -> None:
        """Until every task has ended."""
        await asyncio.gather(*self._tasks, *self._handshakes, return_exceptions=True)

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, address = await loop.sock_accept(listening)
            except OSError as error:
                if listening.fileno() < 0:
                    return
                if error.errno in _EXHAUSTED:
                    self._failures.write("accept", error=error.strerror)
                    await asyncio.sleep(ACCEPT_PAUSE)
                continue  # else the client was gone before it was accepted
            if len(self._handshakes) >= MAX_HANDSHAKES:
                oldest = next(iter(self._handshakes))
                del self._handshakes[oldest]
                oldest.cancel()
            task = asyncio.create_task(self._handshake(accepted, str(address[0])))
            self._handshakes[task] = None
            task.add_done_callback(lambda done: self._handshakes.pop(done, None))

    async def _handshake(self, accepted: socket.socket, address: str) -> None:
        try:
            with suppress(OSError):
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await asyncio.get_running_loop().connect_accepted_socket(
                self._create_protocol, accepted, ssl=self._certificate.context,
                ssl_handshake_timeout=HANDSHAKE_SECONDS, ssl_shutdown_timeout=SHUTDOWN_SECONDS,
            )  # fmt: skip
        except (OSError, asyncio.CancelledError) as error:
            accepted.close()
            if isinstance(error, asyncio.CancelledError):
                raise
            reason = error.reason if isinstance(error, ssl.SSLError) else type(error).__name__
            self._failures.write(address, address=address, error=reason)

    async def _follow_files(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            self._certificate.refresh()


async def listen(
    create_protocol: Callable[[], asyncio.BaseProtocol], host: str, port: int, certificate: ServerCertificate
) -> TlsListener:
    """Listen on every address of `host`. Raises OSError, as for an address that is in use."""
    _allow_open_files()
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    try:
        for family, address in dict.fromkeys((entry[0], entry[4]) for entry in found):
            listening = socket.create_server(address[:2], family=family, backlog=BACKLOG)
            listening.setblocking(False)
            sockets.append(listening)
    except OSError:
        for listening in sockets:
            listening.close()
        raise
    return TlsListener(sockets, create_protocol, certificate)


def _allow_open_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
