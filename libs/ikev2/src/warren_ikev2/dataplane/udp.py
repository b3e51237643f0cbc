"""A UDP socket with segmentation offloads, shared with the process that owns it (udp(7); RFC 3948).

UDP_SEGMENT sends a train of equal datagrams with one call and UDP_GRO receives one; both are Linux's, from 4.18 and 5.0 on.
Where a device cannot take a train, the kernel answers EIO and the datagrams go by sendmmsg(2) from then on.
"""

import contextlib
import enum
import errno
import select
import socket
import struct
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, NamedTuple

from warren_ikev2.addresses import Path, SocketAddress
from warren_ikev2.dataplane.inbound import Arrival
from warren_ikev2.dataplane.merge import Buffer
from warren_ikev2.dataplane.sendmmsg import DatagramBatch

UDP_SEGMENT, UDP_GRO = 103, 104
_IP_MTU_DISCOVER, _PMTUDISC_DONT, _PMTUDISC_WANT = 10, 0, 1
_IPV6_MTU_DISCOVER = 23
_IP_MTU, _IPV6_MTU = 14, 24
_IP_PKTINFO = 8
"""Linux's numbers; Python does not name them all."""
_PKTINFO4 = struct.Struct("@i4s4s")
_PKTINFO6 = struct.Struct("@16si")
_ANCILLARY_SIZE = 128
_WAIT_MS = 50
"""How long a full socket buffer holds the sender up; after that the packets are lost, as on any link."""


class Sent(enum.Enum):
    """The outcome of a send."""

    TAKEN = enum.auto()
    TOO_BIG = enum.auto()
    """A packet is longer than the path MTU that the kernel knows."""
    REFUSED = enum.auto()
    """No route, no such source address, no buffer: the packets are lost."""


class Target(NamedTuple):
    """A path in the socket's form: the peer's host and port, and our own address where the socket has several."""

    host: str
    port: int
    local: bytes


