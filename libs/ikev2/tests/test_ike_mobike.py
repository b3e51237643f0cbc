"""MOBIKE (RFC 4555) between two engines with several addresses each."""

from collections.abc import Callable
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren_ikev2.addresses import Datagram, IPAddress, Path
from warren_ikev2.configuration import Retransmission
from warren_ikev2.constants import ExchangeType, NotifyType
from warren_ikev2.errors import CommandError
from warren_ikev2.events import AddressChanged, IkeSaDeleted, IkeSaEstablished, IkeSaRekeyed, PeerUnresponsive
from warren_ikev2.mobility import MAX_ADDRESSES, MAX_PATHS, Mobility
from warren_ikev2.wire.payloads import NotifyPayload
from warren_testkit.examples import examples
from warren_testkit.ikev2.mobike import (
    MOON,
    MOON_2,
    MOON_6,
    SUN,
    SUN_2,
    SUN_6,
    UNKNOWN_HOST,
    esp_paths,
    make_mobile,
    on,
)
from warren_testkit.ikev2.pair import Pair, sa_of, session_of


def passing(*pairs: tuple[IPAddress, IPAddress]) -> Callable[[Datagram], tuple[float, ...]]:
    """A network in which only these pairs of addresses reach each other."""
    allowed = {frozenset(pair) for pair in pairs}
    return lambda datagram: (0.01,) if {datagram.path.local.host, datagram.path.remote.host} in allowed else ()


def between(datagram: Datagram) -> set[IPAddress]:
    return {datagram.path.local.host, datagram.path.remote.host}


def send(pair: Pair, *payloads: NotifyPayload, path: Path | None = None, message_id: int | None = None) -> list[bytes]:
    """Send a request from moon that its window does not record; return sun's immediate responses."""
    own, peer = sa_of(pair.moon), sa_of(pair.sun)
    number = peer.receiving.lowest if message_id is None else message_id
    (data,) = own.protect(ExchangeType.INFORMATIONAL, number, payloads, response=False)
    pair.sun.endpoint.receive_datagram(bytes(4) + data, path or session_of(pair.sun).path, pair.wire.now)
    return [datagram.data for datagram in pair.sun.endpoint.datagrams_to_send(pair.wire.now)]


# Lists


def test_addresses_are_announced_both_ways() -> None:
    pair = make_mobile((MOON, MOON_2, MOON_6), (SUN, SUN_2))
    assert session_of(pair.sun).mobility.peers == (MOON, MOON_2, MOON_6)
    assert session_of(pair.moon).mobility.peers == (SUN, SUN_2)


def test_one_address_has_no_additional_ones() -> None:
    pair = make_mobile()
    assert session_of(pair.sun).mobility.peers == (MOON,)
    assert session_of(pair.moon).mobility.peers == (SUN,)


def test_new_addresses_replace_the_old_ones() -> None:
    pair = make_mobile((MOON, MOON_2), (SUN, SUN_2))
    for host, addresses, announced in ((pair.moon, (MOON, MOON_6), (MOON, MOON_6)), (pair.sun, (SUN,), (SUN,))):
        host.endpoint.commands.set_addresses(host.last(IkeSaEstablished).session, addresses, pair.wire.now)
        pair.wire.run(1)
        peer = pair.sun if host is pair.moon else pair.moon
        assert session_of(peer).mobility.peers == announced
    assert not pair.moon.all(AddressChanged) + pair.sun.all(AddressChanged)


def test_an_older_list_that_arrives_later_is_ignored() -> None:
    """With a window, requests may pass one another (3.6)."""
    pair = make_mobile(sun_window_size=4)
    lowest = sa_of(pair.sun).receiving.lowest
    send(pair, NotifyPayload(NotifyType.ADDITIONAL_IP4_ADDRESS, MOON_2.packed), message_id=lowest + 1)
    send(pair, NotifyPayload(NotifyType.NO_ADDITIONAL_ADDRESSES), message_id=lowest)
    assert session_of(pair.sun).mobility.peers == (MOON, MOON_2)


def test_lists_are_limited_and_invalid_addresses_are_ignored() -> None:
    pair = make_mobile()
    many = [NotifyPayload(NotifyType.ADDITIONAL_IP4_ADDRESS, bytes((10, 0, 0, number))) for number in range(1, 30)]
    odd = [
        NotifyPayload(NotifyType.ADDITIONAL_IP4_ADDRESS, data)
        for data in (b"", b"\1\2\3", bytes(4), b"\xe0\0\0\1", bytes(16))
    ]
    assert len(send(pair, *odd, *many)) == 1
    peers = session_of(pair.sun).mobility.peers
    assert peers == (MOON, *(ip_address(f"10.0.0.{number}") for number in range(1, MAX_ADDRESSES + 1)))


def test_without_mobike_lists_are_ignored() -> None:
    pair = make_mobile(sun_mobike=False)
    send(pair, NotifyPayload(NotifyType.ADDITIONAL_IP4_ADDRESS, MOON_2.packed))
    assert session_of(pair.sun).mobility.peers == ()
    with pytest.raises(CommandError):
        pair.moon.endpoint.commands.set_addresses(pair.moon_session, (MOON, MOON_2), pair.wire.now)


