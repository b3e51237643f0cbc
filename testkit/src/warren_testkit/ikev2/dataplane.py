"""Packets, SAs and fakes for the tests of the data plane."""

from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from warren_ikev2.addresses import Path, SocketAddress
from warren_ikev2.children import ChildSa, EspKeys
from warren_ikev2.dataplane.checksum import (
    PROTO_TCP,
    PROTO_UDP,
    complement,
    ipv4_header_is_valid,
    ones_complement_sum,
    pseudo_header,
    write_ipv4_checksum,
)
from warren_ikev2.dataplane.counters import Counters
from warren_ikev2.dataplane.inbound import Arrival, Inbound
from warren_ikev2.dataplane.links import Links
from warren_ikev2.dataplane.merge import Buffer
from warren_ikev2.dataplane.outbound import FRAME_OFFSET, Outbound
from warren_ikev2.dataplane.segment import segment
from warren_ikev2.dataplane.vnet import GSO_ECN, GSO_TCPV4, GSO_TCPV6, HEADER_SIZE, NEEDS_CSUM, VnetHeader
from warren_ikev2.esp.drops import DropReason, PacketDroppedError
from warren_ikev2.esp.table import SaPair
from warren_ikev2.selectors import TrafficSelector
from warren_ikev2.suites import esp_suite
from warren_testkit.ikev2.proposals import parse_esp_proposal

LEFT = (TrafficSelector.parse("10.1.0.0/16"), TrafficSelector.parse("fd01::/16"))
RIGHT = (TrafficSelector.parse("10.2.0.0/16"), TrafficSelector.parse("fd02::/16"))
PATH = Path(SocketAddress(ip_address("192.0.2.1"), 4500), SocketAddress(ip_address("192.0.2.2"), 4500))
KEY_LENGTHS = {"aes256gcm16": (32, 4, 0), "chacha20poly1305": (32, 4, 0), "aes256-sha256": (32, 0, 32)}
ADDRESSES = {
    4: ip_address("10.1.0.1").packed + ip_address("10.2.0.1").packed,
    6: ip_address("fd01::1").packed + ip_address("fd02::1").packed,
}


def child(cipher: str = "aes256gcm16", number: int = 1, *, esn: bool = False, sender: bool = True) -> ChildSa:
    """One end of a CHILD_SA from LEFT to RIGHT."""
    suite = esp_suite(parse_esp_proposal(cipher + ("-esn" if esn else "")))
    keys = [EspKeys(*(bytes([number + way]) * length for length in KEY_LENGTHS[cipher])) for way in (0, 100)]
    if sender:
        return ChildSa("c", 2 * number + 1000, 2 * number + 1001, suite, keys[1], keys[0], LEFT, RIGHT, PATH, True)
    return ChildSa("c", 2 * number + 1001, 2 * number + 1000, suite, keys[0], keys[1], RIGHT, LEFT, PATH, True)


def counting_random(seed: int = 0) -> Any:
    """Random bytes that repeat, so that two transforms draw the same ones."""
    state = [seed]

    def draw(length: int) -> bytes:
        state[0] += 1
        return state[0].to_bytes(4, "big").rjust(length, b"r")[:length]

    return draw