class OffloadPort:
    """A bound, nonblocking UDP socket. `gso` and `gro` say whether trains are used."""

    def __init__(self, sock: socket.socket, *, gso: bool = True, gro: bool = True) -> None:
        self._sock = sock
        self._v6 = sock.family == socket.AF_INET6
        name = sock.getsockname()
        self.address = SocketAddress(ip_address(name[0].partition("%")[0]), name[1])
        self._wildcard = self.address.host.is_unspecified
        self._gso = gso
        self._batch: DatagramBatch | None = None
        self._last = Arrival(-1, 0, 0, None)
        """What was received last, which the next often equals, as it was parsed."""
        self._last_ancillary: list[tuple[int, int, bytes]] = []
        self._last_peer: tuple[Any, ...] = ()
        sock.setblocking(False)
        # DF, and EMSGSIZE for what is longer than the path MTU: the TUN device's senders are informed instead
        level, option = self._mtu_discover = (
            (socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER) if self._v6 else (socket.IPPROTO_IP, _IP_MTU_DISCOVER)
        )
        sock.setsockopt(level, option, _PMTUDISC_WANT)
        with contextlib.suppress(OSError):  # a kernel before 5.0: the datagrams arrive one at a time
            sock.setsockopt(socket.IPPROTO_UDP, UDP_GRO, int(gro))

    def fileno(self) -> int:
        """For the selector."""
        return self._sock.fileno()

    def close(self) -> None:
        """Close this process's descriptor."""
        self._sock.close()

    def destination(self, path: Path) -> Target:
        """See `links.Port`."""
        local = path.local.host.packed if self._wildcard and not path.local.host.is_unspecified else b""
        return Target(str(path.remote.host), path.remote.port, local)

    def path(self, source: Target) -> Path:
        """The path that a source stands for."""
        host = self.address.host
        if source.local:
            host = IPv6Address(source.local) if self._v6 else IPv4Address(source.local)
        remote = SocketAddress(ip_address(source.host.partition("%")[0]), source.port)
        return Path(SocketAddress(host, self.address.port), remote)

    def receive_into(self, buffer: memoryview) -> Arrival | None:
        """See `inbound.ReceivePort`. Errors that the network reports for earlier datagrams are skipped."""
        while True:
            try:
                length, ancillary, _, peer = self._sock.recvmsg_into((buffer,), _ANCILLARY_SIZE)
            except BlockingIOError:
                return None
            except OSError as error:
                if error.errno in (errno.EBADF, errno.ENOTSOCK):
                    raise
                continue
            if length == self._last.length and ancillary == self._last_ancillary and peer == self._last_peer:
                return self._last
            self._last = self._arrival(length, ancillary, peer)
            self._last_ancillary, self._last_peer = ancillary, peer
            return self._last

    def _arrival(self, length: int, ancillary: list[tuple[int, int, bytes]], peer: tuple[Any, ...]) -> Arrival:
        stride = tos = 0
        local = b""
        for level, kind, value in ancillary:
            if level == socket.IPPROTO_UDP and kind == UDP_GRO:
                stride = int.from_bytes(value[:4], "little")
            elif kind == (socket.IPV6_TCLASS if self._v6 else socket.IP_TOS):
                tos = value[0]
            elif self._v6 and kind == socket.IPV6_PKTINFO:
                local = _PKTINFO6.unpack(value)[0]
            elif not self._v6 and kind == _IP_PKTINFO:
                local = _PKTINFO4.unpack(value)[2]
        return Arrival(length, stride, tos, Target(peer[0], peer[1], local))

    def send(self, target: Target, parts: Sequence[Buffer], stride: int, packets: int, tos: int = 0) -> Sent:
        """Send one datagram, or a train of `packets` with `stride` bytes each; the last may be shorter."""
        ancillary = self._ancillary(target, tos)
        if packets > 1 and not self._gso:
            return self._send_each(target, parts, stride, ancillary)
        if packets > 1:
            ancillary.append((socket.IPPROTO_UDP, UDP_SEGMENT, stride.to_bytes(2, "little")))
        try:
            self._sendmsg(target, parts, ancillary)
        except OSError as error:
            if (
                packets > 1
                and error.errno in (errno.EIO, errno.EOPNOTSUPP, errno.EINVAL)
                and not self._is_long(target, stride)
            ):
                self._gso = False
                return self._send_each(target, parts, stride, ancillary[:-1])
            too_big = error.errno == errno.EMSGSIZE or (error.errno == errno.EINVAL and packets > 1)
            return Sent.TOO_BIG if too_big else Sent.REFUSED
        return Sent.TAKEN

    def _is_long(self, target: Target, stride: int) -> bool:
        """Some kernels answer EINVAL, not EMSGSIZE, for a train of packets longer than the path MTU."""
        return stride + (48 if self._v6 else 28) > self.path_mtu(target)

    def _send_each(self, target: Target, parts: Sequence[Buffer], stride: int, ancillary: list[Any]) -> Sent:
        if self._batch is None:
            self._batch = DatagramBatch(self._sock)
        count = self._batch.fill(parts, stride, target.host, target.port, ancillary)
        done, waited = 0, False
        while done < count:
            try:
                done += self._batch.send(done, count - done)
            except BlockingIOError:
                if waited:
                    return Sent.REFUSED
                self._wait()
                waited = True
            except OSError as error:
                return Sent.TOO_BIG if error.errno == errno.EMSGSIZE else Sent.REFUSED
        return Sent.TAKEN

    def _sendmsg(self, target: Target, parts: Sequence[Buffer], ancillary: list[Any]) -> None:
        try:
            self._sock.sendmsg(parts, ancillary, 0, target[:2])
        except BlockingIOError:
            self._wait()
            self._sock.sendmsg(parts, ancillary, 0, target[:2])

    def _wait(self) -> None:
        waiting = select.poll()
        waiting.register(self._sock, select.POLLOUT)
        waiting.poll(_WAIT_MS)

    def _ancillary(self, target: Target, tos: int) -> list[Any]:
        ancillary: list[Any] = []
        if tos and self._v6:
            ancillary.append((socket.IPPROTO_IPV6, socket.IPV6_TCLASS, tos.to_bytes(4, "little")))
        elif tos:
            ancillary.append((socket.IPPROTO_IP, socket.IP_TOS, bytes((tos,))))
        if target.local and self._v6:
            ancillary.append((socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, _PKTINFO6.pack(target.local, 0)))
        elif target.local:
            ancillary.append((socket.IPPROTO_IP, _IP_PKTINFO, _PKTINFO4.pack(0, target.local, bytes(4))))
        return ancillary

    def send_fragmented(self, target: Target, datagram: bytes, tos: int = 0) -> Sent:
        """Send one datagram that our host and, over IPv4, routers may fragment."""
        level, option = self._mtu_discover
        self._sock.setsockopt(level, option, _PMTUDISC_DONT)
        try:
            return self.send(target, (datagram,), len(datagram), 1, tos)
        finally:
            self._sock.setsockopt(level, option, _PMTUDISC_WANT)

    def path_mtu(self, target: Target) -> int:
        """The path MTU to a peer, in bytes, as the kernel knows it; 65,535 if it knows no route."""
        with socket.socket(self._sock.family, socket.SOCK_DGRAM) as probe:
            try:
                if target.local:
                    host = IPv6Address(target.local) if self._v6 else IPv4Address(target.local)
                    probe.bind((str(host), 0))
                elif not self._wildcard:
                    probe.bind((str(self.address.host), 0))
                probe.connect(target[:2])
                level, option = (socket.IPPROTO_IPV6, _IPV6_MTU) if self._v6 else (socket.IPPROTO_IP, _IP_MTU)
                return probe.getsockopt(level, option)
            except OSError:
                return 65535