@given(st.lists(st.ip_addresses(), max_size=20), st.lists(st.ip_addresses(), max_size=20))
def test_paths_are_limited_and_of_one_version(own: list[IPAddress], peers: list[IPAddress]) -> None:
    current = on(MOON, SUN)
    found = Mobility(tuple(own), tuple(peers)).paths(current, 4500)
    assert len(found) <= MAX_PATHS
    assert len(found) == len(set(found))
    assert all(path.local.host.version == path.remote.host.version for path in found)
    assert not own or all(path.local.host in own for path in found)


# A path that fails


@pytest.mark.parametrize("works", [(MOON_2, SUN_2), (MOON_2, SUN), (MOON, SUN_2), (MOON_6, SUN_6)])
def test_a_failed_path_is_replaced_by_one_that_answers(works: tuple[IPAddress, IPAddress]) -> None:
    pair = make_mobile((MOON, MOON_2, MOON_6), (SUN, SUN_2, SUN_6), moon_dpd_delay=30.0)
    pair.wire.fate = passing(works)
    pair.wire.run(60)
    assert esp_paths(pair) == [works, works]
    assert not pair.moon.all(PeerUnresponsive)
    sent = len(pair.wire.sent)
    pair.wire.run(60)
    assert all(between(datagram) == set(works) for datagram in pair.wire.sent[sent:])
    pair.check_children()


def test_the_first_retransmissions_use_only_the_current_path() -> None:
    pair = make_mobile((MOON, MOON_2), (SUN, SUN_2))
    pair.wire.fate = lambda datagram: ()
    sent = len(pair.wire.sent)
    pair.moon.endpoint.commands.check_liveness(pair.moon_session, pair.wire.now)
    pair.wire.run(5)
    assert len(pair.wire.sent) == sent + 2
    pair.wire.run(8)
    assert len(pair.wire.sent) == sent + 2 + 4


def test_a_peer_without_a_working_path_is_detected() -> None:
    pair = make_mobile((MOON, MOON_2), (SUN, SUN_2), moon_dpd_delay=30.0)
    pair.wire.fate = lambda datagram: ()
    pair.wire.run(300)
    assert pair.moon.last(PeerUnresponsive)
    assert not pair.moon.children


def test_the_responder_does_not_probe() -> None:
    """It uses the initiator's addresses only to announce its own (3.4)."""
    pair = make_mobile((MOON, MOON_2), (SUN, SUN_2), sun_dpd_delay=30.0)
    pair.wire.fate = lambda datagram: ()
    pair.wire.run(300)
    assert all(between(datagram) == {MOON, SUN} for datagram in pair.wire.sent)


def test_a_path_fails_during_an_address_update() -> None:
    """The update itself is lost, so it is sent over the other paths; what the responder received is confirmed again."""
    pair = make_mobile((MOON, MOON_2), (SUN, SUN_2))
    pair.wire.fate = passing((MOON, SUN_2))
    pair.moon.endpoint.commands.change_path(pair.moon_session, on(MOON_2, SUN), pair.wire.now)
    pair.wire.run(60)
    assert esp_paths(pair) == [(MOON, SUN_2)] * 2


@given(st.lists(st.sampled_from([(a, b) for a in (MOON, MOON_2) for b in (SUN, SUN_2)]), min_size=1, max_size=4))
@examples(40)
def test_paths_that_come_and_go(order: list[tuple[IPAddress, IPAddress]]) -> None:
    fields = {"dpd_delay": 10.0, "retransmission": Retransmission(tries=9)}
    pair = make_mobile((MOON, MOON_2), (SUN, SUN_2), **{f"moon_{name}": value for name, value in fields.items()})
    for works in order:
        pair.wire.fate = passing(works)
        pair.wire.run(300)
        assert esp_paths(pair) == [works, works]
    assert not pair.moon.all(IkeSaDeleted) + pair.sun.all(IkeSaDeleted)


# Addresses that become unavailable


def test_the_initiator_leaves_an_address_that_was_removed() -> None:
    pair = make_mobile((MOON, MOON_2), (SUN,))
    pair.moon.endpoint.commands.set_addresses(pair.moon_session, (MOON_2, MOON_6), pair.wire.now)
    pair.wire.run(2)
    assert esp_paths(pair) == [(MOON_2, SUN)] * 2
    assert session_of(pair.sun).mobility.peers == (MOON_2, MOON_6)


def test_the_responder_leaves_an_address_that_was_removed() -> None:
    """It announces this from another one, and the initiator changes to it."""
    pair = make_mobile((MOON, MOON_2), (SUN, SUN_2))
    pair.wire.fate = passing((MOON, SUN_2), (MOON_2, SUN_2))
    pair.sun.endpoint.commands.set_addresses(pair.sun_session, (SUN_2,), pair.wire.now)
    pair.wire.run(2)
    assert esp_paths(pair) == [(MOON, SUN_2)] * 2


