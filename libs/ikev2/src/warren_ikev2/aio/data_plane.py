"""Starts the data process, supervises it and exchanges messages with it (see `warren_ikev2.dataplane`).

If the process ends by itself it is started again with the same TUN device and sockets, so that addresses, routes and IKE_SAs
stay. Its sequence numbers and replay windows are lost with it, and a key must never be used again from an unknown sequence
number on: the owner has to rekey every CHILD_SA.
"""

import asyncio
import logging
import os
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from warren_ikev2.dataplane import control
from warren_ikev2.dataplane.channel import receive
from warren_ikev2.errors import IkeError

logger = logging.getLogger("warren_ikev2")
_BUFFER = 1 << 20
"""Bytes of the control socket pair each way: IKE messages wait here while the engine computes."""
_MESSAGES_AT_A_TIME = 64
_STOP_SECONDS = 2.0
RESTART_SECONDS = 1.0
"""Between two starts: a process that fails at once does not keep a core busy."""
_QUEUE = 100_000
"""Messages that wait to be sent: the CHILD_SAs of the largest endpoint at once."""


class DataPlaneOwner(Protocol):
    """What the data process reports, and what its owner knows."""

    def natt_sockets(self) -> Sequence[int]:
        """The descriptors of the sockets on the NAT traversal port."""
        ...

    def take_message(self, message: control.Message) -> None:
        """Take a message of the data process."""

    def data_plane_ended(self, exit_code: int | None) -> None:
        """The data process has ended by itself (a negative code: by a signal); another one will start."""

    def data_plane_restarted(self) -> None:
        """A new data process runs, without CHILD_SAs."""


class DataPlane:
    """The data process. Make it within the event loop, `start` it, `stop` it at the end."""

    def __init__(self, tun: int, start: control.Start, owner: DataPlaneOwner) -> None:
        """`tun` is the descriptor of a TUN device with a vnet header."""
        self._tun = tun
        self._start = start
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._waiting: deque[tuple[bytes, Sequence[int]]] = deque()
        self._restart: asyncio.TimerHandle | None = None
        self.children: dict[int, control.ChildStatistics] = {}
        """The last statistics of each CHILD_SA, by inbound SPI."""
        self.totals: dict[str, int] = {}
        self.starts = 0

    @property
    def process_id(self) -> int | None:
        """The data process's id while it runs."""
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Start the process; messages may be sent at once. Raises `OSError`."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
        ours.setblocking(False)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "warren_ikev2.dataplane.process", str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                cwd="/",
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},  # numpy starts no threads: nothing here multiplies
            )
        self._channel = ours
        self.starts += 1
        self._waiting.clear()
        self._loop.add_reader(ours.fileno(), self._readable)
        self.send(self._start, (self._tun, *self._owner.natt_sockets()))

    def send(self, message: control.Message, descriptors: Sequence[int] = ()) -> None:
        """Send a message, in order with the others. Without a process it is lost: a new one knows no CHILD_SA anyway."""
        if self._channel is None or len(self._waiting) >= _QUEUE:
            return
        self._waiting.append((control.build(message), descriptors))
        if len(self._waiting) == 1:
            self._writable()

    def _writable(self) -> None:
        channel = self._channel
        if channel is None:
            return
        while self._waiting:
            data, descriptors = self._waiting[0]
            try:
                if descriptors:
                    socket.send_fds(channel, [data], list(descriptors))
                else:
                    channel.send(data)
            except BlockingIOError:
                self._loop.add_writer(channel.fileno(), self._writable)
                return
            except OSError:  # it has ended; the reader finds out
                self._waiting.clear()
                break
            self._waiting.popleft()
        self._loop.remove_writer(channel.fileno())

    def _readable(self) -> None:
        channel = self._channel
        for _ in range(_MESSAGES_AT_A_TIME):
            if channel is None or channel is not self._channel:
                return
            try:
                message, descriptors = receive(channel)
                for descriptor in descriptors:  # it has none to send
                    os.close(descriptor)
            except BlockingIOError:
                return
            except (EOFError, IkeError) as error:
                self._ended(error)
                return
            if isinstance(message, control.TunRemoved):
                self._tun_removed()
                return
            if isinstance(message, control.Statistics):
                self.totals = message.totals
                self.children.update({child.spi_in: child for child in message.children if not child.removed})
            self._owner.take_message(message)

    def _tun_removed(self) -> None:
        """The end of this data plane: its owner's sessions stay, without traffic, until the owner ends them."""
        self._close()
        logger.error("data_plane.tun_removed remedy=%r", "create the TUN device again and restart the endpoint")
        self._owner.take_message(control.TunRemoved())

    def _ended(self, error: Exception) -> None:
        code = self._close()
        logger.warning("data_plane.ended exit_code=%s error=%s", code, error or "closed")
        self._restart = self._loop.call_later(RESTART_SECONDS, self._start_again)
        self._owner.data_plane_ended(code)

    def _start_again(self) -> None:
        self._restart = None
        self.children.clear()
        try:
            self.start()
        except OSError as error:
            logger.warning("data_plane.start_failed error=%s", error)
            self._restart = self._loop.call_later(RESTART_SECONDS, self._start_again)
            return
        logger.info("data_plane.restarted process_id=%s", self.process_id)
        self._owner.data_plane_restarted()

    def stop(self) -> None:
        """End the process. May be called twice."""
        if self._restart is not None:
            self._restart.cancel()
            self._restart = None
        if self._channel is not None:
            self._close()

    def _close(self) -> int | None:
        """Close the control, at which the process ends, and reap it."""
        channel, process = self._channel, self._process
        self._channel = self._process = None
        if channel is not None:
            self._loop.remove_reader(channel.fileno())
            self._loop.remove_writer(channel.fileno())
            channel.close()
        if process is None:
            return None
        try:
            return process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()
