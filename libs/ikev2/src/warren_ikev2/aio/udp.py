"""A bound UDP socket that knows the local address and the TOS byte of each datagram, both ways (RFC 3542 and ip(7))."""

import errno
import socket
import struct
from ipaddress import IPv4Address, IPv6Address, ip_address

from warren_ikev2.addresses import IPAddress, Path, SocketAddress

_MAX_DATAGRAM = 65535
_BUFFER = 4 * 1024 * 1024
"""Bytes asked of the kernel each way: a second of 30 Mbit/s while the event loop is busy."""
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33
"""Linux's numbers (socket(7)): beyond the limits net.core.wmem_max and rmem_max, with CAP_NET_ADMIN."""
_PATHS = 4096
"""Paths whose objects are kept, so that not every packet builds one."""
_IP_PKTINFO = 8
"""Linux's number; Python names it from 3.14 on."""
_PKTINFO4 = struct.Struct("@i4s4s")
_PKTINFO6 = struct.Struct("@16si")
_GONE = frozenset(
    {errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EPERM, errno.EMSGSIZE, errno.ENOBUFS}
    | {errno.EINVAL, errno.EADDRNOTAVAIL, errno.ENETDOWN}  # the source address or its link is gone
)
"""Errors that the network reports for a datagram; it counts as lost."""


class UdpPort:
    """One nonblocking UDP socket; `address` is what it is bound to, with the real port."""

    def __init__(self, host: IPAddress, port: int) -> None:
        """Bind. Raises `OSError` if the address is not there, the port is taken or needs privileges."""
        self._v6 = host.version == 6
        self._wildcard = host.is_unspecified
        self._sock = socket.socket(socket.AF_INET6 if self._v6 else socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._sock.setblocking(False)
            self._configure()
            self._sock.bind((str(host), port))
        except BaseException:
            self._sock.close()
            raise
        self.address = SocketAddress(host, self._sock.getsockname()[1])
        self._paths: dict[tuple[object, bytes], Path] = {}

    def _configure(self) -> None:
        for forced, option in ((_SO_RCVBUFFORCE, socket.SO_RCVBUF), (_SO_SNDBUFFORCE, socket.SO_SNDBUF)):
            try:
                # the default limit of 208 kB holds three trains of 64 KiB: a burst of TCP would lose some
                self._sock.setsockopt(socket.SOL_SOCKET, forced, _BUFFER)
            except PermissionError:
                self._sock.setsockopt(socket.SOL_SOCKET, option, _BUFFER)
        if self._v6:
            self._sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            self._sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS, 1)
        else:
            self._sock.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
        if self._wildcard and self._v6:
            self._sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        elif self._wildcard:
            self._sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)

    def fileno(self) -> int:
        """For the event loop."""
        return self._sock.fileno()

    def close(self) -> None:
        """Close the socket; may be called twice."""
        self._sock.close()

    def receive(self) -> tuple[bytes, Path, int] | None:
        """A datagram, its path and the outer TOS byte; `None` when there is nothing to read."""
        while True:
            try:
                data, ancillary, _, peer = self._sock.recvmsg(_MAX_DATAGRAM, 128)
            except BlockingIOError:
                return None
            except OSError as error:
                if error.errno in _GONE:
                    continue
                raise
            tos, local = 0, b""
            for _, kind, value in ancillary:
                if kind in (socket.IP_TOS, socket.IPV6_TCLASS):
                    tos = value[0]
                elif kind == _IP_PKTINFO and not self._v6:
                    local = _PKTINFO4.unpack(value)[2]
                elif kind == socket.IPV6_PKTINFO and self._v6:
                    local = _PKTINFO6.unpack(value)[0]
            return data, self._path(peer, local), tos

    def send(self, data: bytes, path: Path, tos: int = 0) -> bool:
        """Send from `path.local` to `path.remote`; whether the kernel took it. With a full buffer the datagram is lost."""
        ancillary: list[tuple[int, int, bytes]] = []
        if tos and self._v6:
            ancillary.append((socket.IPPROTO_IPV6, socket.IPV6_TCLASS, tos.to_bytes(4, "little")))
        elif tos:
            ancillary.append((socket.IPPROTO_IP, socket.IP_TOS, bytes((tos,))))
        if self._wildcard and not path.local.host.is_unspecified:
            ancillary.append(self._source(path.local.host))
        target = (str(path.remote.host), path.remote.port)
        try:
            if ancillary:
                self._sock.sendmsg((data,), ancillary, 0, target)
            else:
                self._sock.sendto(data, target)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno not in _GONE:
                raise
            return False
        return True

    def _source(self, local: IPAddress) -> tuple[int, int, bytes]:
        if self._v6:
            return socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, _PKTINFO6.pack(local.packed, 0)
        return socket.IPPROTO_IP, _IP_PKTINFO, _PKTINFO4.pack(0, local.packed, bytes(4))

    def _path(self, peer: tuple[object, ...], local: bytes) -> Path:
        path = self._paths.get((peer, local))
        if path is None:
            host = ip_address(str(peer[0]).partition("%")[0])
            own = (IPv6Address(local) if self._v6 else IPv4Address(local)) if local else self.address.host
            path = Path(SocketAddress(own, self.address.port), SocketAddress(host, int(str(peer[1]))))
            if len(self._paths) >= _PATHS:
                self._paths.clear()
            self._paths[peer, local] = path
        return path


def local_address_for(remote: SocketAddress) -> IPAddress:
    """The address that the kernel would send from to `remote`. Raises `OSError` where there is no route."""
    family = socket.AF_INET6 if remote.host.version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((str(remote.host), remote.port or 9))
        return ip_address(probe.getsockname()[0].partition("%")[0])
