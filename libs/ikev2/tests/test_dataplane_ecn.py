"""DSCP and ECN of whole trains (RFC 6040): both forms of the batched path against the RFC's tables, and against scalar ESP."""

from itertools import product
from typing import Any

import pytest

from warren_ikev2.dataplane.counters import Counters
from warren_ikev2.dataplane.links import Links
from warren_ikev2.dataplane.outbound import FRAME_OFFSET, Outbound
from warren_ikev2.dataplane.segment import segment
from warren_ikev2.dataplane.vnet import NO_OFFLOAD
from warren_ikev2.esp.drops import DropReason
from warren_ikev2.esp.inner import tos_of
from warren_ikev2.esp.table import SaPair
from warren_testkit.ikev2.dataplane import (
    FakePort,
    FakeTun,
    Feed,
    child,
    counting_random,
    tcp_packet,
    tso_header,
    udp_packet,
)

CODEPOINTS = {"Not-ECT": 0, "ECT(1)": 1, "ECT(0)": 2, "CE": 3}
FIGURE_4 = """
Not-ECT  Not-ECT Not-ECT Not-ECT drop
ECT(0)   ECT(0)  ECT(0)  ECT(1)  CE
ECT(1)   ECT(1)  ECT(1)  ECT(1)  CE
CE       CE      CE      CE      CE
"""
"""RFC 6040, 4.2, as it is printed: a line for each arriving inner header; the outer headers are Not-ECT, ECT(0), ECT(1) and CE."""
OUTGOING = {
    (line.split()[0], outer): result
    for line in FIGURE_4.strip().splitlines()
    for outer, result in zip(("Not-ECT", "ECT(0)", "ECT(1)", "CE"), line.split()[1:], strict=True)
}
EF = 0xB8
"""The DSCP of expedited forwarding, which must stay as it is inside, and not come in from outside."""


@pytest.mark.parametrize("vectorised", [True, False])
@pytest.mark.parametrize("stride", [True, False])
@pytest.mark.parametrize("kind", ["tcp", "udp"])
@pytest.mark.parametrize("version", [4, 6])
def test_each_pair_of_codepoints_leaves_as_the_rfc_says(
    version: int, kind: str, stride: bool, vectorised: bool
) -> None:
    for inner, outer in product(CODEPOINTS, repeat=2):
        feed = Feed("aes256gcm16", esn=False, vectorised=vectorised)
        outbound = SaPair.of(child(), counting_random()).outbound
        tos = EF | CODEPOINTS[inner]
        if kind == "tcp":
            packet = tcp_packet(bytes(20_000), version=version, tos=tos)
            packets = segment(packet, tso_header(packet, 1000))
        else:
            packets = [udp_packet(bytes(1000), version=version, tos=tos) for _ in range(20)]
        sealed = [outbound.seal(part) for part in packets]
        feed.push(sealed, len(sealed[0]) if stride else 0, CODEPOINTS[outer])
        feed.check()
        result = OUTGOING[inner, outer]
        if result == "drop":
            assert feed.tun.frames == []
            assert feed.counters.drops == {DropReason.ECN: len(packets)}
        else:
            assert {tos_of(packet) for packet in feed.tun.packets} == {EF | CODEPOINTS[result]}
            assert len(feed.tun.packets) == len(packets)
            # a run stays one however its codepoint changes
            assert feed.inbound.merger.merged == len(packets) or not stride


@pytest.mark.parametrize("vectorised", [True, False])
@pytest.mark.parametrize("version", [4, 6])
def test_the_outer_header_has_the_codepoint_and_dscp_of_the_inner_one(version: int, vectorised: bool) -> None:
    """RFC 6040, 4.1: the normal mode copies; one send never holds packets of two."""
    sent: list[tuple[int, int]] = []

    def send(link: Any, parts: Any, stride: int, packets: int, tos: int) -> None:
        sent.append((packets, tos))

    links = Links(counting_random(), 1500)
    links.install(child(), FakePort([]))
    outbound = Outbound(links, Counters(), send, lambda *_: None, FakeTun().write, vectorised=vectorised)
    bytes_of = [EF | codepoint for codepoint in CODEPOINTS.values()]
    for tos in bytes_of:
        large = tcp_packet(bytes(20_000), version=version, tos=tos)
        single = udp_packet(bytes(500), version=version, tos=tos)
        frames = [(tso_header(large, 1000).build(), large), *[(NO_OFFLOAD, single)] * 10]
        for header, packet in frames:
            frame = header + packet
            outbound.frame[FRAME_OFFSET : FRAME_OFFSET + len(frame)] = frame
            outbound.take_frame(len(frame))
    outbound.flush()
    assert sent == [(packets, tos) for tos in bytes_of for packets in (20, 10)]
