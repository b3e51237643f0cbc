"""REDIRECT (RFC 5685)."""

from ipaddress import ip_address

import pytest

from warren_ikev2.addresses import Path
from warren_ikev2.errors import CommandError
from warren_ikev2.events import (
    DeleteReason,
    IkeSaDeleted,
    IkeSaEstablished,
    PeerRedirected,
)
from warren_ikev2.identity import Identity
from warren_testkit.ikev2.pair import make_pair


def test_a_client_is_redirected_before_it_authenticates() -> None:
    pair = make_pair(moon={"follow_redirects": 1}, sun={"redirect_to": Identity.parse("203.0.113.5")})
    pair.start()
    pair.wire.run(5)
    assert pair.moon.last(PeerRedirected).gateway == "203.0.113.5"
    assert pair.moon.endpoint.size == pair.sun.endpoint.size == 0


def test_a_client_that_does_not_follow_is_served() -> None:
    make_pair(sun={"redirect_to": Identity.parse("203.0.113.5")}).establish()


def test_an_established_client_is_redirected() -> None:
    pair = make_pair(moon={"follow_redirects": 1}).establish()
    pair.sun.endpoint.commands.rekey_ike(pair.sun_session, pair.wire.now)
    pair.wire.run(1)
    pair.sun.endpoint.commands.redirect(pair.sun_session, "gw2.example", pair.wire.now)
    pair.wire.run(15)
    assert pair.moon.last(PeerRedirected).gateway == "gw2.example"
    assert pair.moon.last(IkeSaDeleted).reason == DeleteReason.REDIRECTED
    pair = make_pair().establish()
    with pytest.raises(CommandError):
        pair.sun.endpoint.commands.redirect(pair.sun_session, "gw2.example", pair.wire.now)


def test_a_redirected_client_names_the_first_gateway() -> None:
    pair = make_pair(moon={"follow_redirects": 1}, sun={"redirect_to": Identity.parse("203.0.113.5")})
    path = Path(pair.moon.address, pair.sun.address)
    pair.moon.endpoint.commands.initiate("gw", path, pair.wire.now, redirected_from=ip_address("192.0.2.9"))
    pair.wire.run(1)
    assert pair.moon.last(IkeSaEstablished)
    assert not pair.moon.all(PeerRedirected)
