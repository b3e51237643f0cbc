"""Identities, selectors and configuration values."""

from ipaddress import ip_address

import pytest

from warren_ikev2.configuration import ConnectionConfiguration
from warren_ikev2.constants import IdType
from warren_ikev2.credentials import EapTrust, PskAuth
from warren_ikev2.errors import ConfigurationError
from warren_ikev2.identity import Identity
from warren_ikev2.selectors import TrafficSelector, all_within, narrow


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("192.0.2.1", IdType.IPV4_ADDR),
        ("2001:db8::1", IdType.IPV6_ADDR),
        ("moon.example", IdType.FQDN),
        ("carol@example.org", IdType.RFC822_ADDR),
        ("C=CH, O=Warren, CN=moon", IdType.DER_ASN1_DN),
        ("@#0aff", IdType.KEY_ID),
    ],
)
def test_identities_read_as_they_are_written(text: str, kind: IdType) -> None:
    identity = Identity.parse(text)
    assert identity.type == kind
    assert str(identity).replace(", ", ",") == text.replace(", ", ",")


def test_identities_compare_without_case() -> None:
    assert Identity.parse("Moon.example").matches(Identity.parse("moon.EXAMPLE"))
    assert Identity.parse("C=CH, CN=Moon").matches(Identity.parse("C=ch, CN=moon"))
    assert not Identity.parse("C=CH, CN=moon").matches(Identity.parse("CN=moon, C=CH"))
    assert not Identity.parse("moon.example").matches(Identity.parse("keyid:moon.example"))


def test_an_identity_of_control_characters_prints_harmlessly() -> None:
    assert str(Identity(IdType.FQDN, b"a\x1b[2J\xff\n")).isprintable()


def test_narrowing_keeps_the_common_part() -> None:
    offered = (TrafficSelector.parse("0.0.0.0/0"), TrafficSelector.parse("::/0"))
    configured = (TrafficSelector.parse("10.1.0.0/16"),)
    assert narrow(offered, configured) == configured
    assert narrow(configured, (TrafficSelector.parse("10.2.0.0/16"),)) == ()
    specific = TrafficSelector(ip_address("10.1.0.5"), ip_address("10.1.0.5"), 6, 443, 443)
    assert narrow((specific, *offered), configured) == configured
    assert all_within((specific,), configured)


def test_a_selector_matches_ports_and_protocols() -> None:
    selector = TrafficSelector(ip_address("10.0.0.0"), ip_address("10.0.0.255"), 17, 53, 53)
    assert selector.matches(ip_address("10.0.0.7"), 17, 53)
    assert not selector.matches(ip_address("10.0.0.7"), 6, 53)
    assert not selector.matches(ip_address("10.0.0.7"), 17, None)
    assert not selector.matches(ip_address("10.0.1.7"), 17, 53)


def test_secrets_do_not_print() -> None:
    assert "swordfish" not in repr(PskAuth(b"swordfish"))


def test_eap_without_an_authenticated_server_is_refused() -> None:
    with pytest.raises(ConfigurationError):
        ConnectionConfiguration(
            name="c",
            local_identity=Identity.parse("moon"),
            local_auth=PskAuth(b"x"),
            remote_auth=EapTrust(),
        )
