"""NAT, liveness, MOBIKE and fragmentation between two engines."""

from ipaddress import ip_address

import pytest

from warren_ikev2.addresses import Datagram, Path, SocketAddress
from warren_ikev2.children import ChildUsage
from warren_ikev2.constants import KEEPALIVE
from warren_ikev2.credentials import CertificateAuth, CertificateTrust
from warren_ikev2.errors import CommandError
from warren_ikev2.events import (
    AddressChanged,
    AuthenticationFailed,
    DeleteReason,
    IkeSaDeleted,
    IkeSaEstablished,
    PeerUnresponsive,
)
from warren_testkit.ikev2.keys import Authority, make_key
from warren_testkit.ikev2.pair import Pair, address, make_pair

OUTSIDE = ip_address("203.0.113.9")


class Nat:
    """Moon is behind it; sun sees the outside address, whose port is moon's plus an offset."""

    def __init__(self, pair: Pair, offset: int = 10_000) -> None:
        self._inside = pair.moon.address.host
        self.offset = offset
        self._known = {offset}
        pair.wire.translate = self.translate

    def remap(self, offset: int) -> None:
        """The NAT has replaced its mapping."""
        self.offset = offset
        self._known.add(offset)

    def translate(self, path: Path) -> Path:
        """As the receiver sees it."""
        if path.remote.host == self._inside:
            return Path(path.local, SocketAddress(OUTSIDE, path.remote.port + self.offset))
        if path.local.host == OUTSIDE:
            if path.local.port - self.offset not in (500, 4500):
                return Path(SocketAddress(ip_address("198.51.100.1"), 9), path.remote)
            return Path(SocketAddress(self._inside, path.local.port - self.offset), path.remote)
        return path


def test_without_nat_mobike_floats_to_4500() -> None:
    pair = make_pair().establish()
    assert pair.moon.last(IkeSaEstablished).path.remote.port == 4500
    assert pair.sun.last(IkeSaEstablished).path.remote.port == 4500
    assert not pair.moon.children[0].udp_encapsulation


def test_without_nat_and_mobike_the_ports_stay() -> None:
    pair = make_pair(moon={"mobike": False}).establish()
    assert pair.moon.last(IkeSaEstablished).path.remote.port == 500


@pytest.mark.parametrize("port", [4500, 40_000])
def test_an_initiator_may_begin_on_the_port_for_nat_traversal(port: int) -> None:
    """For hosts that may not bind port 500: the marker is there from the first message (RFC 7296, 2.23)."""
    pair = make_pair()
    path = Path(SocketAddress(pair.moon.address.host, port), SocketAddress(pair.sun.address.host, 4500))
    pair.moon.endpoint.commands.initiate("gw", path, pair.wire.now)
    pair.wire.run(1)
    assert pair.moon.last(IkeSaEstablished).path == path
    assert not pair.moon.last(IkeSaEstablished).nat.any
    assert all(datagram.data.startswith(bytes(4)) for datagram in pair.wire.sent)
    pair.check_children()


def test_ipv6() -> None:
    pair = make_pair()
    pair.moon.address, pair.sun.address = address("2001:db8::1"), address("2001:db8::2")
    pair.establish()
    assert pair.moon.children[0].path.remote.host == ip_address("2001:db8::2")


def test_encapsulation_can_be_forced() -> None:
    pair = make_pair(moon={"force_udp_encapsulation": True}).establish()
    assert pair.moon.children[0].udp_encapsulation
    assert pair.sun.children[0].udp_encapsulation


def test_a_nat_is_detected_by_both_and_its_mapping_stays_open() -> None:
    pair = make_pair(moon={"keepalive_interval": 20.0})
    Nat(pair)
    pair.establish()
    moon, sun = pair.moon.last(IkeSaEstablished), pair.sun.last(IkeSaEstablished)
    assert (moon.nat.local, moon.nat.remote) == (True, False)
    assert (sun.nat.local, sun.nat.remote) == (False, True)
    assert sun.path.remote == SocketAddress(OUTSIDE, 14500)
    assert pair.sun.children[0].path.remote == sun.path.remote
    assert pair.moon.children[0].udp_encapsulation
    pair.wire.run(101)
    assert [datagram.data for datagram in pair.wire.sent].count(KEEPALIVE) == 5


@pytest.mark.parametrize("mobike", [True, False])
def test_a_new_mapping_is_followed_after_an_authentic_message(mobike: bool) -> None:
    pair = make_pair(moon={"mobike": mobike})
    nat = Nat(pair)
    pair.establish()
    nat.remap(20_000)
    pair.sun.endpoint.receive_datagram(
        bytes(40), Path(SocketAddress(pair.sun.address.host, 4500), SocketAddress(OUTSIDE, 30_000)), pair.wire.now
    )
    pair.wire.collect()
    assert not pair.sun.all(AddressChanged)
    pair.moon.endpoint.commands.check_liveness(pair.moon_session, pair.wire.now)
    pair.wire.run(1)
    assert pair.sun.last(AddressChanged).new_path.remote == SocketAddress(OUTSIDE, 24_500)
    assert pair.sun.last(AddressChanged).children[0].path.remote.port == 24_500


def test_a_replayed_message_does_not_move_the_peer() -> None:
    """An attacker repeats an old authentic message from its own address."""
    pair = make_pair()
    Nat(pair)
    pair.establish()
    pair.moon.endpoint.commands.check_liveness(pair.moon_session, pair.wire.now)
    pair.wire.run(1)
    recorded = next(d for d in reversed(pair.wire.sent) if d.path.local.host == pair.moon.address.host)
    attacker = SocketAddress(ip_address("198.51.100.66"), 4500)
    local = SocketAddress(pair.sun.address.host, 4500)
    pair.sun.endpoint.receive_datagram(recorded.data, Path(local, attacker), pair.wire.now)
    pair.wire.run(1)
    assert not pair.sun.all(AddressChanged)


