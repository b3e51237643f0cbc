"""The batched path against the scalar one: byte for byte on the wire, packet for packet in the TUN device."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren_ikev2.dataplane.links import Links
from warren_ikev2.dataplane.segment import segment
from warren_ikev2.dataplane.vnet import NO_OFFLOAD
from warren_ikev2.esp.drops import DropReason, PacketDroppedError
from warren_ikev2.esp.table import SaPair
from warren_testkit.examples import examples
from warren_testkit.ikev2.dataplane import (
    FakePort,
    Feed,
    child,
    comparable,
    counting_random,
    sent_by_outbound,
    tcp_packet,
    tso_header,
    udp_packet,
)

CIPHERS = ("aes256gcm16", "chacha20poly1305", "aes256-sha256")
ciphers = st.sampled_from(CIPHERS)
SIZES = st.one_of(st.integers(1, 200), st.integers(1000, 1500), st.integers(30000, 65400))


@st.composite
def large_packets(draw: st.DrawFn) -> tuple[bytes, int]:
    """A TSO packet and its MSS."""
    version = draw(st.sampled_from((4, 6)))
    mss = draw(st.one_of(st.integers(536, 1460), st.integers(8, 100), st.just(8948)))
    options = draw(st.sampled_from((b"", b"\1\1\x08\x0a" + bytes(8), b"\1" * 40)))
    longest = 65535 - (40 if version == 4 else 60) - len(options)
    length = draw(st.integers(1, min(longest, 200 * mss)))
    seed = draw(st.binary(min_size=1, max_size=64))
    payload = (seed * (length // len(seed) + 1))[:length]
    return tcp_packet(
        payload,
        version=version,
        sequence=draw(st.one_of(st.integers(0, 2**32 - 1), st.integers(2**32 - 70000, 2**32 - 1))),
        flags=draw(st.sampled_from((0x10, 0x18, 0x11, 0x19, 0x90, 0xD8, 0x50))),
        options=options,
        identification=draw(st.sampled_from((0, 1, 0xFFF0, 0xFFFF))),
        dont_fragment=draw(st.booleans()),
        tos=draw(st.sampled_from((0, 1, 2, 3, 0xB8))),
    ), mss


def make_links(cipher: str, *, esn: bool = False, sequence: int = 0, path_mtu: int = 9200) -> Links:
    links = Links(counting_random(), path_mtu)
    link = links.install(child(cipher, esn=esn), FakePort([]))
    link.pair.outbound.sequence = sequence
    return links


@examples(150)
@given(large_packets(), ciphers, st.booleans(), st.sampled_from((0, 2**32 - 40, 2**40)), st.booleans(), st.booleans())
def test_segments_are_sealed_as_one_at_a_time(
    large: tuple[bytes, int], cipher: str, esn: bool, start: int, twice: bool, vectorised: bool
) -> None:
    packet, mss = large
    if start > 2**32 and not esn:
        start = 17
    header = tso_header(packet, mss)
    expected, reference_drops = [], 0
    reference = SaPair.of(child(cipher, esn=esn), counting_random()).outbound
    reference.sequence = start
    for _ in range(1 + twice):
        for part in segment(packet, header):
            try:
                expected.append(reference.seal(part))
            except PacketDroppedError:
                reference_drops += 1
    links = make_links(cipher, esn=esn, sequence=start)
    sent, counters = sent_by_outbound(links, [(header.build(), packet)] * (1 + twice), vectorised=vectorised)
    assert sent == expected
    assert counters.drops[DropReason.EXHAUSTED] == reference_drops
    (link,) = links
    assert (link.pair.outbound.sequence, link.pair.outbound.octets) == (reference.sequence, reference.octets)
    if not reference_drops:
        assert counters.trains_sealed


@pytest.mark.parametrize("vectorised", [True, False])
@pytest.mark.parametrize("between", [0, 2, 3, 8])
def test_a_tcp_header_may_stand_anywhere_behind_an_ipv6_header(between: int, vectorised: bool) -> None:
    """Extension headers are multiples of 8 bytes; a header that says otherwise changes nothing but the speed."""
    packet = tcp_packet(bytes(range(250)) * 12, version=6)
    packet = packet[:4] + (len(packet) - 40 + between).to_bytes(2, "big") + packet[6:40] + bytes(between) + packet[40:]
    header = tso_header(packet, 500)._replace(checksum_start=40 + between)
    reference = SaPair.of(child(), counting_random()).outbound
    sent, _ = sent_by_outbound(make_links("aes256gcm16"), [(header.build(), packet)], vectorised=vectorised)
    assert sent == [reference.seal(part) for part in segment(packet, header)]


def test_all_segments_of_a_packet_are_valid_tcp() -> None:
    """An independent check of the checksums, identifications, flags and lengths: scapy's."""
    from scapy.layers.inet import IP, TCP

    packet = tcp_packet(bytes(range(256)) * 40, flags=0x99, dont_fragment=False, identification=0xFFFE)
    segments = [IP(part) for part in segment(packet, tso_header(packet, 1000))]
    assert [part.id for part in segments] == [(0xFFFE + number) % 65536 for number in range(11)]
    assert [int(part[TCP].flags) for part in segments] == [0x90, *[0x10] * 9, 0x19]
    assert [part[TCP].seq for part in segments] == [1 + 1000 * number for number in range(11)]
    for part in segments:
        rebuilt = part.copy()
        del rebuilt.chksum, rebuilt[TCP].chksum, rebuilt.len
        assert bytes(rebuilt) == bytes(part)


