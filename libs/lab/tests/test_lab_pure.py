"""The pure halves of the lab: frames, echo requests, strongswan.conf."""

from ipaddress import IPv4Address, IPv6Address

import pytest

from warren_lab.charon_conf import charon_settings, render
from warren_lab.namespace import Namespace
from warren_lab.packets import Outer, parse_frame
from warren_lab.ping import (
    HELD_UP_INTERVAL_SECONDS,
    MOST_IN_ONE_PAUSE,
    Ping,
    build_request,
    internet_checksum,
    parse_reply,
)

ETHERNET_IPV4 = b"\x02" * 12 + b"\x08\x00"
ETHERNET_IPV6 = b"\x02" * 12 + b"\x86\xdd"
SOURCE, DESTINATION = IPv4Address("192.0.2.1"), IPv4Address("192.0.2.2")


def ipv4(protocol: int, payload: bytes, fragment: int = 0) -> bytes:
    head = bytes((0x45, 0)) + bytes(4) + fragment.to_bytes(2, "big") + bytes((64, protocol)) + bytes(2)
    return ETHERNET_IPV4 + head + SOURCE.packed + DESTINATION.packed + payload


def udp(source_port: int, destination_port: int, data: bytes) -> bytes:
    return source_port.to_bytes(2, "big") + destination_port.to_bytes(2, "big") + bytes(4) + data


@pytest.mark.parametrize(
    ("frame", "outer"),
    [
        pytest.param(ipv4(50, b"\0\0\1\2" + bytes(8)), Outer(SOURCE, DESTINATION, spi=0x102), id="esp"),
        pytest.param(
            ipv4(17, udp(4500, 4500, b"\1\0\0\2" + bytes(8))),
            Outer(SOURCE, DESTINATION, spi=0x01000002, udp_encapsulated=True),
            id="esp-in-udp",
        ),
        pytest.param(
            ipv4(17, udp(4500, 4500, bytes(4) + b"ike message")), Outer(SOURCE, DESTINATION, is_ike=True), id="ike-4500"
        ),
        pytest.param(ipv4(17, udp(500, 500, bytes(28))), Outer(SOURCE, DESTINATION, is_ike=True), id="ike-500"),
        pytest.param(ipv4(17, udp(4500, 4500, b"\xff")), Outer(SOURCE, DESTINATION), id="keepalive"),
        pytest.param(ipv4(50, b"\0\0\1\2" + bytes(8), fragment=0x00B9), Outer(SOURCE, DESTINATION), id="fragment"),
        pytest.param(b"\x02" * 12 + b"\x08\x06" + bytes(28), None, id="arp"),
        pytest.param(ETHERNET_IPV4 + b"\x45", None, id="truncated"),
    ],
)
def test_parse_frame(frame: bytes, outer: Outer | None) -> None:
    assert parse_frame(frame) == outer


def test_parse_frame_reads_ipv6() -> None:
    source, destination = IPv6Address("2001:db8::1"), IPv6Address("2001:db8::2")
    packet = b"\x60" + bytes(5) + bytes((50, 64)) + source.packed + destination.packed + b"\0\0\0\7" + bytes(8)
    assert parse_frame(ETHERNET_IPV6 + packet) == Outer(source, destination, spi=7)


def test_parse_reply_returns_the_number_past_the_sequence_field() -> None:
    request = build_request(identifier=7, number=70000)
    assert internet_checksum(request) == 0
    reply = bytes((0x45,)) + bytes(19) + b"\0" + request[1:]
    assert parse_reply(reply, 7) == 70000
    assert parse_reply(reply, 8) is None
    assert parse_reply(bytes((0x45,)) + bytes(19) + request, 7) is None
    assert parse_reply(b"", 7) is None


def test_render_puts_each_brace_on_its_own_line() -> None:
    text = render(charon_settings(extra={"charon": {"retransmit_tries": "1", "plugins": {"vici": {"load": "yes"}}}}))
    assert text.startswith("charon {\n  load_modular = no\n  load = ")
    assert "  plugins {\n    vici {\n      load = yes\n    }\n  }\n" in text
    assert "  retransmit_tries = 1\n" in text
    assert "kernel-libipsec kernel-netlink socket-default vici updown error-notify counters\n" in text
    assert text.count("{") == text.count("}")


@pytest.mark.parametrize(("late_reply_seconds", "pause"), [(1.0, HELD_UP_INTERVAL_SECONDS), (0.0, 0.002)])
def test_ping_sends_fewer_while_nothing_is_answered_if_losses_count(late_reply_seconds: float, pause: float) -> None:
    ping = Ping(Namespace("none"), SOURCE, DESTINATION, 0.002, late_reply_seconds)
    try:
        ping._sent, ping._newest = [0.0] * MOST_IN_ONE_PAUSE, 10
        assert ping._pause() == 0.002
        ping._sent += [0.0] * 20
        assert ping._pause() == pause
    finally:
        ping.stop()
