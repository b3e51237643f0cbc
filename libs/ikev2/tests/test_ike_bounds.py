"""The limits of the state that peers can cause: IKE_SAs and bytes, from one address and from many."""

from ipaddress import ip_address
from typing import Any

from warren_ikev2.addresses import Datagram, Path, SocketAddress
from warren_ikev2.configuration import Limits, Retransmission
from warren_ikev2.constants import ExchangeType, HeaderFlag
from warren_ikev2.credentials import CertificateAuth, CertificateTrust, EapGtcAuth, EapTrust, PskAuth
from warren_ikev2.events import AuthenticationFailed, DatagramDropped, HandshakeFailed, IkeSaEstablished, State
from warren_ikev2.fragments import FRAGMENT_OVERHEAD, seal
from warren_ikev2.ike_sa import LINGER, IkeSa
from warren_ikev2.wire.header import Header
from warren_testkit.ikev2.keys import Authority, make_key
from warren_testkit.ikev2.logins import by_password
from warren_testkit.ikev2.pair import Host, Pair, make_connection, make_host, make_pair

ATTACKERS = ip_address("198.51.100.1")
LARGEST = 65535 + 64 * FRAGMENT_OVERHEAD
"""The largest size of one incomplete message, by the default limits."""


def make_attacker() -> Host:
    return make_host("eve", "198.51.100.1", make_connection("moon", None))


def begin_handshake(pair: Pair, attacker: Host, number: int = 0) -> IkeSa | None:
    """An IKE_SA_INIT from the attacker's address of that number, with a cookie if demanded; None: not admitted."""
    now = pair.wire.now
    source = SocketAddress(ATTACKERS + number, 500)
    session = attacker.endpoint.commands.initiate("gw", Path(source, pair.sun.address), now)
    for _ in range(3):
        for request in attacker.endpoint.datagrams_to_send(now):
            pair.sun.endpoint.receive_datagram(request.data, Path(request.path.remote, request.path.local), now)
        for answer in pair.sun.endpoint.datagrams_to_send(now):
            attacker.endpoint.receive_datagram(answer.data, Path(answer.path.remote, answer.path.local), now)
        sa = attacker.endpoint.state.sessions[session].ike_sa
        if sa is not None and any(sa.spi_r):
            attacker.endpoint.datagrams_to_send(now)
            return sa
    return None


def leave_fragments(pair: Pair, sa: IkeSa, exchange: ExchangeType, message_id: int) -> None:
    """All fragments but the last of the largest message that is allowed."""
    assert sa.protection.outbound is not None
    path = Path(pair.sun.address, SocketAddress(sa.session.path.local.host, 500))
    header = Header(sa.spi_i, sa.spi_r, exchange, HeaderFlag.INITIATOR, message_id)
    for message in seal(sa.protection.outbound, header, 43, bytes(65535), 1200)[:-1]:
        pair.sun.endpoint.receive_datagram(message, path, pair.wire.now)


def pinned(host: Host) -> int:
    """Count the bytes of incomplete messages in the IKE_SAs."""
    found = [
        parts for sa in host.endpoint.state.ike_sas.values() for parts in sa.incomplete.requests._messages.values()
    ]
    return sum(len(data) for parts in found for data in parts.parts.values())


# Half-open IKE_SAs


def test_many_addresses_cannot_exceed_the_half_open_limit() -> None:
    pair = make_pair(limits=Limits(half_open=12))
    attacker = make_attacker()
    let_in = [begin_handshake(pair, attacker, number) for number in range(40)]
    assert sum(sa is not None for sa in let_in) == pair.sun.endpoint.size == 12
    pair.wire.collect()
    assert {event.reason for event in pair.sun.all(DatagramDropped)} == {"half-open-limit"}
    pair.wire.run(Limits().half_open_seconds + 1)
    assert pair.sun.endpoint.size == 0
    pair.establish()


def test_the_total_of_ike_sas_counts_established_ones() -> None:
    pair = make_pair(limits=Limits(ike_sas=3)).establish()
    attacker = make_attacker()
    assert [begin_handshake(pair, attacker, number) is not None for number in range(4)] == [True, True, False, False]
    assert pair.sun.endpoint.size == 3


def test_a_failed_authentication_still_counts_as_half_open() -> None:
    """A closed IKE_SA repeats its response for a while, and counts as half-open until then."""
    wrong = {"local_auth": PskAuth(b"wrong"), "retransmission": Retransmission(tries=0)}
    pair = make_pair(moon=wrong, limits=Limits(half_open_per_address=5))
    for _ in range(20):
        pair.start()
        pair.wire.run(0.1)
        assert pair.sun.endpoint.size <= 5
    assert len(pair.sun.all(AuthenticationFailed)) == 5
    pair.wire.run(LINGER)
    assert pair.sun.endpoint.size == 0
    pair.start()
    pair.wire.run(0.1)
    assert len(pair.sun.all(AuthenticationFailed)) == 6