def test_esp_from_a_new_mapping_is_followed() -> None:
    pair = make_pair()
    Nat(pair)
    pair.establish()
    path = Path(SocketAddress(pair.sun.address.host, 4500), SocketAddress(OUTSIDE, 33_333))
    pair.sun.endpoint.reports.child_path(pair.sun.children[0].spi_in, path, pair.wire.now)
    pair.wire.collect()
    assert pair.sun.last(AddressChanged).new_path == path
    pair.moon.endpoint.reports.child_path(pair.moon.children[0].spi_in, path, pair.wire.now)
    pair.wire.collect()
    assert not pair.moon.all(AddressChanged)


def test_without_a_nat_the_address_never_changes_by_itself() -> None:
    pair = make_pair().establish()
    path = Path(SocketAddress(pair.sun.address.host, 4500), SocketAddress(OUTSIDE, 4500))
    pair.sun.endpoint.reports.child_path(pair.sun.children[0].spi_in, path, pair.wire.now)
    pair.wire.collect()
    assert not pair.sun.all(AddressChanged)


# Liveness


def test_a_dead_peer_is_detected() -> None:
    pair = make_pair(moon={"dpd_delay": 30.0}).establish()
    pair.wire.run(100)
    assert not pair.moon.all(PeerUnresponsive)
    pair.wire.fate = lambda datagram: ()
    pair.wire.run(300)
    assert pair.moon.last(PeerUnresponsive)
    assert pair.moon.last(IkeSaDeleted).reason == DeleteReason.PEER_DEAD
    assert not pair.moon.children


def test_inbound_esp_proves_liveness() -> None:
    pair = make_pair(moon={"dpd_delay": 30.0}).establish()
    sent = len(pair.wire.sent)
    for packets in range(1, 20):
        pair.wire.run(10)
        usage = ChildUsage(bytes_in=100 * packets, packets_in=packets)
        pair.moon.endpoint.reports.child_usage(pair.moon.children[0].spi_in, usage, pair.wire.now)
    assert len(pair.wire.sent) == sent


# MOBIKE


def move_moon(pair: Pair, host: str) -> None:
    pair.moon.address = address(host)
    path = Path(address(host, 4500), SocketAddress(pair.sun.address.host, 4500))
    pair.moon.endpoint.commands.change_path(pair.moon_session, path, pair.wire.now)
    pair.wire.run(2)


def test_the_initiator_moves() -> None:
    pair = make_pair().establish()
    move_moon(pair, "198.51.100.7")
    new = ip_address("198.51.100.7")
    assert pair.moon.last(AddressChanged).children[0].path.local.host == new
    assert pair.sun.last(AddressChanged).children[0].path.remote.host == new
    pair.sun.endpoint.commands.check_liveness(pair.sun_session, pair.wire.now)
    pair.wire.run(200)
    assert not pair.sun.all(PeerUnresponsive)


def test_the_initiator_moves_to_ipv6() -> None:
    pair = make_pair().establish()
    pair.sun.address = address("2001:db8::2")
    move_moon(pair, "2001:db8::1")
    assert pair.sun.last(AddressChanged).new_path.remote.host == ip_address("2001:db8::1")


def test_only_initiators_with_mobike_move() -> None:
    pair = make_pair(sun={"mobike": False}).establish()
    with pytest.raises(CommandError):
        move_moon(pair, "198.51.100.7")
    pair = make_pair().establish()
    with pytest.raises(CommandError):
        pair.sun.endpoint.commands.change_path(pair.sun_session, pair.sun.last(IkeSaEstablished).path, pair.wire.now)


# Fragmentation


def with_chains(size: int | None) -> Pair:
    root = Authority.make("Root")
    below = root.subordinate("Branch")
    sides = []
    for name in ("moon", "sun"):
        key = make_key("ecdsa-p256")
        auth = CertificateAuth((below.issue(name, key), below.certificate), key)
        sides.append({"local_auth": auth, "remote_auth": CertificateTrust((root.certificate,)), "fragment_size": size})
    return make_pair(sides[0], sides[1])


@pytest.mark.parametrize("size", [300, 400, 600])
def test_long_messages_are_fragmented(size: int) -> None:
    pair = with_chains(size).establish()
    assert pair.moon.last(IkeSaEstablished).fragmentation
    assert max(len(datagram.data) for datagram in pair.wire.sent) <= size - 28
    assert len(pair.wire.sent) > 4


def test_without_fragmentation_messages_stay_whole() -> None:
    assert len(with_chains(None).establish().wire.sent) == 4


def test_a_lost_fragment_is_repeated_with_all_others() -> None:
    pair = with_chains(600)
    lost = iter([False, False, True])
    pair.wire.fate = lambda datagram: () if next(lost, False) else (0.01,)
    pair.start()
    pair.wire.run(20)
    assert pair.moon.last(IkeSaEstablished)
    pair.check_children()


def test_forged_fragments_are_not_stored() -> None:
    pair = with_chains(600)
    deliver = pair.wire._deliver

    def forge_first(datagram: Datagram) -> None:
        if datagram.path.local.port == 4500:
            deliver(Datagram(datagram.data[:-1] + bytes([datagram.data[-1] ^ 1]), datagram.path))
        deliver(datagram)

    pair.wire._deliver = forge_first  # type: ignore[method-assign]  # this test plays the attacker on the path
    pair.start()
    pair.wire.run(20)
    assert pair.moon.last(IkeSaEstablished)
    assert not pair.moon.all(AuthenticationFailed)
    pair.check_children()
