"""A TUN device with offloads (Linux; kernel documentation, networking/tuntap.rst).

The kernel hands over TCP packets of up to 64 KiB unsegmented and checksums uncompleted, and takes the same. Opening one needs
CAP_NET_ADMIN; addresses, routes and the MTU are the caller's. The descriptor works in another process without it.
"""

import errno
import fcntl
import os
import struct
from collections.abc import Mapping, Sequence
from typing import Self

from warren_ikev2.dataplane.merge import Buffer
from warren_ikev2.dataplane.trains import HEAD, MAX_SEGMENTS, MAX_TRAIN, TAG

_TUNSETIFF, _TUNSETOFFLOAD = 0x400454CA, 0x400454D0
_IFF_TUN, _IFF_NO_PI, _IFF_VNET_HDR = 0x0001, 0x1000, 0x4000
_CSUM, _TSO4, _TSO6, _TSO_ECN, _USO4, _USO6 = 0x01, 0x02, 0x04, 0x08, 0x20, 0x40
_TCP_OFFLOADS = _CSUM | _TSO4 | _TSO6 | _TSO_ECN
_LARGEST_PACKET = 65536
_GONE = frozenset({errno.EBADFD, errno.ENODEV, errno.EBADF})


class TunRemovedError(OSError):
    """The TUN device was removed. Create it again and restart the data plane."""


def link_settings(mtu: int) -> dict[str, int]:
    """What to set a device with this MTU (bytes) to, by the names that ip-link(8) and pyroute2 share.

    The kernel then hands over TCP packets that fill one train. Without the limits it makes them of up to 64 KiB, and the few segments
    that exceed a train are sealed and sent by themselves: a tenth more CPU time for both ends. For ciphers that align to 4 bytes.
    """
    padded = (mtu + 2 + 3) // 4 * 4  # pad length, next header, and padding to 4 bytes (RFC 4303, 2.4)
    segments = min(MAX_SEGMENTS, MAX_TRAIN // (HEAD + padded + TAG))
    return {"mtu": mtu, "gso_max_segs": segments, "gso_max_size": min(_LARGEST_PACKET, segments * mtu)}


def ip_arguments(settings: Mapping[str, int]) -> list[str]:
    """The same for a command line of ip-link(8)."""
    return [word for name, value in settings.items() for word in (name, str(value))]


class OffloadTun:
    """A TUN device with a vnet header, in the process that opens it. Close it, or use it as a context manager.

    The device exists as long as this descriptor, or the data process's, is open: a data process that is started again
    continues with it, and its addresses and routes stay.
    """

    def __init__(self, name: str = "ike%d") -> None:
        """`name` may hold `%d` for a number of the kernel's choice.

        Raises `OSError` without the privilege, or if the device exists and is taken.
        """
        self.descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            request = struct.pack("16sH", name.encode(), _IFF_TUN | _IFF_NO_PI | _IFF_VNET_HDR)
            answer = fcntl.ioctl(self.descriptor, _TUNSETIFF, request.ljust(40, b"\0"))
        except BaseException:
            os.close(self.descriptor)
            raise
        self.name = answer[:16].rstrip(b"\0").decode()
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the descriptor. May be called twice."""
        if not self._closed:
            self._closed = True
            os.close(self.descriptor)


class TunQueue:
    """The descriptor of a TUN device with a vnet header, in the process that moves its packets."""

    def __init__(self, descriptor: int) -> None:
        """The kernel is asked not to segment TCP and UDP packets and not to complete checksums, as far as it can do without."""
        self._descriptor = descriptor
        self.offloads = 0
        for offloads in (_TCP_OFFLOADS | _USO4 | _USO6, _TCP_OFFLOADS, 0):
            try:
                fcntl.ioctl(descriptor, _TUNSETOFFLOAD, offloads)
            except OSError:  # USO is from kernel 6.2 on
                continue
            self.offloads = offloads
            break
        self.takes_udp_merged = bool(self.offloads & _USO4)
        """Whether the kernel cuts UDP datagrams apart that are written as one packet."""

    def fileno(self) -> int:
        """For the selector."""
        return self._descriptor

    def read_into(self, buffer: memoryview) -> int:
        """Read one frame with its vnet header; returns its length, 0 when there is none.

        Raises `TunRemovedError`.
        """
        try:
            return os.readv(self._descriptor, (buffer,))
        except BlockingIOError:
            return 0
        except OSError as error:
            if error.errno in _GONE:
                raise TunRemovedError(error.errno, "the TUN device was removed") from None
            return 0  # the device is down

    def write(self, parts: Sequence[Buffer]) -> bool:
        """Write one frame; returns whether the kernel took it. Raises `TunRemovedError`."""
        try:
            os.writev(self._descriptor, parts)
        except OSError as error:
            if error.errno in _GONE:
                raise TunRemovedError(error.errno, "the TUN device was removed") from None
            return False  # down, or its queue is full: lost, as on any link
        return True
