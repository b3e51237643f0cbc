"""Which SA sends, and what happens around a rekey (RFC 7296, 2.8)."""

import os
from dataclasses import replace
from ipaddress import ip_address

import pytest
from scapy.layers.inet import ICMP, IP, UDP

from warren_ikev2.addresses import Path, SocketAddress
from warren_ikev2.children import ChildSa, EspKeys
from warren_ikev2.configuration import Mode
from warren_ikev2.errors import ConfigurationError
from warren_ikev2.esp.drops import DropReason, PacketDroppedError
from warren_ikev2.esp.table import SaPair, SaTable
from warren_ikev2.selectors import TrafficSelector
from warren_ikev2.suites import esp_suite
from warren_testkit.ikev2.proposals import parse_esp_proposal

LEFT, RIGHT = (TrafficSelector.parse("10.1.0.0/24"),), (TrafficSelector.parse("10.2.0.0/24"),)
PATH = Path(SocketAddress(ip_address("192.0.2.1"), 4500), SocketAddress(ip_address("192.0.2.2"), 4500))
PING = bytes(IP(src="10.1.0.1", dst="10.2.0.1") / ICMP())
PONG = bytes(IP(src="10.2.0.1", dst="10.1.0.1") / ICMP())


def children(number: int, remote: tuple[TrafficSelector, ...] = RIGHT) -> tuple[ChildSa, ChildSa]:
    """One CHILD_SA as both ends see it."""
    suite = esp_suite(parse_esp_proposal("aes128gcm16"))
    one, two = EspKeys(bytes([number]) * 16, b"abcd", b""), EspKeys(bytes([number + 100]) * 16, b"abcd", b"")
    return (
        ChildSa("c", 1000 + number, 2000 + number, suite, one, two, LEFT, remote, PATH, True),
        ChildSa("c", 2000 + number, 1000 + number, suite, two, one, remote, LEFT, PATH, True),
    )


def reason_of(call: object, *arguments: object) -> DropReason:
    assert callable(call)
    with pytest.raises(PacketDroppedError) as caught:
        call(*arguments)
    return caught.value.reason


def test_traffic_flows_both_ways() -> None:
    ours, peers = children(1)
    left, right = SaTable(), SaTable()
    left.install(SaPair.of(ours, os.urandom))
    right.install(SaPair.of(peers, os.urandom))
    assert right.open(left.seal(PING)) == PING
    assert left.open(right.seal(PONG)) == PONG


def test_packets_without_an_sa_are_not_sent() -> None:
    table = SaTable()
    table.install(SaPair.of(children(1)[0], os.urandom))
    assert reason_of(table.seal, PONG) is DropReason.NO_SA
    assert reason_of(table.seal, bytes(IP(src="10.1.0.1", dst="8.8.8.8"))) is DropReason.NO_SA
    assert reason_of(table.seal, PING + b"x") is DropReason.MALFORMED
    assert reason_of(table.seal, b"") is DropReason.MALFORMED
    assert reason_of(table.open, bytes(100)) is DropReason.NO_SA


def test_several_children_are_chosen_by_selector() -> None:
    other = (TrafficSelector.parse("10.3.0.0/24"),)
    table = SaTable()
    table.install(SaPair.of(children(1)[0], os.urandom))
    table.install(SaPair.of(children(2, other)[0], os.urandom))
    assert int.from_bytes(table.seal(PING)[:4], "big") == 2001
    assert int.from_bytes(table.seal(bytes(IP(src="10.1.0.1", dst="10.3.0.9") / UDP()))[:4], "big") == 2002


def test_one_child_takes_the_flows_of_a_port_from_another() -> None:
    """In any order of the packets: these children cannot be distinguished only by addresses."""
    dns = (TrafficSelector(ip_address("10.2.0.0"), ip_address("10.2.0.255"), 17, 53, 53),)
    query = bytes(IP(src="10.1.0.1", dst="10.2.0.1") / UDP(sport=5353, dport=53))
    table = SaTable()
    table.install(SaPair.of(children(1)[0], os.urandom))
    assert [table.outbound_for(packet).spi for packet in (query, PING, query)] == [2001] * 3
    table.install(SaPair.of(children(2, dns)[0], os.urandom))
    assert [table.outbound_for(packet).spi for packet in (PING, query, PING, query)] == [2001, 2002] * 2
    table.remove(children(2, dns)[0].spi_in, now=0.0)
    assert [table.outbound_for(packet).spi for packet in (PING, query)] == [2001] * 2


def test_a_rekey_takes_over_flows_that_were_sent_before() -> None:
    old, new = children(1)[0], children(2)[0]
    table = SaTable()
    table.install(SaPair.of(old, os.urandom))
    assert {table.outbound_for(PING).spi for _ in range(3)} == {old.spi_out}
    table.install(SaPair.of(new, os.urandom))
    assert {table.outbound_for(PING).spi for _ in range(3)} == {new.spi_out}
    table.remove(new.spi_in, now=0.0)
    assert table.outbound_for(PING).spi == old.spi_out
    assert reason_of(table.outbound_for, PING[:19]) is DropReason.MALFORMED
    assert reason_of(table.outbound_for, PING[:-1]) is DropReason.MALFORMED