@dataclass(frozen=True)
class TcpPacket:
    """A TCP packet with correct checksums; the addresses are those of the selectors unless given."""

    payload: bytes
    version: int = 4
    sequence: int = 1
    flags: int = 0x10
    options: bytes = b""
    identification: int = 7
    dont_fragment: bool = True
    tos: int = 0
    addresses: bytes = b""
    window: int = 500

    def build(self) -> bytes:
        """The packet's bytes."""
        length = 20 + len(self.options) + len(self.payload)
        head = _ip_header(self, PROTO_TCP, length)
        tcp = b"\x13\x88\x00\x50" + self.sequence.to_bytes(4, "big") + b"\0\0\0\x09"
        tcp += bytes((len(self.options) // 4 + 5 << 4, self.flags)) + self.window.to_bytes(2, "big")
        tcp += b"\0\0\0\0" + self.options
        packet = bytearray(head + tcp + self.payload)
        start = len(head)
        value = complement(ones_complement_sum(packet[start:]) + pseudo_header(packet, PROTO_TCP, length))
        packet[start + 16 : start + 18] = value.to_bytes(2, "big")
        return bytes(packet)


def tcp_packet(payload: bytes, **fields: Any) -> bytes:
    """The bytes of a `TcpPacket`."""
    return TcpPacket(payload, **fields).build()


@dataclass(frozen=True)
class UdpPacket:
    """A UDP packet with correct checksums, or without UDP's; the addresses are those of the selectors unless given."""

    payload: bytes
    version: int = 4
    addresses: bytes = b""
    port: int = 53
    identification: int = 7
    dont_fragment: bool = True
    tos: int = 0
    checksum: bool = True

    def build(self) -> bytes:
        """The packet's bytes."""
        length = 8 + len(self.payload)
        head = _ip_header(self, PROTO_UDP, length)
        udp = b"\x13\x88" + self.port.to_bytes(2, "big") + length.to_bytes(2, "big") + b"\0\0"
        packet = bytearray(head + udp + self.payload)
        if self.checksum:
            total = ones_complement_sum(packet[len(head) :]) + pseudo_header(packet, PROTO_UDP, length)
            packet[len(head) + 6 : len(head) + 8] = (complement(total) or 0xFFFF).to_bytes(2, "big")
        return bytes(packet)


def udp_packet(payload: bytes, **fields: Any) -> bytes:
    """The bytes of a `UdpPacket`."""
    return UdpPacket(payload, **fields).build()


def _ip_header(packet: TcpPacket | UdpPacket, protocol: int, length: int) -> bytes:
    """The IP header before `length` bytes of a protocol."""
    addresses, tos = packet.addresses or ADDRESSES[packet.version], packet.tos
    if packet.version == 6:
        start = bytes((0x60 | tos >> 4, (tos & 15) << 4, 0, 0)) + length.to_bytes(2, "big")
        return start + bytes((protocol, 64)) + addresses
    head = bytearray((0x45, tos)) + (20 + length).to_bytes(2, "big") + packet.identification.to_bytes(2, "big")
    head += (b"\x40\0" if packet.dont_fragment else b"\0\0") + bytes((64, protocol, 0, 0)) + addresses
    write_ipv4_checksum(head, 20)
    return bytes(head)


def tso_header(packet: bytes, mss: int) -> VnetHeader:
    """The vnet header with which the kernel hands over a TCP packet unsegmented."""
    tcp = 20 if packet[0] >> 4 == 4 else 40
    kind = (GSO_TCPV4 if tcp == 20 else GSO_TCPV6) | (GSO_ECN if packet[tcp + 13] & 0x80 else 0)
    return VnetHeader(NEEDS_CSUM, kind, tcp + (packet[tcp + 12] >> 4) * 4, mss, tcp, 16)


def aligned(packet: bytes) -> memoryview:
    """A writable copy as `TcpSealer.seal` wants it."""
    return memoryview(bytearray(packet))


class FakeTun:
    """Collects what is written to a TUN device."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []

    def write(self, parts: Any) -> None:
        self.frames.append(b"".join(bytes(part) for part in parts))
        assert len(self.frames[-1]) <= HEADER_SIZE + 65535

    @property
    def packets(self) -> list[bytes]:
        """The packets that the frames stand for, as `comparable`."""
        found: list[bytes] = []
        for frame in self.frames:
            found += segment(frame[HEADER_SIZE:], VnetHeader.parse(frame))
        return [comparable(packet) for packet in found]


def comparable(packet: bytes) -> bytes:
    """The packet without its IPv4 identification if that has no meaning (DF, RFC 6864, 4.1): instead of it and of the checksum
    over it stands whether the checksum is right.
    """
    if packet[0] == 0x45 and packet[6] & 0x40:
        valid = bytes((ipv4_header_is_valid(packet), 0))
        return packet[:4] + b"\0\0" + packet[6:10] + valid + packet[12:]
    return packet


class FakePort:
    """A socket whose datagrams are given; `source` is any value that identifies the path."""

    def __init__(self, arrivals: list[tuple[bytes, int, int]], source: object = "peer") -> None:
        """Each arrival: data, stride (0: a single datagram), TOS byte."""
        self.arrivals = list(arrivals)
        self.source = source
        self.mtu = 65535
        self.sent: list[tuple[bytes, int, int, int]] = []

    def destination(self, path: Path) -> object:
        return self.source

    def path_mtu(self, target: object) -> int:
        return self.mtu

    def receive_into(self, buffer: memoryview) -> Arrival | None:
        if not self.arrivals:
            return None
        data, stride, tos = self.arrivals.pop(0)
        buffer[: len(data)] = data
        return Arrival(len(data), stride, tos, self.source)


def datagrams_of(parts: list[Buffer] | tuple[Buffer, ...], stride: int) -> list[bytes]:
    """The datagrams of a train."""
    data = b"".join(bytes(part) for part in parts)
    return [data[at : at + stride] for at in range(0, len(data), stride)]


def sent_by_outbound(
    links: Links, frames: list[tuple[bytes, bytes]], *, vectorised: bool
) -> tuple[list[bytes], Counters]:
    """The datagrams that the way out sends for frames (vnet header, packet), and its counters."""
    sent: list[bytes] = []

    def send(link: Any, parts: Any, stride: int, packets: int, tos: int) -> None:
        datagrams = datagrams_of(parts, stride)
        assert len(datagrams) == packets <= 64
        assert sum(map(len, datagrams)) <= 65507
        sent.extend(datagrams)

    counters = Counters()
    outbound = Outbound(
        links, counters, send, lambda link, datagram, tos: sent.append(datagram), FakeTun().write, vectorised=vectorised
    )
    for header, packet in frames:
        frame = header + packet
        outbound.frame[FRAME_OFFSET : FRAME_OFFSET + len(frame)] = frame
        outbound.take_frame(len(frame))
    outbound.flush()
    return sent, counters


class Feed:
    """The same ESP packets into the batched way in and into scalar ESP."""

    def __init__(
        self, cipher: str, *, esn: bool, vectorised: bool = True, top: int = 0, merge_udp: bool = True
    ) -> None:
        self.tun = FakeTun()
        self.counters = Counters()
        self.links = Links(counting_random(), 9200)
        self.link = self.links.install(child(cipher, esn=esn, sender=False), FakePort([]))
        self.inbound = Inbound(
            self.links, self.counters, self.tun.write, self._take_ike, lambda link, source: True,
            vectorised=vectorised, merge_udp=merge_udp,
        )  # fmt: skip
        self.reference = SaPair.of(child(cipher, esn=esn, sender=False), counting_random()).inbound
        for sa in (self.reference, self.link.pair.inbound):
            sa.replay.top = top
        self.expected: list[bytes] = []
        self.reference_drops: dict[DropReason, int] = {}
        self.ike: list[bytes] = []
        self.expected_ike: list[bytes] = []

    def _take_ike(self, datagram: bytes, source: Any, tos: int, port: Any) -> None:
        self.ike.append(datagram)

    def push(self, datagrams: list[bytes], stride: int, tos: int = 0) -> None:
        """One arrival, all of whose datagrams but the last have `stride` bytes; 0: they arrive one at a time."""
        self.push_all([(datagrams, stride, tos)])

    def push_all(self, trains: list[tuple[list[bytes], int, int]]) -> None:
        """Several arrivals that wait at the same time; each is as the arguments of `push`."""
        arrivals: list[tuple[bytes, int, int]] = []
        for datagrams, stride, tos in trains:
            if stride:
                arrivals.append((b"".join(datagrams), stride, tos))
            else:
                arrivals += [(datagram, 0, tos) for datagram in datagrams]
        self.inbound.drain(FakePort(arrivals), 1000)
        for datagrams, _, tos in trains:
            self._expect(datagrams, tos)

    def _expect(self, datagrams: list[bytes], tos: int) -> None:
        for datagram in datagrams:
            if datagram[:4] == bytes(4):
                self.expected_ike.append(datagram)
                continue
            try:
                if int.from_bytes(datagram[:4], "big") != self.reference.spi:
                    raise PacketDroppedError(DropReason.NO_SA)
                self.expected.append(comparable(self.reference.open(datagram, tos)))
            except PacketDroppedError as dropped:
                self.reference_drops[dropped.reason] = self.reference_drops.get(dropped.reason, 0) + 1

    def check(self) -> None:
        assert self.tun.packets == self.expected
        assert self.ike == self.expected_ike
        assert {reason: count for reason, count in self.counters.drops.items() if count} == self.reference_drops
        sa = self.link.pair.inbound
        assert (sa.packets, sa.octets, sa.replay.top) == (
            self.reference.packets, self.reference.octets, self.reference.replay.top,
        )  # fmt: skip
