"""A capture on one interface: which ESP SPIs passed, when, and whether an inner address was ever seen in clear.

It reads an AF_PACKET socket itself instead of running tcpdump: nothing more to install, facts instead of text, the kernel's timestamps.
"""

import re
import select
import socket
import struct
import threading
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Self

from warren_lab.namespace import Namespace
from warren_lab.packets import Outer, parse_frame
from warren_lab.socket_thread import SocketThread

Address = IPv4Address | IPv6Address

RECEIVE_BUFFER_BYTES = 8 << 20
"""Space for about 5,000 frames of 1,500 bytes while the reader is held up."""
SNAP_BYTES = 65535
_ETH_P_ALL = 0x0003
_SOL_PACKET = 263
_PACKET_STATISTICS = 6
_SO_RCVBUFFORCE = 33
_SO_TIMESTAMPNS = 35
_TIMESPEC = struct.Struct("@qq")


@dataclass(frozen=True)
class EspFlow:
    """The ESP packets of one SPI from one address to another. Times are Unix time in seconds, of the kernel."""

    source: Address
    destination: Address
    spi: int
    packets: int
    first_time: float
    last_time: float
    udp_encapsulated: bool


@dataclass
class _Flow:
    first_time: float
    last_time: float
    udp_encapsulated: bool
    packets: int = 0


@dataclass(frozen=True)
class ClearPacket:
    """A frame that carried two of the watched addresses, source before destination, unencrypted anywhere in it."""

    source: Address
    destination: Address
    time: float


@dataclass
class _Seen:
    flows: dict[tuple[Address, Address, int], _Flow] = field(default_factory=dict)
    clear: list[ClearPacket] = field(default_factory=list)
    ike_packets: int = 0
    frames: int = 0


CLEAR_LIMIT = 1000
"""Clear packets are kept up to this number; one is enough to fail a check."""


class Capture:
    """Watches one interface of a namespace from `start` (or `with`) to `stop`.

    Args:
        namespace, device: where to listen.
        inner: addresses that must not be seen in clear. A frame counts as clear where a source address is followed at
            once by a destination address among them (as in an IP header, at any depth and offset), so an unencrypted
            tunnel inside UDP is found as well.
    """

    def __init__(self, namespace: Namespace, device: str, inner: frozenset[Address] = frozenset()) -> None:
        self._namespace = namespace
        self._device = device
        self._pattern = _pair_pattern(inner)
        self._seen = _Seen()
        self._dropped = 0
        self._lock = threading.Lock()
        self._thread = SocketThread()

    def start(self) -> None:
        """Listen from now on: what is sent after this returns is seen."""
        listener = self._namespace.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
            _force_buffer(listener)
            listener.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            listener.bind((self._device, _ETH_P_ALL))
        except OSError:
            listener.close()
            raise
        self._thread.start(f"capture-{self._device}", self._listen, listener)

    def stop(self) -> None:
        """Read what is queued and end. What was captured can still be read."""
        self._thread.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def flows(self) -> list[EspFlow]:
        """Every ESP flow seen so far, oldest first."""
        with self._lock:
            flows = [
                EspFlow(source, destination, spi, flow.packets, flow.first_time, flow.last_time, flow.udp_encapsulated)
                for (source, destination, spi), flow in self._seen.flows.items()
            ]
        return sorted(flows, key=lambda flow: flow.first_time)

    def spis(self) -> frozenset[int]:
        """Every ESP SPI seen so far."""
        with self._lock:
            return frozenset(spi for _, _, spi in self._seen.flows)

    def clear_packets(self) -> list[ClearPacket]:
        """Frames that showed watched addresses in clear, at most the first `CLEAR_LIMIT`."""
        with self._lock:
            return list(self._seen.clear)

    @property
    def frames(self) -> int:
        """Frames read so far: 0 says that the capture proves nothing."""
        with self._lock:
            return self._seen.frames

    @property
    def ike_packets(self) -> int:
        """IKE messages seen so far."""
        with self._lock:
            return self._seen.ike_packets

    @property
    def dropped(self) -> int:
        """Frames that the kernel dropped because the reader was late; known after `stop`."""
        return self._dropped

    def _listen(self, listener: socket.socket) -> None:
        with listener:
            stopping = False
            while not stopping:
                readable, _, _ = select.select([listener, self._thread.woken], [], [])
                stopping = self._thread.woken in readable
                self._drain(listener)
            self._dropped = struct.unpack("@II", listener.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))[1]

    def _drain(self, listener: socket.socket) -> None:
        while True:
            try:
                frame, ancillary, _, _ = listener.recvmsg(
                    SNAP_BYTES, socket.CMSG_SPACE(_TIMESPEC.size), socket.MSG_DONTWAIT
                )
            except BlockingIOError:
                return
            except OSError:  # the device became unavailable with its namespace: nothing more can be seen
                return
            self._note(frame, _kernel_time(ancillary))

    def _note(self, frame: bytes, time: float) -> None:
        outer = parse_frame(frame)
        clear = self._find_clear(frame, time)
        with self._lock:
            self._seen.frames += 1
            self._seen.ike_packets += outer is not None and outer.is_ike
            if clear is not None and len(self._seen.clear) < CLEAR_LIMIT:
                self._seen.clear.append(clear)
            if outer is not None and outer.spi is not None:
                self._note_esp(outer, outer.spi, time)

    def _note_esp(self, outer: Outer, spi: int, time: float) -> None:
        key = (outer.source, outer.destination, spi)
        flow = self._seen.flows.setdefault(key, _Flow(time, time, outer.udp_encapsulated))
        flow.packets += 1
        flow.last_time = time

    def _find_clear(self, frame: bytes, time: float) -> ClearPacket | None:
        match = self._pattern.search(frame) if self._pattern is not None else None
        if match is None:
            return None
        half = len(match[0]) // 2
        return ClearPacket(ip_address(match[0][:half]), ip_address(match[0][half:]), time)


def _pair_pattern(inner: frozenset[Address]) -> re.Pattern[bytes] | None:
    """Matches a source address followed by another watched destination address of its family."""
    pairs = [
        re.escape(source.packed + destination.packed)
        for source in inner
        for destination in inner
        if source != destination and source.version == destination.version
    ]
    return re.compile(b"|".join(pairs), re.DOTALL) if pairs else None


def _kernel_time(ancillary: list[tuple[int, int, bytes]]) -> float:
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS:
            seconds, nanoseconds = _TIMESPEC.unpack(data)
            return float(seconds + nanoseconds / 1e9)
    raise OSError("the kernel sent a frame without a timestamp")


def _force_buffer(listener: socket.socket) -> None:
    """Past net.core.rmem_max where that is allowed (root of the machine); else the kernel's limit stands."""
    try:
        listener.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES)
    except PermissionError:
        return