@st.composite
def inner_streams(draw: st.DrawFn) -> list[bytes]:
    """Packets of a few flows, of TCP or UDP, some of which follow each other, some of which are corrupt or outside the selectors."""
    packets: list[bytes] = []
    sequence = draw(st.sampled_from((1, 2**32 - 5000)))
    identification = draw(st.integers(0, 65535))
    size = draw(st.sampled_from((900, 1001, 1348, 40)))
    version = draw(st.sampled_from((4, 6)))
    outside = bytes((10, 9, 0, 1, 10, 2, 0, 1))
    udp = draw(st.booleans())
    for _ in range(draw(st.integers(1, 30))):
        change = draw(st.integers(0, 40))
        length = size - draw(st.integers(1, 30)) if change == 1 else size
        sequence += 500 if change == 2 else 0
        packet = tcp_packet(
            bytes([len(packets)]) * length,
            version=10 - version if change == 3 else version,
            sequence=sequence & 0xFFFFFFFF,
            flags=draw(st.sampled_from((0x18, 0x11, 0x90, 0x50, 0x12, 0x30))) if change == 4 else 0x10,
            options=b"\1\1\x08\x0a" + bytes(8) if change == 5 else b"",
            identification=identification & 0xFFFF,
            dont_fragment=change != 6 and identification < 40000,
            tos=draw(st.integers(0, 3)) if change == 7 else 2,
            addresses=outside if change == 8 and version == 4 else b"",
            window=501 if change == 9 else 500,
        )
        if udp != (change == 13):
            packet = udp_packet(
                bytes([len(packets)]) * length,
                version=10 - version if change == 3 else version,
                port=54 if change == 2 else 53,
                identification=identification + (change == 5) & 0xFFFF,
                dont_fragment=change != 6 and identification < 40000,
                tos=draw(st.integers(0, 3)) if change == 7 else 2,
                addresses=outside if change == 8 and version == 4 else b"",
                checksum=change != 9,
            )
        if change == 10:
            packet = packet[:-1] + bytes([packet[-1] ^ 1])  # corrupt before it entered the tunnel
        elif change == 11 and version == 4:
            packet = packet[:10] + bytes([packet[10] ^ 1]) + packet[11:]
        elif change == 12:
            packet = packet[:9] + (b"\x06" if packet[9] == 17 else b"\x11") + packet[10:]
        sequence += length
        identification += 1
        packets.append(packet)
    return packets


