"""Data moved between two namespaces and compared at the far end: streams by SHA-256, datagrams byte by byte."""

import hashlib
import socket
import threading
from dataclasses import dataclass
from ipaddress import ip_address

from warren_lab.namespace import Namespace

LIMIT_SECONDS = 60.0

_UDP_SEGMENT = 103
"""Linux's number; Python does not name it."""


@dataclass(frozen=True)
class Host:
    """A namespace and the address in it that data goes to or comes from."""

    namespace: Namespace
    address: str

    def socket(self, kind: socket.SocketKind) -> socket.socket:
        """A socket of the address's IP version, with a limit on each call."""
        family = socket.AF_INET6 if ip_address(self.address).version == 6 else socket.AF_INET
        made = self.namespace.socket(family, kind)
        made.settimeout(LIMIT_SECONDS)
        return made


def transfer(data: bytes, source: Host, target: Host, *, mss: int | None = None) -> None:
    """Send data by TCP and compare what arrives; `mss` limits the segments of both directions."""
    received = hashlib.sha256()
    with target.socket(socket.SOCK_STREAM) as listener, source.socket(socket.SOCK_STREAM) as sender:
        for side in (listener, sender):
            if mss is not None:
                side.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, mss)
        listener.bind((target.address, 0))
        listener.listen(1)
        reader = threading.Thread(target=_read_all, args=(listener, received))
        reader.start()
        sender.bind((source.address, 0))
        sender.connect((target.address, listener.getsockname()[1]))
        sender.sendall(data)
        sender.shutdown(socket.SHUT_WR)
        reader.join(LIMIT_SECONDS)
        assert not reader.is_alive(), "the receiver still waits for the end of the data"
    assert received.digest() == hashlib.sha256(data).digest()


def _read_all(listener: socket.socket, digest: "hashlib._Hash") -> None:
    connection, _ = listener.accept()
    with connection:
        connection.settimeout(LIMIT_SECONDS)
        while data := connection.recv(1 << 20):
            digest.update(data)


def exchange_datagrams(sizes: list[int], source: Host, target: Host) -> list[int]:
    """Send one UDP datagram of each size and wait for it; returns the sizes that arrived unchanged, in order."""
    arrived = []
    with target.socket(socket.SOCK_DGRAM) as receiver, source.socket(socket.SOCK_DGRAM) as sender:
        receiver.bind((target.address, 0))
        sender.bind((source.address, 0))
        for size in sizes:
            data = bytes(number * 7 & 0xFF for number in range(size))
            sender.sendto(data, receiver.getsockname()[:2])
            if receiver.recv(65536) == data:
                arrived.append(size)
    return arrived


def exchange_burst(count: int, size: int, source: Host, target: Host) -> bool:
    """Send UDP datagrams of one size with one call (UDP_SEGMENT, udp(7)); returns whether all arrived unchanged and in order."""
    datagrams = [bytes((number + at) & 0xFF for at in range(size)) for number in range(count)]
    with target.socket(socket.SOCK_DGRAM) as receiver, source.socket(socket.SOCK_DGRAM) as sender:
        receiver.bind((target.address, 0))
        sender.bind((source.address, 0))
        segment = [(socket.IPPROTO_UDP, _UDP_SEGMENT, size.to_bytes(2, "little"))]
        sender.sendmsg(datagrams, segment, 0, receiver.getsockname()[:2])
        return [receiver.recv(65536) for _ in datagrams] == datagrams
