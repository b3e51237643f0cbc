"""A TUN device attached to a session (Linux): packets are forwarded between the kernel and the peer.

Opening one needs CAP_NET_ADMIN. Addresses, routes and the MTU are the caller's: `ip` or pyroute2 set them.
"""

import asyncio
import fcntl
import os
import struct
from typing import Self

from warren_ikev2.aio.session import Session
from warren_ikev2.errors import IkeError

_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_MAX_PACKET = 65535
BATCH = 64
"""Packets read before other tasks get their turn."""


class TunDevice:
    """A TUN device; `name` may hold `%d` for a number of the kernel's choice. Close it, or use it as a context manager."""

    def __init__(self, name: str = "ike%d") -> None:
        """Raises `OSError` without the privilege, or if the device exists and is taken."""
        self._fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        try:
            request = struct.pack("16sH", name.encode(), _IFF_TUN | _IFF_NO_PI)
            answer = fcntl.ioctl(self._fd, _TUNSETIFF, request.ljust(40, b"\0"))
        except BaseException:
            os.close(self._fd)
            raise
        self.name = answer[:16].rstrip(b"\0").decode()
        self._session: Session | None = None
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def attach(self, session: Session) -> None:
        """Attach the device to a session, instead of any other; packets are forwarded in the event loop from now on."""
        self.detach()
        self._session = session
        session.on_packet = self._write
        asyncio.get_running_loop().add_reader(self._fd, self._readable)

    def detach(self) -> None:
        """Detach from the session."""
        if self._session is not None:
            asyncio.get_running_loop().remove_reader(self._fd)
            self._session.on_packet = None
            self._session = None

    def close(self) -> None:
        """Detach and remove the device. May be called twice."""
        if not self._closed:
            self._closed = True
            self.detach()
            os.close(self._fd)

    def _readable(self) -> None:
        for _ in range(BATCH):
            try:
                packet = os.read(self._fd, _MAX_PACKET)
            except BlockingIOError:
                return
            except OSError:  # the device is down or was removed
                self.detach()
                return
            self._forward(packet)

    def _forward(self, packet: bytes) -> None:
        session = self._session
        if session is None:
            return
        try:
            session.send_nowait(packet)
        except IkeError:  # no SA covers it, or the session is over: dropped and counted, as a router does
            if session.closed:
                self.detach()

    def _write(self, packet: bytes) -> None:
        try:
            os.write(self._fd, packet)
        except OSError:  # down, or the kernel's queue is full: lost, as on any link
            return
