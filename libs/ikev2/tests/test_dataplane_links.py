"""CHILD_SAs, paths and sizes in the data plane; packets out that are not segments of a large one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import ICMPv6PacketTooBig, IPv6

from warren_ikev2.addresses import Path, SocketAddress
from warren_ikev2.dataplane.counters import Counters
from warren_ikev2.dataplane.inbound import Inbound
from warren_ikev2.dataplane.links import Link, Links
from warren_ikev2.dataplane.merge import Buffer
from warren_ikev2.dataplane.outbound import FRAME_OFFSET, Outbound
from warren_ikev2.dataplane.segment import segment
from warren_ikev2.dataplane.vnet import GSO_UDP_L4, NEEDS_CSUM, NO_OFFLOAD, VnetHeader
from warren_ikev2.errors import ConfigurationError
from warren_ikev2.esp.drops import DropReason
from warren_ikev2.esp.table import SaPair
from warren_ikev2.selectors import TrafficSelector
from warren_testkit.ikev2.dataplane import (
    FakePort,
    FakeTun,
    child,
    comparable,
    counting_random,
    datagrams_of,
    tcp_packet,
    tso_header,
)

OTHER_PATH = Path(SocketAddress(ip_address("192.0.2.1"), 4500), SocketAddress(ip_address("192.0.2.3"), 4501))


@dataclass
class Way:
    """The way out of some links: each send with its link, datagrams and TOS byte."""

    path_mtu: int = 1500
    tun: FakeTun = field(default_factory=FakeTun)
    sends: list[tuple[Link, list[bytes], int]] = field(default_factory=list)
    fragmented: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.links = Links(counting_random(), self.path_mtu)
        self.counters = Counters()
        self.outbound = Outbound(self.links, self.counters, self._send, self._send_fragmented, self.tun.write)

    def _send(self, link: Link, parts: Sequence[Buffer], stride: int, packets: int, tos: int) -> None:
        datagrams = datagrams_of(tuple(parts), stride)
        assert len(datagrams) == packets
        self.sends.append((link, datagrams, tos))

    def _send_fragmented(self, link: Link, datagram: bytes, tos: int) -> None:
        self.fragmented.append(datagram)

    def push(self, *packets: bytes, header: bytes = NO_OFFLOAD) -> None:
        for packet in packets:
            frame = header + packet
            self.outbound.frame[FRAME_OFFSET : FRAME_OFFSET + len(frame)] = frame
            self.outbound.take_frame(len(frame))
        self.outbound.flush()

    def opened(self, number: int = 1) -> list[bytes]:
        """What the peer finds in all that was sent."""
        inbound = SaPair.of(child(number=number, sender=False), counting_random()).inbound
        return [inbound.open(datagram) for _, datagrams, _ in self.sends for datagram in datagrams]


def udp(size: int, **fields: Any) -> bytes:
    return bytes(IP(src="10.1.0.1", dst="10.2.0.1", **fields) / UDP(sport=1, dport=2) / bytes(size))


def test_consecutive_packets_of_one_size_share_a_send() -> None:
    way = Way()
    way.links.install(child(), FakePort([]))
    packets = [udp(100), udp(100), udp(100), udp(50), udp(50), udp(200)]
    way.push(*packets)
    assert [len(datagrams) for _, datagrams, _ in way.sends] == [4, 1, 1]
    assert way.opened() == packets


def test_packets_with_another_tos_byte_or_peer_are_sent_apart() -> None:
    way = Way()
    one = way.links.install(child(), FakePort([]))
    more = replace(child(number=2), remote_ts=(TrafficSelector.parse("10.3.0.0/16"),), path=OTHER_PATH)
    two = way.links.install(more, FakePort([], "other"))
    elsewhere = bytes(IP(src="10.1.0.1", dst="10.3.0.1") / UDP(sport=1, dport=2) / bytes(100))
    way.push(udp(100), udp(100, tos=2), udp(100, tos=0xB8), elsewhere, elsewhere, udp(100))
    assert [(link, tos) for link, _, tos in way.sends] == [(one, 0), (one, 2), (one, 0xB8), (two, 0), (one, 0)]


def test_the_way_without_an_sa_is_counted() -> None:
    way = Way()
    way.push(udp(100), b"", b"\x45", bytes(IP(src="10.1.0.1", dst="10.9.0.1")), b"\x60" + bytes(50))
    assert way.counters.drops[DropReason.NO_SA] == 2
    assert way.counters.drops[DropReason.MALFORMED] == 3
    assert way.sends == []


def test_partial_checksums_are_completed() -> None:
    way = Way()
    way.links.install(child(), FakePort([]))
    whole = IP(bytes(IP(src="10.1.0.1", dst="10.2.0.1") / UDP(sport=1, dport=2) / b"odd"))
    partial = bytearray(bytes(whole))
    pseudo = sum(int.from_bytes(partial[at : at + 2], "big") for at in range(12, 20, 2)) + 17 + 11
    partial[26:28] = (pseudo % 0xFFFF).to_bytes(2, "big")
    way.push(bytes(partial), header=VnetHeader(NEEDS_CSUM, 0, 28, 0, 20, 6).build())
    assert way.opened() == [bytes(whole)]
    way.push(bytes(partial), header=VnetHeader(NEEDS_CSUM, 0, 28, 0, 20, 60000).build())
    assert way.counters.drops[DropReason.MALFORMED] == 1


def test_udp_segmentation_makes_datagrams() -> None:
    way = Way()
    way.links.install(child(), FakePort([]))
    large = IP(bytes(IP(src="10.1.0.1", dst="10.2.0.1", id=5) / UDP(sport=1, dport=2) / bytes(range(250)) / bytes(50)))
    way.push(bytes(large), header=VnetHeader(NEEDS_CSUM, GSO_UDP_L4, 28, 100, 20, 6).build())
    found = [IP(packet) for packet in way.opened()]
    assert b"".join(bytes(packet[UDP].payload) for packet in found) == bytes(large[UDP].payload)
    assert [packet.id for packet in found] == [5, 6, 7]
    for packet in found:
        rebuilt = packet.copy()
        del rebuilt.chksum, rebuilt[UDP].chksum, rebuilt[UDP].len, rebuilt.len
        assert bytes(rebuilt) == bytes(packet)


def test_a_long_packet_with_df_is_answered_by_icmp() -> None:
    way = Way()
    link = way.links.install(child(), FakePort([]))
    packet = udp(1500, flags="DF")
    way.push(packet)
    (answer,) = [IP(frame[10:]) for frame in way.tun.frames]
    assert (answer[ICMP].type, answer[ICMP].code, answer[ICMP].nexthopmtu) == (3, 4, link.mtu)
    assert (answer.src, answer.dst) == ("10.2.0.1", "10.1.0.1")
    assert bytes(answer[ICMP].payload) == packet[:28]
    assert way.counters.drops == {DropReason.TOO_BIG: 1}
    assert way.sends == []


def test_a_large_packet_whose_segments_are_too_long_is_answered_once() -> None:
    way = Way()
    link = way.links.install(child(), FakePort([]))
    for version, layer in ((4, ICMP), (6, ICMPv6PacketTooBig)):
        way.tun.frames.clear()
        packet = tcp_packet(bytes(14000), version=version)
        way.push(packet, header=tso_header(packet, 1400).build())
        (frame,) = way.tun.frames
        answer = (IP if version == 4 else IPv6)(frame[10:])
        assert getattr(answer[layer], "nexthopmtu" if version == 4 else "mtu") == link.mtu
        first, quoted = segment(packet, tso_header(packet, 1400))[0], bytes(answer[layer].payload)
        assert quoted == (first[:28] if version == 4 else first[: 1280 - 48])
        if version == 4:
            del answer.chksum, answer[layer].chksum
        else:
            del answer[layer].cksum
        assert bytes(answer) == frame[10:]
    assert way.counters.too_big_answers == 2
    assert way.sends == []


def test_a_long_packet_without_df_is_fragmented() -> None:
    way = Way()
    way.links.install(child(), FakePort([]))
    packet = udp(3000)
    way.push(packet)
    found = way.opened()
    assert len(found) == 3
    assert b"".join(part[20:] for part in found) == packet[20:]
    assert [IP(part).frag for part in found] == [0, 1416 // 8, 2832 // 8]


def test_segments_without_df_that_are_too_long_are_fragmented() -> None:
    way = Way()
    way.links.install(child(), FakePort([]))
    packet = tcp_packet(bytes(2800), dont_fragment=False)
    way.push(packet, header=tso_header(packet, 1400).build())
    assert len(way.opened()) == 4


def test_ipv6_up_to_1280_bytes_passes_a_shorter_path() -> None:
    way = Way(path_mtu=1290)
    way.links.install(child(), FakePort([]))
    packet = tcp_packet(bytes(1220), version=6)
    way.push(packet)
    assert len(way.fragmented) == 1
    way.push(tcp_packet(bytes(1221), version=6))
    assert way.counters.drops == {DropReason.TOO_BIG: 1}


def test_the_path_mtu_of_the_kernel_is_for_all_links_of_the_peer() -> None:
    links, port = Links(counting_random(), 1500), FakePort([])
    one = links.install(child(), port)
    two = links.install(replace(child(number=2), path=PATH_TO_OTHER_PORT), port)
    far = links.install(replace(child(number=3), path=OTHER_PATH), FakePort([]))
    port.mtu = 1400
    assert links.refresh_mtu(one)
    assert not links.refresh_mtu(two)
    assert (one.path_mtu, two.path_mtu, far.path_mtu) == (1400, 1400, 1500)
    port.mtu = 200
    links.refresh_mtu(one)
    assert one.path_mtu == 576  # a forged one goes no lower
    port.mtu = 9000
    assert links.refresh_mtu(one)
    assert (one.path_mtu, two.path_mtu) == (1500, 1500)


PATH_TO_OTHER_PORT = Path(SocketAddress(ip_address("192.0.2.1"), 4500), SocketAddress(ip_address("192.0.2.2"), 999))


def note_in(sources: list[object]) -> Callable[[Link, object], bool]:
    """Notes each reported source."""

    def note(link: Link, source: object) -> bool:
        sources.append(source)
        return True

    return note


def test_rollover_in_both_directions() -> None:
    way = Way()
    old, new = child(number=1), child(number=2)
    way.links.install(old, FakePort([]))
    way.links.install(new, FakePort([]), waits_for=old.spi_in)
    way.push(udp(10))
    assert way.sends[-1][0].child == old  # the peer has not confirmed the new one
    tun = FakeTun()
    sources: list[object] = []
    inbound = Inbound(way.links, Counters(), tun.write, lambda *_: None, note_in(sources))
    peer = SaPair.of(child(number=2, sender=False), counting_random()).outbound
    packet = tcp_packet(bytes(5000), addresses=ip_address("10.2.0.1").packed + ip_address("10.1.0.1").packed)
    sealed = [peer.seal(part) for part in segment(packet, tso_header(packet, 1000))]
    inbound.drain(FakePort([(b"".join(sealed), len(sealed[0]), 0)]), 10)  # a whole train confirms it
    assert comparable(tun.packets[0])[20:24] == packet[20:24]
    way.push(udp(10))
    assert way.sends[-1][0].child == new
    way.links.remove(old.spi_in, now=1.0, linger=5.0)
    late = SaPair.of(child(number=1, sender=False), counting_random()).outbound.seal(
        bytes(IP(src="10.2.0.1", dst="10.1.0.1") / UDP())
    )
    frames = len(tun.frames)
    inbound.drain(FakePort([(late, 0, 0)]), 10)
    assert len(tun.frames) == frames + 1
    way.links.handle_timer(6.0)
    inbound.drain(FakePort([(late, 0, 0)]), 10)
    assert len(tun.frames) == frames + 1
    assert old.spi_in.to_bytes(4, "big") not in way.links.by_spi
    assert sources == []


def test_a_waiting_child_sends_at_once_if_the_other_is_not_here() -> None:
    way = Way()
    way.links.install(child(number=2), FakePort([]), waits_for=4711)
    way.push(udp(10))
    assert len(way.sends) == 1


def test_another_source_is_reported_once_after_an_authentic_packet() -> None:
    links = Links(counting_random(), 1500)
    link = links.install(child(sender=False), FakePort([], "here"))
    reported: list[object] = []
    inbound = Inbound(links, Counters(), FakeTun().write, lambda *_: None, note_in(reported))
    outbound = SaPair.of(child(), counting_random()).outbound
    sealed = [outbound.seal(udp(10)) for _ in range(4)]
    forged = sealed[0][:-1] + bytes([sealed[0][-1] ^ 1])
    inbound.drain(FakePort([(forged, 0, 0)], "elsewhere"), 10)
    assert reported == []
    inbound.drain(FakePort([(sealed[0], 0, 0), (sealed[1], 0, 0)], "elsewhere"), 10)
    inbound.drain(FakePort([(sealed[2], 0, 0)], "here"), 10)
    assert reported == ["elsewhere"]
    links.move(link.child.spi_in, OTHER_PATH, FakePort([], "elsewhere"))
    inbound.drain(FakePort([(sealed[3], 0, 0)], "here"), 10)
    assert reported == ["elsewhere", "here"]


@pytest.mark.parametrize("trains", [True, False])
def test_an_attacker_who_repeats_or_holds_back_packets_moves_nobody(trains: bool) -> None:
    """Every tenth packet is caught on the way and sent from elsewhere, as all others are again: only the newest moves the peer."""
    links = Links(counting_random(), 1500)
    links.install(child(sender=False), FakePort([], "here"))
    reported: list[object] = []
    counters = Counters()
    inbound = Inbound(links, counters, FakeTun().write, lambda *_: None, note_in(reported))
    outbound = SaPair.of(child(), counting_random()).outbound

    def arrivals(datagrams: list[bytes]) -> list[tuple[bytes, int, int]]:
        return [(b"".join(datagrams), len(datagrams[0]), 0)] if trains else [(it, 0, 0) for it in datagrams]

    caught: list[bytes] = []
    for _ in range(20):
        sealed = [outbound.seal(udp(100)) for _ in range(10)]
        caught.append(sealed.pop(4))
        inbound.drain(FakePort(arrivals(sealed), "here"), 100)
        inbound.drain(FakePort(arrivals(sealed), "elsewhere"), 100)
    inbound.drain(FakePort(arrivals(caught), "elsewhere"), 100)
    assert reported == []
    assert counters.packets_in == 200
    assert counters.drops == {DropReason.REPLAY: 180}
    inbound.drain(FakePort(arrivals([outbound.seal(udp(100)) for _ in range(10)]), "new port"), 100)
    assert reported == ["new port"]


def test_a_known_spi_and_transport_mode_are_refused() -> None:
    links = Links(counting_random(), 1500)
    links.install(child(), FakePort([]))
    with pytest.raises(ConfigurationError, match="SPI"):
        links.install(child(), FakePort([]))
    links.remove(4711, 0.0, 0.0)
    links.move(4711, OTHER_PATH, FakePort([]))