@examples(300)
@given(
    inner_streams(),
    ciphers,
    st.booleans(),
    st.data(),
    st.sampled_from((0, 0, 1, 2, 3)),
    st.booleans(),
    st.sampled_from((0, 2**32 - 10)),
)
def test_trains_are_delivered_as_one_at_a_time(
    packets: list[bytes], cipher: str, esn: bool, data: st.DataObject, tos: int, vectorised: bool, start: int
) -> None:
    sender = SaPair.of(child(cipher, esn=esn), counting_random())
    start = start if esn else 0
    sender.outbound.sequence = start
    sealed = [sender.outbound.seal(packet) for packet in packets]
    change = data.draw(st.integers(0, 12))
    at = data.draw(st.integers(0, len(sealed) - 1))
    if change == 1:
        sealed[at] = sealed[at][:-1] + bytes([sealed[at][-1] ^ 0x80])
    elif change == 2:
        sealed.insert(at, sealed[0])
    elif change == 3:
        sealed[at] = bytes(4) + sealed[at][4:]
    elif change == 4:
        sealed[at], sealed[0] = sealed[0], sealed[at]
    elif change == 5:
        sealed[at] = b"\0\0\xff\xff" + sealed[at][4:]
    elif change == 6:
        sealed.insert(at, sender.outbound.seal_dummy(len(packets[0])))
    feed = Feed(cipher, esn=esn, vectorised=vectorised, top=start)
    rows: list[bytes] = []
    for datagram in sealed:
        if rows and (len(datagram) > len(rows[0]) or len(rows[-1]) < len(rows[0]) or len(rows) * len(rows[0]) > 60000):
            feed.push(rows, len(rows[0]) if len(rows) > 1 else 0, tos)
            rows = []
        rows.append(datagram)
    feed.push(rows, len(rows[0]) if len(rows) > 1 and data.draw(st.booleans()) else 0, tos)
    feed.check()


@pytest.mark.parametrize("cipher", CIPHERS)
@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("stride", [True, False])
def test_a_train_becomes_one_large_packet(cipher: str, version: int, stride: bool) -> None:
    packet = tcp_packet(bytes(range(200)) * 250, version=version, flags=0x98)
    outbound = SaPair.of(child(cipher), counting_random()).outbound
    sealed = [outbound.seal(part) for part in segment(packet, tso_header(packet, 1300))]
    feed = Feed(cipher, esn=False)
    feed.push(sealed, len(sealed[0]) if stride else 0)
    feed.check()
    (frame,) = feed.tun.frames if stride else [feed.tun.frames[0]]
    assert frame[:10] != NO_OFFLOAD
    if stride:
        assert comparable(frame[10:])[40 if version == 6 else 24 :] == (
            comparable(packet)[40 if version == 6 else 24 :][: 16 if version == 6 else 12]
            + frame[10:][40 + 16 if version == 6 else 36 : 40 + 18 if version == 6 else 38]
            + packet[40 + 18 if version == 6 else 38 :]
        )
        assert feed.inbound.merger.merged == len(sealed)
    assert (feed.counters.trains_opened > 0) == (cipher != "aes256-sha256")


def test_a_corrupt_segment_is_not_hidden_by_merging() -> None:
    packet = tcp_packet(bytes(10000))
    parts = segment(packet, tso_header(packet, 1000))
    parts[4] = parts[4][:-1] + b"\x01"
    outbound = SaPair.of(child(), counting_random()).outbound
    sealed = [outbound.seal(part) for part in parts]
    feed = Feed("aes256gcm16", esn=False)
    feed.push(sealed, len(sealed[0]))
    feed.check()
    assert parts[4] in [frame[10:] for frame in feed.tun.frames]


def test_packets_outside_the_selectors_are_dropped_from_a_train() -> None:
    outside = bytes((10, 1, 0, 1, 10, 9, 0, 1))
    packet = tcp_packet(bytes(20000), addresses=outside)
    outbound = SaPair.of(child(), counting_random()).outbound
    sealed = [outbound.seal(part) for part in segment(packet, tso_header(packet, 1000))]
    feed = Feed("aes256gcm16", esn=False)
    feed.push(sealed, len(sealed[0]))
    feed.check()
    assert feed.counters.trains_opened == 1
    assert feed.counters.drops == {DropReason.SELECTOR: 20}
    assert feed.tun.frames == []
