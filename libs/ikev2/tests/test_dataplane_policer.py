"""Rate limits of sessions, by themselves and in both directions of the data path."""

from collections import Counter

import pytest

from warren_ikev2.dataplane.counters import Counters
from warren_ikev2.dataplane.inbound import Inbound
from warren_ikev2.dataplane.links import Link, Links
from warren_ikev2.dataplane.policer import MIN_BURST, ByteBucket, Policer, Policers
from warren_ikev2.dataplane.vnet import NO_OFFLOAD
from warren_ikev2.esp.drops import DropReason
from warren_ikev2.esp.table import SaPair
from warren_testkit.ikev2.dataplane import (
    FakePort,
    FakeTun,
    Feed,
    child,
    counting_random,
    sent_by_outbound,
    tcp_packet,
    tso_header,
)

RATE = 1_000_000


class Clock:
    def __init__(self) -> None:
        self.now = 10.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_passes_its_burst_then_its_rate() -> None:
    clock = Clock()
    bucket = ByteBucket(RATE, clock)
    assert bucket.take(MIN_BURST)
    assert not bucket.take(1)
    clock.now += 0.125
    assert bucket.take(125_000)
    assert not bucket.take(1000)
    clock.now += 3600
    assert bucket.take(MIN_BURST)
    assert not bucket.take(1000)


def test_a_high_rate_has_a_burst_of_its_own() -> None:
    bucket = ByteBucket(1_000_000_000, Clock())
    assert bucket.take(250_000_000)
    assert not bucket.take(1)


def test_the_children_of_a_session_share_its_buckets() -> None:
    policers = Policers(Clock())
    first = policers.of(1, RATE)
    assert policers.of(1, RATE) is first
    assert policers.of(2, RATE) is not first
    assert policers.of(1, 2 * RATE) is not first


@pytest.mark.parametrize("vectorised", [True, False])
def test_packets_out_beyond_the_rate_are_dropped(vectorised: bool) -> None:
    links = Links(counting_random(), 1500)
    link: Link = links.install(child(), FakePort([]))
    link.policer = Policer(1, Clock())  # the burst, and nothing after it
    packet = tcp_packet(bytes(60_000))
    frames = [(tso_header(packet, 1300).build(), packet)] * 6 + [(NO_OFFLOAD, tcp_packet(bytes(100)))]
    sent, counters = sent_by_outbound(links, frames, vectorised=vectorised)
    assert sum(map(len, sent)) <= 1.1 * MIN_BURST + 100
    assert counters.drops[DropReason.RATE] > 0
    assert len(sent) >= 3 * 47


@pytest.mark.parametrize("stride", [True, False])
def test_packets_in_beyond_the_rate_are_dropped_and_no_replay_of_them_passes(stride: bool) -> None:
    feed = Feed("aes256gcm16", esn=False)
    feed.link.policer = Policer(1, Clock())
    sender = Links(counting_random(), 1500)
    sender.install(child(), FakePort([]))
    frames = [(NO_OFFLOAD, tcp_packet(bytes(1300), sequence=1 + 1300 * number)) for number in range(300)]
    datagrams, _ = sent_by_outbound(sender, frames, vectorised=True)
    for at in range(0, len(datagrams), 40):
        group = datagrams[at : at + 40]
        feed.push(group, len(group[0]) if stride else 0)
    delivered = len(feed.tun.packets)
    assert MIN_BURST // 1340 - 45 <= delivered <= MIN_BURST // 1340 + 1
    drops: Counter[DropReason] = Counter(feed.counters.drops)
    assert drops[DropReason.RATE] == 300 - delivered
    feed.link.policer = None
    feed.push(datagrams[-2:], 0)
    assert feed.counters.drops[DropReason.REPLAY] == 2


@pytest.mark.parametrize("vectorised", [True, False])
def test_one_of_a_hundred_sessions_that_floods_takes_nothing_from_the_others(vectorised: bool) -> None:
    links, counters, clock = Links(counting_random(), 1500), Counters(), Clock()
    outbound, installed = [], []
    for number in range(1, 101):
        link = links.install(child(number=number, sender=False), FakePort([]))
        link.policer = Policer(RATE, clock)
        installed.append(link)
        outbound.append(SaPair.of(child(number=number), counting_random()).outbound)
    inbound = Inbound(links, counters, FakeTun().write, lambda *_: None, lambda *_: True, vectorised=vectorised)
    packet = tcp_packet(bytes(1300))
    offered = [40 if number else 800 for number in range(100)]
    for _ in range(2):
        clock.now += 1.0
        for sa, count in zip(outbound, offered, strict=True):
            sealed = [sa.seal(packet) for _ in range(count)]
            arrivals = [(b"".join(sealed[at : at + 40]), len(sealed[0]), 0) for at in range(0, count, 40)]
            inbound.drain(FakePort(arrivals), 1000)
    flooding, *others = (link.pair.inbound.packets for link in installed)
    assert set(others) == {80}
    assert flooding < 600
    assert counters.drops == {DropReason.RATE: 1600 - flooding}


@pytest.mark.parametrize("vectorised", [True, False])
@pytest.mark.parametrize("cipher", ["aes256gcm16", "aes256-sha256"])
def test_packets_that_are_opened_one_at_a_time_have_the_rate_too(cipher: str, vectorised: bool) -> None:
    """A train that a sender has left a gap in, and every train of a cipher that is not opened at once."""
    feed = Feed(cipher, esn=False, vectorised=vectorised)
    feed.link.policer = Policer(1, Clock())
    outbound = SaPair.of(child(cipher), counting_random()).outbound
    for group in range(10):
        numbers = range(40 * group, 40 * group + 40)
        sealed = [outbound.seal(tcp_packet(bytes(1300), sequence=1 + 1300 * number)) for number in numbers]
        del sealed[20]
        feed.push(sealed, len(sealed[0]))
    delivered = len(feed.tun.packets)
    assert delivered == MIN_BURST // 1340
    assert feed.counters.drops[DropReason.RATE] == 390 - delivered
    assert feed.counters.packets_in == delivered
