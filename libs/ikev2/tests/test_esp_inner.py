"""Inner headers, the selector check, ECN, sizes and UDP encapsulation; scapy builds and checks the packets."""

import itertools
import os
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_LSRR, IPOption_Timestamp, defragment
from scapy.layers.inet6 import ICMPv6EchoRequest, ICMPv6PacketTooBig, IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment
from scapy.packet import Packet, Raw

from warren_ikev2.children import EspKeys
from warren_ikev2.esp import ecn, pmtu
from warren_ikev2.esp.drops import DropReason, PacketDroppedError
from warren_ikev2.esp.inner import OPAQUE, checksum, packet_length, parse_flow, tos_of, with_tos
from warren_ikev2.esp.sa import InboundSa, OutboundSa
from warren_ikev2.esp.selectors import SelectorCheck
from warren_ikev2.esp.transforms import build_transform
from warren_ikev2.esp.udp import DatagramKind, classify
from warren_ikev2.selectors import TrafficSelector
from warren_ikev2.suites import esp_suite
from warren_testkit.ikev2.proposals import parse_esp_proposal

V4 = TrafficSelector.parse("0.0.0.0/0")
V6 = TrafficSelector.parse("::/0")
TCP4 = bytes(IP(src="10.1.0.1", dst="10.2.0.1") / TCP(sport=1000, dport=443))
TCP6 = bytes(IPv6(src="2001:db8::1", dst="2001:db8::2") / IPv6ExtHdrDestOpt() / TCP(sport=1000, dport=443))
LATER4 = bytes(IP(src="10.1.0.1", dst="10.2.0.1", frag=3, proto=6) / Raw(bytes(64)))
LATER6 = bytes(IPv6(src="2001:db8::1", dst="2001:db8::2") / IPv6ExtHdrFragment(offset=3, nh=6) / Raw(bytes(64)))
ECHO = bytes(IP(src="10.1.0.1", dst="10.2.0.1") / ICMP(type=8, code=0))


@pytest.mark.parametrize("packet", [TCP4, TCP6, ECHO, LATER4, LATER6])
def test_length_is_the_header_s(packet: bytes) -> None:
    assert packet_length(packet) == len(packet)
    assert packet_length(packet + b"padding") == len(packet)


@pytest.mark.parametrize(
    "packet", [b"", b"\x45" * 19, bytes(60), b"\x60" * 39, b"\x41" + bytes(40), b"\x4f\0\0\x14" + bytes(40)]
)
def test_invalid_ip_packets_have_no_length(packet: bytes) -> None:
    assert packet_length(packet) == 0


def test_flows() -> None:
    assert parse_flow(TCP4) == (b"\x0a\x01\0\x01", b"\x0a\x02\0\x01", 6, 1000, 443)
    flow = parse_flow(TCP6)
    assert flow is not None
    assert flow[2:] == (6, 1000, 443)
    assert parse_flow(ECHO) == (b"\x0a\x01\0\x01", b"\x0a\x02\0\x01", 1, 0x0800, 0x0800)
    for later in (LATER4, LATER6):
        flow = parse_flow(later)
        assert flow is not None
        assert flow[2:] == (6, OPAQUE, OPAQUE)


@given(st.binary(min_size=40, max_size=200))
def test_no_bytes_confuse_the_flow_parser(junk: bytes) -> None:
    for first in (b"\x45", b"\x60"):
        packet = first + junk[1:]
        if packet_length(packet):
            SelectorCheck((TrafficSelector(V4.start, V4.end, 6, 1, 2), V6), (V4, V6)).allows(packet)


def test_an_endless_chain_of_extension_headers_ends() -> None:
    chain = bytes(IPv6(nh=60)) + b"\x3c\0" * 400
    assert parse_flow(chain) is None


def port(number: int, selector: TrafficSelector = V4, protocol: int = 6) -> TrafficSelector:
    return TrafficSelector(selector.start, selector.end, protocol, number, number)


@pytest.mark.parametrize(
    ("packet", "source", "destination", "allowed"),
    [
        (TCP4, V4, V4, True),
        (TCP4, V6, V6, False),
        (TCP6, V6, V6, True),
        (TCP4, TrafficSelector.parse("10.1.0.0-10.1.0.1"), V4, True),
        (TCP4, TrafficSelector.parse("10.1.0.2-10.1.0.9"), V4, False),
        (TCP4, V4, port(443), True),
        (TCP4, V4, port(444), False),
        (TCP4, V4, port(443, protocol=17), False),
        (TCP6, port(1000, V6), port(443, V6), True),
        (LATER4, V4, port(443), False),
        (LATER6, V6, port(443, V6), False),
        (LATER4, V4, TrafficSelector(V4.start, V4.end, 6, 65535, 0), True),
        (TCP4, V4, TrafficSelector(V4.start, V4.end, 6, 65535, 0), False),
        (LATER4, V4, TrafficSelector(V4.start, V4.end, 6), True),
        (ECHO, TrafficSelector(V4.start, V4.end, 1, 0x0800, 0x08FF), TrafficSelector(V4.start, V4.end, 1), True),
        (ECHO, TrafficSelector(V4.start, V4.end, 1, 0, 0x00FF), TrafficSelector(V4.start, V4.end, 1), False),
    ],
)
def test_selectors(packet: bytes, source: TrafficSelector, destination: TrafficSelector, allowed: bool) -> None:
    assert SelectorCheck((source,), (destination,)).allows(packet) is allowed


