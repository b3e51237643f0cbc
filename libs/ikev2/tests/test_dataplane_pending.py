"""Packets that share a seal and a send: the same bytes to the same peers, in the same order, as one packet at a time."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren_ikev2.addresses import Path, SocketAddress
from warren_ikev2.dataplane.checksum import PROTO_TCP, PROTO_UDP, ones_complement_sum, pseudo_header
from warren_ikev2.dataplane.counters import Counters
from warren_ikev2.dataplane.links import Link, Links
from warren_ikev2.dataplane.merge import Buffer
from warren_ikev2.dataplane.outbound import FRAME_OFFSET, Outbound
from warren_ikev2.dataplane.policer import Policer
from warren_ikev2.dataplane.segment import segment
from warren_ikev2.dataplane.vnet import NEEDS_CSUM, NO_OFFLOAD, VnetHeader
from warren_ikev2.esp.drops import DropReason, PacketDroppedError
from warren_ikev2.esp.inner import tos_of
from warren_ikev2.esp.table import SaPair, SaTable
from warren_ikev2.selectors import TrafficSelector
from warren_testkit.examples import examples
from warren_testkit.ikev2.dataplane import (
    LEFT,
    FakePort,
    FakeTun,
    child,
    counting_random,
    datagrams_of,
    tcp_packet,
    udp_packet,
)

SECOND_PATH = Path(SocketAddress(ip_address("192.0.2.1"), 4500), SocketAddress(ip_address("192.0.2.3"), 4500))
TO_SECOND = ip_address("10.1.0.1").packed + ip_address("10.3.0.1").packed
TO_NOBODY = ip_address("10.1.0.1").packed + ip_address("10.9.0.1").packed
HTTP_ONLY = (replace(TrafficSelector.parse("10.3.0.0/16"), protocol=PROTO_UDP, start_port=80, end_port=80),)


@dataclass
class Sent:
    """A send."""

    link: Link
    datagrams: list[bytes]
    tos: int


class Way:
    """The way out to two peers, and the scalar one next to it."""

    def __init__(
        self, cipher: str, *, esn: bool = False, ports: bool = False, start: int = 0, vectorised: bool = True
    ) -> None:
        second = HTTP_ONLY if ports else (TrafficSelector.parse("10.3.0.0/16"),)
        children = [
            child(cipher, esn=esn),
            replace(child(cipher, number=2, esn=esn), local_ts=LEFT, remote_ts=second, path=SECOND_PATH),
        ]
        self.links = Links(counting_random(), 1500)
        self.reference = SaTable()
        self.by_sa = {}
        random_bytes = counting_random()
        for made in children:
            link = self.links.install(made, FakePort([], made.path))
            pair = SaPair.of(made, random_bytes)
            self.reference.install(pair)
            self.by_sa[pair.outbound] = link
            link.pair.outbound.sequence = pair.outbound.sequence = start
        self.sends: list[Sent] = []
        self.counters = Counters()
        self.outbound = Outbound(
            self.links, self.counters, self._send, self._send_fragmented, FakeTun().write, vectorised=vectorised
        )

    def _send(self, link: Link, parts: Sequence[Buffer], stride: int, packets: int, tos: int) -> None:
        datagrams = datagrams_of(tuple(parts), stride)
        assert len(datagrams) == packets <= 64
        assert sum(map(len, datagrams)) <= 65507
        self.sends.append(Sent(link, datagrams, tos))

    def _send_fragmented(self, link: Link, datagram: bytes, tos: int) -> None:
        raise AssertionError("no packet here needs it")

    def push(self, packets: list[bytes], offload: Iterable[bool] = itertools.repeat(False)) -> None:
        """Packets as a TUN device hands them over; `offload`: whether the checksum is still to be completed."""
        for packet, partial in zip(packets, offload, strict=False):
            header, changed = with_partial_checksum(packet) if partial else (NO_OFFLOAD, packet)
            frame = header + changed
            self.outbound.frame[FRAME_OFFSET : FRAME_OFFSET + len(frame)] = frame
            self.outbound.take_frame(len(frame))
        self.outbound.flush()

    def check(self, packets: list[bytes]) -> None:
        """Compare with scalar ESP: bytes, peers, TOS bytes, order and drops."""
        expected, drops = [], 0
        for packet in packets:
            try:
                sa = self.reference.outbound_for(packet)
                expected.append((self.by_sa[sa], sa.seal(packet), tos_of(packet)))
            except PacketDroppedError:
                drops += 1
        assert [(it.link, datagram, it.tos) for it in self.sends for datagram in it.datagrams] == expected
        assert sum(self.counters.drops.values()) == drops


def with_partial_checksum(packet: bytes) -> tuple[bytes, bytes]:
    """The vnet header and the packet as the kernel leaves them to a device with checksum offload."""
    start = 20 if packet[:1] == b"\x45" else 40
    if len(packet) < start + 20 or packet[0] not in (0x45, 0x60):
        return NO_OFFLOAD, packet
    protocol = packet[9] if start == 20 else packet[6]
    offset = 6 if protocol == PROTO_UDP else 16
    pseudo = pseudo_header(packet, protocol, len(packet) - start) % 0xFFFF
    at = start + offset
    header = VnetHeader(NEEDS_CSUM, 0, 28, 0, start, offset)
    return header.build(), packet[:at] + pseudo.to_bytes(2, "big") + packet[at + 2 :]


@st.composite
def streams(draw: st.DrawFn) -> tuple[list[bytes], list[bool]]:
    """Packets most of which are like the one before, and which of them have partial checksums."""
    packets: list[bytes] = []
    partial: list[bool] = []
    size, to, offload = draw(st.sampled_from((64, 65))), b"", draw(st.booleans())
    for change in draw(st.lists(st.integers(0, 30), min_size=1, max_size=150)):
        if change == 1:
            size = draw(st.sampled_from((0, 7, 64, 200, 1300)))
        elif change == 2:
            to = draw(st.sampled_from((b"", TO_SECOND, TO_SECOND, TO_NOBODY)))
        elif change == 3:
            offload = not offload
        partial.append(offload)
        payload = bytes([len(packets)]) * (size + (change == 5) - (change == 6 and size > 0))
        version = 6 if change in (7, 8) and not to else 4
        tos = 2 if change == 9 else 0
        if change in (10, 11):
            packets.append(tcp_packet(payload, version=version, tos=tos))
            continue
        packet = udp_packet(payload, version=version, tos=tos, addresses=to, port=81 if change < 16 else 80)
        if change == 12:
            packet = draw(
                st.sampled_from((b"", b"\x45", packet[:-1], packet[:3] + bytes([packet[3] ^ 4]) + packet[4:]))
            )
        elif change == 13:
            packet = b"\x46" + packet[1:3] + bytes([packet[3] + 4 & 0xFF]) + packet[4:20] + bytes(4) + packet[20:]
        packets.append(packet)
    return packets, partial


@examples(200)
@given(
    streams(),
    st.sampled_from(("aes256gcm16", "chacha20poly1305", "aes256-sha256")),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from((0, 2**32 - 30)),
)
def test_packets_that_share_a_send_are_sealed_as_one_at_a_time(
    stream: tuple[list[bytes], list[bool]], cipher: str, esn: bool, ports: bool, vectorised: bool, start: int
) -> None:
    way = Way(cipher, esn=esn, ports=ports, start=start, vectorised=vectorised)
    way.push(*stream)
    way.check(stream[0])


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_a_completed_checksum_of_zero_is_that_of_the_protocol(version: int, transport: str) -> None:
    """TCP sends it as it is; UDP as 0xFFFF, since zero means that there is none (RFC 768)."""
    build, protocol = (udp_packet, PROTO_UDP) if transport == "udp" else (tcp_packet, PROTO_TCP)
    start, offset = (20 if version == 4 else 40), (6 if transport == "udp" else 16)
    packet = bytearray(build(bytes(100), version=version))
    packet[start + offset : start + offset + 2] = bytes(2)
    total = ones_complement_sum(packet[start:]) + pseudo_header(packet, protocol, len(packet) - start)
    packet[-2:] = (-total % 0xFFFF).to_bytes(2, "big")
    packet[start + offset : start + offset + 2] = b"\xff\xff" if transport == "udp" else b"\0\0"
    way = Way("aes256gcm16")
    way.push([bytes(packet)] * 20, [True] * 20)
    way.check([bytes(packet)] * 20)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("vectorised", [True, False])
@pytest.mark.parametrize("start", [0, 8, 20, 24, 40])
@pytest.mark.parametrize("offset", [0, 2, 3, 6, 16])
def test_a_checksum_in_any_place_is_completed_before_the_sa_is_chosen(
    version: int, vectorised: bool, start: int, offset: int
) -> None:
    """The kernel completes TCP's and UDP's only, but the header is whatever it says."""
    way = Way("aes256gcm16", ports=True, vectorised=vectorised)
    header = VnetHeader(NEEDS_CSUM, 0, 0, 0, start, offset)
    packet = udp_packet(bytes(64), version=version, port=80, addresses=TO_SECOND if version == 4 else b"")
    for _ in range(10):
        frame = header.build() + packet
        way.outbound.frame[FRAME_OFFSET : FRAME_OFFSET + len(frame)] = frame
        way.outbound.take_frame(len(frame))
    way.outbound.flush()
    way.check(segment(packet, header) * 10)


def test_a_checksum_outside_of_its_packet_is_malformed() -> None:
    way = Way("aes256gcm16")
    packets = [udp_packet(bytes(64)) for _ in range(20)]
    for number, packet in enumerate(packets):
        header = VnetHeader(NEEDS_CSUM, 0, 28, 0, 20, 71 if number % 2 else 70).build()
        way.outbound.frame[FRAME_OFFSET : FRAME_OFFSET + len(packet) + 10] = header + packet
        way.outbound.take_frame(len(packet) + 10)
    way.outbound.flush()
    assert way.counters.drops == {DropReason.MALFORMED: 10}
    assert sum(len(it.datagrams) for it in way.sends) == 10


@pytest.mark.parametrize(("size", "sends"), [(64, [64, 64, 2]), (1300, [48, 48, 34])])
def test_a_flow_is_sent_in_the_fewest_sends(size: int, sends: list[int]) -> None:
    way = Way("aes256gcm16")
    packets = [udp_packet(bytes(size)) for _ in range(130)]
    way.push(packets)
    way.check(packets)
    assert [len(sent.datagrams) for sent in way.sends] == sends


def test_the_ports_of_selectors_are_looked_at_for_every_packet() -> None:
    way = Way("aes256gcm16", ports=True)
    packets = [udp_packet(bytes(64), addresses=TO_SECOND, port=80 + (number > 4)) for number in range(8)]
    way.push(packets)
    way.check(packets)
    assert [len(sent.datagrams) for sent in way.sends] == [5]


def test_the_packets_of_a_limited_session_are_all_counted() -> None:
    way = Way("aes256gcm16")
    for link in way.links:
        link.policer = Policer(1_000_000, lambda: 0.0)
    way.push([udp_packet(bytes(1000)) for _ in range(400)])
    sent = sum(len(it.datagrams) for it in way.sends)
    assert 200 < sent < 300
    assert way.counters.drops.total() == 400 - sent
