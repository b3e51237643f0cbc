"""F15: ten IKE_SA_INIT requests with a forged source locked that address out for 31 s, without ever meeting a cookie."""

from ipaddress import ip_address

import pytest

from warren_ikev2.addresses import IPAddress, Path, SocketAddress
from warren_ikev2.configuration import Limits
from warren_ikev2.constants import ExchangeType, HeaderFlag, NotifyType
from warren_ikev2.wire.header import Header
from warren_ikev2.wire.message import build_message, parse_message
from warren_ikev2.wire.payloads import KePayload, NoncePayload, NotifyPayload, Payload, SaPayload
from warren_testkit.ikev2.pair import Pair, make_pair
from warren_testkit.ikev2.proposals import parse_ike_proposals


def init(number: int, cookie: bytes = b"") -> bytes:
    """An IKE_SA_INIT request that is never continued."""
    header = Header((number + 1).to_bytes(8, "big"), bytes(8), ExchangeType.IKE_SA_INIT, HeaderFlag.INITIATOR, 0)
    first: list[Payload] = [NotifyPayload(NotifyType.COOKIE, cookie)] if cookie else []
    proposals = parse_ike_proposals("aes256gcm16-prfsha384-x25519")
    return build_message(
        header, [*first, SaPayload(proposals), KePayload(31, b"\x09" + bytes(31)), NoncePayload(bytes(32))]
    )


def send(pair: Pair, source: IPAddress, data: bytes, port: int = 500) -> list[bytes]:
    """Deliver it as from this source, and take the responses, which the attacker that forges it does not receive."""
    endpoint = pair.sun.endpoint
    endpoint.receive_datagram(data, Path(pair.sun.address, SocketAddress(source, port)), pair.wire.now)
    return [datagram.data for datagram in endpoint.datagrams_to_send(pair.wire.now)]


@pytest.mark.parametrize("count", [10, 200])
def test_the_host_whose_address_is_forged_is_not_locked_out(count: int) -> None:
    pair = make_pair()
    for number in range(count):
        send(pair, pair.moon.address.host, init(number), port=1024 + number)
    assert pair.sun.endpoint.size == 1
    pair.establish()


def test_no_address_of_a_network_is_locked_out() -> None:
    """An IPv6 /64 counts as one address: its other hosts are not locked out either."""
    pair = make_pair()
    for number in range(100):
        send(pair, ip_address("2001:db8::") + number, init(number))
    assert pair.sun.endpoint.size == 1
    (response,) = send(pair, ip_address("2001:db8::ffff"), init(500))
    cookie = parse_message(response).payloads.notify(NotifyType.COOKIE)
    assert cookie is not None
    send(pair, ip_address("2001:db8::ffff"), init(500, cookie.data))
    assert pair.sun.endpoint.size == 2


def test_many_forged_addresses_meet_cookies_too() -> None:
    pair = make_pair()
    for number in range(300):
        send(pair, ip_address("10.0.0.1") + number, init(number))
    assert pair.sun.endpoint.size == Limits().cookie_threshold
    pair.establish()


def test_a_host_that_returns_cookies_has_its_own_limit() -> None:
    """Cookies prove the address, so that the limit of one address is met by its own host only."""
    pair = make_pair(limits=Limits(half_open_per_address=4))
    source = ip_address("192.0.2.77")
    for number in range(20):
        responses = send(pair, source, init(number))
        found = parse_message(responses[0]).payloads.notify(NotifyType.COOKIE) if responses else None
        if found is not None:
            send(pair, source, init(number, found.data))
    assert pair.sun.endpoint.size == 4
    pair.establish()


def test_a_cookie_of_another_request_or_address_is_none() -> None:
    pair = make_pair()
    source = ip_address("192.0.2.77")
    send(pair, source, init(0))
    (response,) = send(pair, source, init(1))
    found = parse_message(response).payloads.notify(NotifyType.COOKIE)
    assert found is not None
    send(pair, source, init(2, found.data))
    send(pair, source, init(1, found.data[:-1] + bytes([found.data[-1] ^ 1])))
    send(pair, source, init(1, found.data), port=501)
    assert pair.sun.endpoint.size == 1