# RFC 6040, figure 4, written out: inner, outer -> what leaves
FIGURE_4 = dict(
    zip(
        itertools.product((0, 2, 1, 3), (0, 2, 1, 3)),
        (0, 0, 0, None, 2, 2, 1, 3, 1, 1, 1, 3, 3, 3, 3, 3),
        strict=True,
    )
)


@pytest.mark.parametrize(("inner", "outer"), FIGURE_4)
@pytest.mark.parametrize("header", [IP(src="1.1.1.1"), IPv6(src="::1")])
def test_rfc6040_figure_4(header: IP | IPv6, inner: int, outer: int) -> None:
    packet = with_tos(bytes(header / UDP()), 0xB8 | inner)
    expected = FIGURE_4[inner, outer]
    if expected is None:
        with pytest.raises(PacketDroppedError) as caught:
            ecn.decapsulate(packet, outer)
        assert caught.value.reason is DropReason.ECN
    else:
        result = ecn.decapsulate(packet, outer | 0x28)
        assert tos_of(result) == 0xB8 | expected
        parsed = type(header)(result)
        again = parsed.copy()
        if isinstance(again, IP):
            del again.chksum
        assert bytes(again) == result


def test_congestion_on_the_way_reaches_the_inner_packet() -> None:
    suite = esp_suite(parse_esp_proposal("aes128gcm16"))
    keys, both = EspKeys(bytes(16), bytes(4), b""), SelectorCheck((V4,), (V4,))
    sender, receiver = OutboundSa(5, suite, keys, both, os.urandom), InboundSa(5, suite, keys, both, os.urandom)
    capable = bytes(IP(src="10.1.0.1", dst="10.2.0.1", tos=2) / UDP())
    assert tos_of(receiver.open(sender.seal(capable), outer_tos=3)) == 3
    assert receiver.open(sender.seal(capable), outer_tos=0) == capable


def test_dscp_goes_out_and_never_in() -> None:
    packet = bytes(IP(tos=0xB9) / UDP())
    assert ecn.outer_tos(packet) == 0xB9
    assert ecn.outer_tos(packet, ecn.DscpMode.NO) == 1
    assert ecn.outer_tos(bytes(IPv6(tc=0xB9))) == 0xB9
    assert ecn.decapsulate(packet, 0x28) == packet


@given(st.binary(max_size=64))
def test_checksum_agrees_with_scapy(data: bytes) -> None:
    from scapy.utils import checksum as scapy_checksum

    assert checksum(data) == scapy_checksum(data)


CIPHERS = {
    "aes256gcm16": EspKeys(bytes(32), bytes(4), b""),
    "chacha20poly1305": EspKeys(bytes(32), bytes(4), b""),
    "aes256-sha256": EspKeys(bytes(32), b"", bytes(32)),
    "aes128-sha384": EspKeys(bytes(16), b"", bytes(48)),
}


@pytest.mark.parametrize("cipher", CIPHERS)
@pytest.mark.parametrize("udp", [True, False])
@pytest.mark.parametrize("path_mtu", [576, 1280, 1492, 1500, 9000])
def test_inner_mtu_is_exact(cipher: str, udp: bool, path_mtu: int) -> None:
    suite = esp_suite(parse_esp_proposal(cipher))
    sa = OutboundSa(5, suite, CIPHERS[cipher], SelectorCheck((V4,), (V4,)), os.urandom)
    transform = build_transform(suite, CIPHERS[cipher], os.urandom)
    outer = 20 + 8 * udp
    longest = pmtu.inner_mtu(path_mtu, transform, 4, udp=udp)
    assert outer + len(sa.seal(bytes(IP() / Raw(bytes(longest - 20))))) <= path_mtu
    assert outer + len(sa.seal(bytes(IP() / Raw(bytes(longest - 19))))) > path_mtu


@pytest.mark.parametrize("options", [[], [IPOption_LSRR(routers=["1.2.3.4"]), IPOption_Timestamp()]])
@pytest.mark.parametrize("mtu", [68, 576, 1400])
def test_fragments_are_reassembled_by_scapy(mtu: int, options: list[object]) -> None:
    packet = bytes(
        IP(src="10.1.0.1", dst="10.2.0.1", id=77, options=options) / UDP(sport=1, dport=2) / Raw(bytes(range(256)) * 8)
    )
    if mtu < 100 and options:
        mtu = 100
    fragments = pmtu.fragment_ipv4(packet, mtu)
    assert len(fragments) > 1
    assert all(len(fragment) <= mtu and packet_length(fragment) == len(fragment) for fragment in fragments)
    for fragment in fragments:
        again = IP(fragment)
        del again.chksum
        assert bytes(again) == fragment
    (whole,) = defragment([IP(fragment) for fragment in fragments])
    assert bytes(whole[UDP]) == packet[(packet[0] & 15) * 4 :]