# Fragments


def test_one_address_occupies_one_message_for_each_half_open_ike_sa() -> None:
    pair = make_pair(limits=Limits(half_open_per_address=4))
    attacker = make_attacker()
    for _ in range(10):
        sa = begin_handshake(pair, attacker)
        if sa is not None:
            leave_fragments(pair, sa, ExchangeType.IKE_AUTH, 1)
            leave_fragments(pair, sa, ExchangeType.IKE_AUTH, 2)  # outside the window
    assert 4 * 60_000 < pinned(pair.sun) <= 4 * 65535
    assert pinned(pair.sun) < pair.sun.endpoint.state.unauthenticated_fragments.held <= 4 * LARGEST
    pair.wire.run(Limits().half_open_seconds + 1)
    assert (pinned(pair.sun), pair.sun.endpoint.state.unauthenticated_fragments.held) == (0, 0)


def test_many_addresses_cannot_exceed_the_total_or_lock_others_out() -> None:
    limits = Limits(unauthenticated_fragment_bytes=200_000)
    pair = make_pair(moon={"fragment_size": 200}, sun={"fragment_size": 200}, limits=limits)
    attacker = make_attacker()
    for number in range(20):
        sa = begin_handshake(pair, attacker, number)
        assert sa is not None
        leave_fragments(pair, sa, ExchangeType.IKE_AUTH, 1)
        assert pinned(pair.sun) < pair.sun.endpoint.state.unauthenticated_fragments.held <= 200_000
    assert pinned(pair.sun) > 100_000
    sent = len(pair.wire.sent)
    pair.establish()
    assert len(pair.wire.sent) - sent == 6  # IKE_AUTH in two fragments each way, and none repeated
    assert pair.sun.endpoint.state.unauthenticated_fragments.held <= 200_000


def test_established_peers_cannot_exceed_their_total() -> None:
    pair = make_pair(limits=Limits(fragment_bytes=150_000))
    for message_id in range(2, 7):
        pair.establish()
        sa = pair.moon.endpoint.state.sessions[pair.moon_session].ike_sa
        assert sa is not None
        leave_fragments(pair, sa, ExchangeType.INFORMATIONAL, 2)
        assert pinned(pair.sun) < pair.sun.endpoint.state.authenticated_fragments.held <= 150_000, message_id
    assert pair.sun.endpoint.state.unauthenticated_fragments.held == 0
    for event in pair.sun.all(IkeSaEstablished):
        pair.sun.endpoint.commands.delete(event.session, pair.wire.now)
    pair.wire.run(400)
    assert (pair.sun.endpoint.size, pair.sun.endpoint.state.authenticated_fragments.held) == (0, 0)


# EAP


def make_eap_pair(limits: Limits, **moon: Any) -> Pair:
    root, key = Authority.make("Root"), make_key("ecdsa-p256")
    trust = CertificateTrust((root.certificate,))
    return make_pair(
        moon={"local_auth": EapGtcAuth("carol", "secret"), "remote_auth": trust} | moon,
        sun={
            "local_auth": CertificateAuth((root.issue("sun", key),), key),
            "remote_auth": EapTrust(),
            "remote_identity": None,
        },
        limits=limits,
        verify=by_password({"carol": "secret"}),
    )


def test_eap_has_as_many_rounds_as_allowed() -> None:
    make_eap_pair(Limits(eap_rounds=3)).establish()  # identity, password, AUTH
    pair = make_eap_pair(Limits(eap_rounds=2))
    pair.start()
    pair.wire.run(1)
    assert "rounds of EAP" in pair.sun.last(AuthenticationFailed).reason
    assert not pair.sun.all(IkeSaEstablished)


def test_the_stored_request_of_an_unauthenticated_eap_peer_is_limited() -> None:
    pair = make_eap_pair(Limits(eap_request=100))
    pair.start()
    pair.wire.run(1)
    assert "bytes to store during EAP" in pair.sun.last(AuthenticationFailed).reason


def test_an_eap_run_is_part_of_its_half_open_ike_sa() -> None:
    """As many as those, one for each, and gone with it, however far it came."""
    pair = make_eap_pair(Limits(half_open_per_address=4))

    def only_the_first_auth(datagram: Datagram) -> tuple[float, ...]:
        data = datagram.data.removeprefix(bytes(4))
        return () if int.from_bytes(data[20:24], "big") > 1 else (0.01,)

    pair.wire.fate = only_the_first_auth
    for _ in range(10):
        pair.start()
        pair.wire.run(0.5)
    kept = [sa.handshake for sa in pair.sun.endpoint.state.ike_sas.values() if sa.state == State.EAP]
    assert len(kept) == pair.sun.endpoint.size == 4
    assert all(handshake is not None and 0 < len(handshake.first_request[1]) < 1000 for handshake in kept)
    pair.wire.run(Limits().half_open_seconds)
    assert pair.sun.endpoint.size == 0
    assert pair.sun.all(HandshakeFailed)
