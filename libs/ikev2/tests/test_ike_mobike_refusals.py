"""Refusals of MOBIKE (RFC 4555, 3.5 and 3.9), and arbitrary notifies of it."""

from ipaddress import IPv4Network, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren_ikev2.addresses import IPAddress, Path, SocketAddress
from warren_ikev2.constants import ExchangeType, NotifyType
from warren_ikev2.errors import ConfigurationError
from warren_ikev2.events import AddressChanged, AddressRefused, HandshakeFailed, IkeSaEstablished, PeerUnresponsive
from warren_ikev2.wire.payloads import NotifyPayload
from warren_testkit.examples import examples
from warren_testkit.ikev2.mobike import MOON, MOON_2, MOON_6, SUN, SUN_2, UNKNOWN_HOST, esp_paths, make_mobile, on
from warren_testkit.ikev2.pair import make_pair, session_of


def test_an_unacceptable_address_is_refused_and_the_old_one_stays() -> None:
    pair = make_mobile((MOON, MOON_2), sun_remote_addresses=(IPv4Network("192.0.2.0/24"),))
    pair.moon.endpoint.commands.change_path(pair.moon_session, on(MOON_2, SUN), pair.wire.now)
    pair.wire.run(5)
    assert pair.moon.last(AddressRefused).path.local.host == MOON_2
    assert not pair.moon.all(AddressChanged) + pair.sun.all(AddressChanged)
    pair.moon.endpoint.commands.check_liveness(pair.moon_session, pair.wire.now)
    pair.wire.run(30)
    assert esp_paths(pair) == [(MOON, SUN)] * 2
    assert not pair.moon.all(PeerUnresponsive)


def test_after_a_refusal_the_next_address_is_tried() -> None:
    third = ip_address("192.0.2.7")
    pair = make_mobile((MOON, MOON_2, third), sun_remote_addresses=(IPv4Network("192.0.2.0/24"),))
    pair.moon.more.append(third)
    pair.moon.endpoint.commands.set_addresses(pair.moon_session, (MOON_2, third), pair.wire.now)
    pair.wire.run(5)
    assert esp_paths(pair) == [(third, SUN)] * 2


def translate(path: Path) -> Path:
    """A NAT that shows MOON as UNKNOWN_HOST."""
    if path.remote.host == MOON:
        return Path(path.local, SocketAddress(UNKNOWN_HOST, path.remote.port))
    return Path(SocketAddress(MOON, path.local.port), path.remote) if path.local.host == UNKNOWN_HOST else path


def test_without_nats_moves_are_protected() -> None:
    pair = make_mobile((MOON, MOON_2), moon_allow_nats=False)
    path = session_of(pair.moon).path
    assert path.remote.port == 500  # no NAT traversal, so no other ports
    moved = Path(SocketAddress(MOON_2, path.local.port), path.remote)
    pair.moon.endpoint.commands.change_path(pair.moon_session, moved, pair.wire.now)
    pair.wire.run(2)
    assert esp_paths(pair) == [(MOON_2, SUN)] * 2
    pair.moon.more += [UNKNOWN_HOST]
    pair.moon.endpoint.commands.change_path(
        pair.moon_session, Path(SocketAddress(MOON, 500), path.remote), pair.wire.now
    )
    pair.wire.translate = translate
    pair.wire.run(5)
    assert pair.moon.last(AddressRefused)
    assert esp_paths(pair) == [(MOON_2, SUN)] * 2


def test_without_nats_a_handshake_through_one_fails() -> None:
    pair = make_pair(moon={"allow_nats": False})
    pair.wire.translate = translate
    pair.start()
    pair.wire.run(5)
    assert pair.moon.last(HandshakeFailed).notify == NotifyType.UNEXPECTED_NAT_DETECTED
    assert pair.sun.last(HandshakeFailed).notify == NotifyType.UNEXPECTED_NAT_DETECTED
    assert not pair.sun.all(IkeSaEstablished)


def test_encapsulation_needs_nat_traversal() -> None:
    with pytest.raises(ConfigurationError):
        make_pair(moon={"allow_nats": False, "force_udp_encapsulation": True})


MOBIKE_NOTIFIES = st.builds(
    NotifyPayload,
    st.sampled_from([int(kind) for kind in NotifyType if 16384 <= kind <= 16402] + [40, 41]),
    st.one_of(st.binary(max_size=70), st.sampled_from([MOON.packed, MOON_2.packed, MOON_6.packed, bytes(12)])),
)


@given(
    requests=st.lists(
        st.tuples(
            st.sampled_from(["moon", "sun"]),
            st.lists(MOBIKE_NOTIFIES, max_size=5),
            st.sampled_from([MOON, UNKNOWN_HOST]),
        ),
        max_size=6,
    )
)
@examples(150)
def test_any_authentic_notifies_are_survived(requests: list[tuple[str, list[NotifyPayload], IPAddress]]) -> None:
    """From either side and from anywhere: each is answered, or ends the IKE_SA; nothing else is raised."""
    pair = make_mobile((MOON, MOON_2), (SUN, SUN_2), moon_window_size=3, sun_window_size=3)
    for name, payloads, source in requests:
        sender, receiver = (pair.moon, pair.sun) if name == "moon" else (pair.sun, pair.moon)
        if not (sender.endpoint.size and receiver.endpoint.size):
            return
        own = next(iter(sender.endpoint.state.ike_sas.values()))
        number = next(iter(receiver.endpoint.state.ike_sas.values())).receiving.lowest
        (data,) = own.protect(ExchangeType.INFORMATIONAL, number, payloads, response=False)
        local = SUN if name == "moon" else MOON
        receiver.endpoint.receive_datagram(bytes(4) + data, on(local, source), pair.wire.now)
        assert receiver.endpoint.datagrams_to_send(pair.wire.now)
    pair.wire.run(400)