def test_a_fragment_is_fragmented_again() -> None:
    packet = bytes(IP(src="10.1.0.1", dst="10.2.0.1", id=5, frag=10, flags="MF", proto=17) / Raw(bytes(800)))
    parts = [IP(part) for part in pmtu.fragment_ipv4(packet, 576)]
    assert [(part.frag, str(part.flags)) for part in parts] == [(10, "MF"), (10 + 69, "MF")]
    assert pmtu.fragment_ipv4(packet, 1500) == [packet]
    with pytest.raises(ValueError, match="at least 68 bytes"):
        pmtu.fragment_ipv4(packet, 67)


def test_too_big_packets_with_df_are_answered() -> None:
    packet = bytes(IP(src="10.1.0.1", dst="10.2.0.1", flags="DF") / UDP() / Raw(bytes(1400)))
    assert not pmtu.may_fragment(packet)
    assert pmtu.may_fragment(TCP4)
    answer = IP(pmtu.build_too_big(packet, 1300, ip_address("10.1.0.254")))
    assert (answer.src, answer.dst, answer[ICMP].type, answer[ICMP].code) == ("10.1.0.254", "10.1.0.1", 3, 4)
    assert answer[ICMP].nexthopmtu == 1300
    del answer.chksum, answer[ICMP].chksum
    assert bytes(answer) == pmtu.build_too_big(packet, 1300, ip_address("10.1.0.254"))


def test_too_big_ipv6_packets_are_answered() -> None:
    packet = bytes(IPv6(src="2001:db8::1", dst="2001:db8::2") / ICMPv6EchoRequest(data=bytes(1400)))
    built = pmtu.build_too_big(packet, 1000, ip_address("2001:db8::fe"))
    answer = IPv6(built)
    assert answer[ICMPv6PacketTooBig].mtu == 1280
    assert len(built) <= 1280
    del answer[ICMPv6PacketTooBig].cksum
    assert bytes(answer) == built


LONG = Raw(bytes(1400))
HERE: Any = {"src": "10.1.0.1", "dst": "10.2.0.1"}
THERE: Any = {"src": "2001:db8::1", "dst": "2001:db8::2"}


@pytest.mark.parametrize(
    ("packet", "answered"),
    [
        (IP(**HERE) / UDP() / LONG, True),
        (IP(**HERE) / ICMP(type=8) / LONG, True),
        (IP(**HERE) / ICMP(type=3, code=4) / LONG, False),
        (IP(**HERE) / ICMP(type=11) / LONG, False),
        (IP(**HERE, frag=3) / LONG, False),
        (IP(**HERE, frag=0x100) / LONG, False),
        (IP(src="10.1.0.1", dst="239.1.2.3") / UDP() / LONG, False),
        (IP(src="10.1.0.1", dst="255.255.255.255") / UDP() / LONG, False),
        (IP(src="0.0.0.1", dst="10.2.0.1") / UDP() / LONG, False),
        (IP(src="127.0.0.1", dst="10.2.0.1") / UDP() / LONG, False),
        (IP(src="224.0.0.1", dst="10.2.0.1") / UDP() / LONG, False),
        (IPv6(**THERE) / UDP() / LONG, True),
        (IPv6(**THERE) / ICMPv6EchoRequest(data=bytes(1400)), True),
        (IPv6(**THERE) / ICMPv6PacketTooBig(mtu=1280) / LONG, False),
        (IPv6(src="2001:db8::1", dst="ff0e::1") / UDP() / LONG, False),
        (IPv6(src="::", dst="2001:db8::2") / UDP() / LONG, False),
        (IPv6(src="ff0e::1", dst="2001:db8::2") / UDP() / LONG, False),
    ],
)
def test_no_error_is_sent_about_errors_fragments_and_groups(packet: Packet, answered: bool) -> None:
    assert pmtu.may_be_answered(bytes(packet)) is answered


@pytest.mark.parametrize(
    ("datagram", "kind"),
    [
        (b"\xff", DatagramKind.KEEPALIVE),
        (bytes(4) + b"ike", DatagramKind.IKE),
        (b"\0\0\0\x01" + bytes(60), DatagramKind.ESP),
        (b"\0\0\0\x01" + bytes(20), DatagramKind.JUNK),
        (b"\xff\xff", DatagramKind.JUNK),
        (b"", DatagramKind.JUNK),
    ],
)
def test_port_4500_is_shared(datagram: bytes, kind: DatagramKind) -> None:
    assert classify(datagram) is kind
