# ruff: noqa: E101  ip indents by tabs, and further by spaces
"""ip-xfrm(8)'s words as values."""

from ipaddress import ip_network

from warren_lab.charon_conf import IpsecBackend, charon_settings, needs_tun, render
from warren_lab.xfrm import KernelPolicy, KernelSa, parse_policies, parse_sas

STATES = """src 192.0.2.2 dst 192.0.2.1
	proto esp spi 0x0c8f6a2(13170338) reqid 1(0x00000001) mode tunnel
	replay-window 64 seq 0x00000000 flag af-unspec esn (0x10100000)
	mark 0x10/0xff
	anti-replay esn context:
	 seq-hi 0x0, seq 0x3, oseq-hi 0x0, oseq 0x0
	lifetime config:
	  limit: soft (INF)(bytes), hard (INF)(bytes)
	lifetime current:
	  252(bytes), 3(packets)
	  add 2026-11-21 13:58:46 use 2026-11-21 13:58:46
	if_id 0x7
src 192.0.2.1 dst 192.0.2.2
	proto esp spi 0xc6939639(3331560505) reqid 2(0x00000002) mode transport
	replay-window 0 seq 0x00000000 flag af-unspec (0x00100000)
	encap type espinudp sport 4500 dport 4500 addr 0.0.0.0
	sel src 192.0.2.1/32 dst 192.0.2.2/32
src 192.0.2.1 dst 192.0.2.2
	proto comp spi 0x00009af5(39669) reqid 2(0x00000002) mode tunnel
"""

POLICIES = """src 10.1.0.0/24 dst 10.2.0.0/24
	dir out priority 375423 ptype main
	tmpl src 192.0.2.1 dst 192.0.2.2
		proto esp spi 0xc6939639 reqid 1 mode tunnel
src 10.2.0.0/24 dst 10.1.0.0/24 uid 0
	dir fwd priority 375423 ptype main
	mark 0x10/0xff
	tmpl src 192.0.2.2 dst 192.0.2.1
		proto esp reqid 1 mode tunnel
	if_id 0x7
src 0.0.0.0/0 dst 0.0.0.0/0
	socket in priority 0 ptype main
"""


def test_sas_are_read_with_their_counters_and_flags() -> None:
    assert parse_sas(STATES) == [
        KernelSa("192.0.2.1", "00c8f6a2", "tunnel", True, False, "0x10/0xff", 7, 252, 3),
        KernelSa("192.0.2.2", "c6939639", "transport", False, True, "", 0, 0, 0),
    ]


def test_policies_are_read_without_those_of_sockets() -> None:
    own, other = ip_network("10.1.0.0/24"), ip_network("10.2.0.0/24")
    assert parse_policies(POLICIES) == [
        KernelPolicy("out", own, other, "c6939639", "", 0),
        KernelPolicy("fwd", other, own, "", "0x10/0xff", 7),
    ]


def test_nothing_is_read_from_nothing() -> None:
    assert (parse_sas(""), parse_policies("")) == ([], [])


def test_charon_needs_a_tun_device_for_its_own_data_plane_alone() -> None:
    assert needs_tun(charon_settings())
    kernel = charon_settings(IpsecBackend.KERNEL)
    assert not needs_tun(kernel)
    assert " kernel-netlink socket-default " in render(kernel)