def test_the_responder_probes_every_path_when_its_address_was_removed() -> None:
    """Neither old address works any more: the list goes to every address that the initiator announced (3.6)."""
    pair = make_mobile((MOON, MOON_2), (SUN, SUN_2))
    pair.wire.fate = passing((MOON_2, SUN_2))
    pair.sun.endpoint.commands.set_addresses(pair.sun_session, (SUN_2,), pair.wire.now)
    pair.wire.run(60)
    assert esp_paths(pair) == [(MOON_2, SUN_2)] * 2
    assert not session_of(pair.sun).mobility.searching


def test_addresses_without_a_path_are_refused() -> None:
    pair = make_mobile((MOON,), (SUN,))
    with pytest.raises(CommandError):
        pair.moon.endpoint.commands.set_addresses(pair.moon_session, (MOON_6,), pair.wire.now)
    assert session_of(pair.moon).mobility.own == (MOON,)


# Return routability


def test_esp_goes_to_a_new_address_only_after_it_answered() -> None:
    """An authenticated client directs traffic to a third party (5.3)."""
    pair = make_mobile()
    answers = send(pair, NotifyPayload(NotifyType.UPDATE_SA_ADDRESSES), path=on(SUN, UNKNOWN_HOST))
    assert len(answers) == 2  # the response, and our question with a cookie
    pair.wire.run(600)
    assert not pair.sun.all(AddressChanged)
    assert pair.sun.last(PeerUnresponsive)


def test_a_new_child_does_not_go_to_an_unchecked_address_either() -> None:
    pair = make_mobile()
    send(pair, NotifyPayload(NotifyType.UPDATE_SA_ADDRESSES), path=on(SUN, UNKNOWN_HOST))
    session = session_of(pair.sun)
    assert (session.path.remote.host, session.esp_path.remote.host) == (UNKNOWN_HOST, MOON)


def test_the_check_can_be_left_out() -> None:
    pair = make_mobile(sun_return_routability=False)
    assert len(send(pair, NotifyPayload(NotifyType.UPDATE_SA_ADDRESSES), path=on(SUN, UNKNOWN_HOST))) == 1
    pair.wire.collect()
    assert pair.sun.last(AddressChanged).new_path.remote.host == UNKNOWN_HOST


def test_the_newest_move_counts_while_an_older_one_is_checked() -> None:
    pair = make_mobile((MOON, MOON_2, UNKNOWN_HOST), sun_window_size=2)
    pair.moon.more.append(UNKNOWN_HOST)
    for address in (UNKNOWN_HOST, MOON_2):
        pair.moon.endpoint.commands.change_path(pair.moon_session, on(address, SUN), pair.wire.now)
        pair.wire.run(0.015)
    pair.wire.run(30)
    assert esp_paths(pair) == [(MOON_2, SUN)] * 2


def test_an_older_move_that_comes_later_is_only_answered() -> None:
    pair = make_mobile(sun_window_size=4, sun_return_routability=False)
    lowest, update = sa_of(pair.sun).receiving.lowest, NotifyPayload(NotifyType.UPDATE_SA_ADDRESSES)
    assert len(send(pair, update, path=on(SUN, MOON_2), message_id=lowest + 1)) == 1
    assert len(send(pair, update, path=on(SUN, UNKNOWN_HOST), message_id=lowest)) == 1
    assert session_of(pair.sun).path.remote.host == MOON_2


@pytest.mark.parametrize("cookie", [None, bytes(16)])
def test_another_cookie_ends_the_ike_sa(cookie: bytes | None) -> None:
    """RFC 4555, 3.7: it MUST be closed."""
    pair = make_mobile()
    pair.moon.endpoint.commands.change_path(pair.moon_session, on(MOON_2, SUN), pair.wire.now)
    pair.moon.endpoint.datagrams_to_send(pair.wire.now)
    (outstanding,) = sa_of(pair.moon).sending
    payloads = [] if cookie is None else [NotifyPayload(NotifyType.COOKIE2, cookie)]
    (data,) = sa_of(pair.sun).protect(ExchangeType.INFORMATIONAL, outstanding.message_id, payloads, response=True)
    pair.moon.endpoint.receive_datagram(bytes(4) + data, on(MOON_2, SUN), pair.wire.now)
    pair.wire.collect()
    assert pair.moon.last(IkeSaDeleted)


@pytest.mark.parametrize("size", [1, 8, 64])
def test_a_cookie_is_returned_as_it_came(size: int) -> None:
    pair = make_mobile()
    plain, with_cookie = (
        len(send(pair, *payloads)[0]) for payloads in ([], [NotifyPayload(NotifyType.COOKIE2, bytes(size))])
    )
    assert with_cookie > plain


def test_an_address_update_over_a_replaced_ike_sa_is_applied() -> None:
    pair = make_mobile((MOON, MOON_2))
    pair.moon.endpoint.commands.change_path(pair.moon_session, on(MOON_2, SUN), pair.wire.now)
    pair.sun.endpoint.commands.rekey_ike(pair.sun_session, pair.wire.now)
    pair.wire.run(30)
    assert pair.moon.all(IkeSaRekeyed)
    assert esp_paths(pair) == [(MOON_2, SUN)] * 2
    assert pair.moon.endpoint.size == pair.sun.endpoint.size == 1