def test_rollover_loses_no_packet() -> None:
    old_ours, old_peers = children(1)
    new_ours, new_peers = children(2)
    left, right = SaTable(), SaTable()
    left.install(SaPair.of(old_ours, os.urandom))
    right.install(SaPair.of(old_peers, os.urandom))
    late = left.seal(PING)
    # the right side answers the rekey first, and may not send on the new pair yet
    right.install(SaPair.of(new_peers, os.urandom, waits_for=old_peers.spi_in))
    assert int.from_bytes(right.seal(PONG)[:4], "big") == old_ours.spi_in
    # the left side began it, and sends on the new pair at once
    left.install(SaPair.of(new_ours, os.urandom))
    first = left.seal(PING)
    assert int.from_bytes(first[:4], "big") == new_peers.spi_in
    assert right.open(first) == PING
    assert int.from_bytes(right.seal(PONG)[:4], "big") == new_ours.spi_in
    # the old pair is deleted; packets in flight are still accepted
    left.remove(old_ours.spi_in, now=10.0)
    right.remove(old_peers.spi_in, now=10.0)
    assert right.open(late) == PING
    assert right.get_timer() == 15.0
    assert right.handle_timer(15.0) == [old_peers.spi_in.to_bytes(4, "big")]
    assert reason_of(right.open, late) is DropReason.NO_SA
    assert right.get_timer() is None


def test_deleting_the_old_pair_activates_the_new_one() -> None:
    old, new = children(1)[0], children(2)[0]
    table = SaTable()
    table.install(SaPair.of(old, os.urandom))
    table.install(SaPair.of(new, os.urandom, waits_for=old.spi_in))
    assert int.from_bytes(table.seal(PING)[:4], "big") == old.spi_out
    table.remove(old.spi_in, now=0.0, linger=0.0)
    assert table.handle_timer(0.0) == [old.spi_in.to_bytes(4, "big")]
    assert int.from_bytes(table.seal(PING)[:4], "big") == new.spi_out
    assert [pair.inbound.spi for pair in table] == [new.spi_in]


def test_deleting_another_child_activates_nothing() -> None:
    old, new, other = children(1)[0], children(2)[0], children(3, (TrafficSelector.parse("10.3.0.0/24"),))[0]
    table = SaTable()
    for pair in (
        SaPair.of(old, os.urandom),
        SaPair.of(other, os.urandom),
        SaPair.of(new, os.urandom, waits_for=old.spi_in),
    ):
        table.install(pair)
    table.remove(other.spi_in, now=0.0)
    assert int.from_bytes(table.seal(PING)[:4], "big") == old.spi_out


def test_a_removed_pair_never_sends_again() -> None:
    ours, peers = children(1)
    table, peer = SaTable(), SaTable()
    table.install(SaPair.of(ours, os.urandom, waits_for=77))
    peer.install(SaPair.of(peers, os.urandom))
    table.remove(ours.spi_in, now=0.0)
    table.remove(99, now=0.0)
    assert table.open(peer.seal(PONG)) == PONG
    assert reason_of(table.seal, PING) is DropReason.NO_SA


def test_transport_mode_is_refused() -> None:
    ours, _ = children(1)
    transport = ChildSa("t", 1, 2, ours.suite, ours.keys_in, ours.keys_out, LEFT, RIGHT, PATH, True, Mode.TRANSPORT)
    with pytest.raises(ConfigurationError, match="tunnel mode"):
        SaPair.of(transport, os.urandom)


def host_children(number: int, host: str, remote: str = "10.1.0.0/24") -> ChildSa:
    """A server's end of a client's CHILD_SA."""
    own, _ = children(number)
    return replace(own, local_ts=(TrafficSelector.parse(remote),), remote_ts=(TrafficSelector.parse(host),))


def test_each_host_has_its_own_sa() -> None:
    table = SaTable()
    for number in range(1, 101):
        table.install(SaPair.of(host_children(number, f"10.2.0.{number}"), os.urandom))
    packet = bytes(IP(src="10.1.0.1", dst="10.2.0.77") / ICMP())
    assert table.outbound_for(packet).spi == 2077
    assert reason_of(table.seal, bytes(IP(src="10.1.0.1", dst="10.2.0.200") / ICMP())) is DropReason.NO_SA
    assert reason_of(table.seal, bytes(IP(src="10.9.0.1", dst="10.2.0.77") / ICMP())) is DropReason.NO_SA
    table.remove(1077, now=0.0)
    assert reason_of(table.seal, packet) is DropReason.NO_SA


def test_the_newest_sends_whether_it_is_for_a_host_or_a_network() -> None:
    table = SaTable()
    table.install(SaPair.of(host_children(1, "10.2.0.1"), os.urandom))
    table.install(SaPair.of(children(2)[0], os.urandom))
    assert table.outbound_for(PING).spi == 2002
    table.install(SaPair.of(host_children(3, "10.2.0.1"), os.urandom))
    assert table.outbound_for(PING).spi == 2003
    table.remove(1003, now=0.0)
    table.remove(1002, now=0.0)
    assert table.outbound_for(PING).spi == 2001
