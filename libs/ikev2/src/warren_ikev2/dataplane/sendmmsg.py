"""sendmmsg(2): many datagrams with one call, where the network device cannot take a train. Python does not have it.

The datagrams of a train are equally long but the last, so everything that describes them to the kernel stays in place
between calls and is written again only for another length, destination or set of control messages.
"""

import ctypes
import os
import socket
import struct
from collections.abc import Sequence
from typing import Any

from warren_ikev2.dataplane.merge import Buffer
from warren_ikev2.dataplane.trains import MAX_SEGMENTS, MAX_TRAIN

_CONTROL_SIZE = 256
_CMSG_HEADER = struct.Struct("@Nii")
_IPV4 = struct.Struct("=H2s4s8x")
_IPV6 = struct.Struct("=H2sI16sI")


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Header(ctypes.Structure):
    """`struct msghdr`."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("iovecs", ctypes.c_void_p),
        ("iovec_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Message(ctypes.Structure):
    """`struct mmsghdr`."""

    _fields_ = (("header", _Header), ("sent", ctypes.c_uint32))


class DatagramBatch:
    """The datagrams of one train for sendmmsg(2). One for a socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._descriptor = sock.fileno()
        self._v6 = sock.family == socket.AF_INET6
        self._data = bytearray(MAX_TRAIN + MAX_SEGMENTS)
        self._pin = ctypes.c_char.from_buffer(self._data)  # as long as it lives, the buffer cannot be moved
        self._start = ctypes.addressof(self._pin)
        self._name = ctypes.create_string_buffer(_IPV6.size)
        self._control = ctypes.create_string_buffer(_CONTROL_SIZE)
        self._iovecs = (_Iovec * MAX_SEGMENTS)()
        self._messages = (_Message * MAX_SEGMENTS)()
        self._headers = [message.header for message in self._messages]
        for number, message in enumerate(self._headers):
            message.name = ctypes.addressof(self._name)
            message.name_length = _IPV6.size if self._v6 else _IPV4.size
            message.iovecs = ctypes.addressof(self._iovecs) + number * ctypes.sizeof(_Iovec)
            message.iovec_count = 1
        self._stride = self._last = 0
        self._known: tuple[tuple[str, int], Sequence[Any]] | None = None
        self._call = ctypes.CDLL(None, use_errno=True).sendmmsg

    def fill(self, parts: Sequence[Buffer], stride: int, host: str, port: int, ancillary: Sequence[Any]) -> int:
        """Take over datagrams of `stride` bytes that stand one after the other in `parts`, the last of which may be shorter.

        Returns how many there are. `ancillary` is in the form of `socket.sendmsg`. Raises `ValueError` for a host that is not
        an address of the socket's kind, or more than fits.
        """
        size = sum(map(len, parts))
        count = -(-size // stride)
        if size > len(self._data) or count > MAX_SEGMENTS:
            raise ValueError("a train is too long")
        end = 0
        for part in parts:
            begin, end = end, end + len(part)
            self._data[begin:end] = part
        if stride != self._stride:
            self._stride = stride
            for number, iovec in enumerate(self._iovecs):
                iovec.base, iovec.length = self._start + number * stride, stride
        self._iovecs[self._last].length = stride
        self._last = count - 1
        self._iovecs[self._last].length = size - self._last * stride
        if self._known != ((host, port), ancillary):
            self._address(host, port, ancillary)
        return count

    def _address(self, host: str, port: int, ancillary: Sequence[Any]) -> None:
        packed, number = (
            socket.inet_pton(socket.AF_INET6 if self._v6 else socket.AF_INET, host),
            port.to_bytes(2, "big"),
        )
        if self._v6:
            self._name.raw = _IPV6.pack(socket.AF_INET6, number, 0, packed, 0)
        else:
            self._name.raw = _IPV4.pack(socket.AF_INET, number, packed).ljust(_IPV6.size, b"\0")
        control = b"".join(_control_message(*item) for item in ancillary)
        self._control.raw = control.ljust(_CONTROL_SIZE, b"\0")
        for message in self._headers:
            message.control = ctypes.addressof(self._control) if control else None
            message.control_length = len(control)
        self._known = (host, port), list(ancillary)

    def send(self, first: int, count: int) -> int:
        """Send `count` of the datagrams from number `first` on; returns how many were sent, at least one. Raises `OSError`."""
        sent = self._call(self._descriptor, ctypes.byref(self._messages, first * ctypes.sizeof(_Message)), count, 0)
        if sent < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return int(sent)


def _control_message(level: int, kind: int, value: bytes) -> bytes:
    """One control message as in cmsg(3), padded to the alignment of the next one."""
    size = _CMSG_HEADER.size + len(value)
    word = struct.calcsize("@N")
    return (_CMSG_HEADER.pack(size, level, kind) + value).ljust(-(-size // word) * word, b"\0")
