import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren_contracts.identities import IdentityType, IkeIdentity, canonical, explicit, parse_identity

FQDN, EMAIL, IPV4, IPV6, KEYID, DN, ANY, OTHER = IdentityType


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hub-1", (FQDN, "hub-1")),
        ("fqdn:hub-1", (FQDN, "hub-1")),
        ("DNS:hub-1", (FQDN, "hub-1")),
        ("@hub-1", (FQDN, "hub-1")),
        ("ann@example.org", (EMAIL, "ann@example.org")),
        ("@@ann@example.org", (EMAIL, "ann@example.org")),
        ("userfqdn:ann", (EMAIL, "ann")),
        ("RFC822:ann", (EMAIL, "ann")),
        ("192.0.2.1", (IPV4, "192.0.2.1")),
        ("2001:DB8:0:0::1", (IPV6, "2001:db8::1")),
        ("::ffff:192.0.2.1", (IPV6, "::ffff:c000:201")),
        ("192.0.2.1.", (FQDN, "192.0.2.1.")),
        ("192.0.2.0/24", (OTHER, "192.0.2.0/24")),
        ("192.0.2.1-192.0.2.9", (OTHER, "192.0.2.1-192.0.2.9")),
        ("2001:db8::/48", (OTHER, "2001:db8::/48")),
        ("uri:hub-1", (OTHER, "uri:hub-1")),
        ("keyid:hub-1", (KEYID, "hub-1")),
        ("urn:hub-1", (KEYID, "urn:hub-1")),
        ("C=DE, CN=hub", (DN, "C=DE, CN=hub")),
        ("/C=DE/CN=hub", (DN, "/C=DE/CN=hub")),
        ("*", (ANY, "")),
        ("::", (ANY, "")),
        ("0.0.0.0", (ANY, "")),  # noqa: S104 - a text
        ("0:0:0:0:0:0:0:0", (ANY, "")),
    ],
)
def test_an_identity_is_parsed_as_charon_parses_it(text: str, expected: tuple[IdentityType, str]) -> None:
    assert parse_identity(text) == IkeIdentity(*expected)


@pytest.mark.parametrize(
    "spellings",
    [
        ("good", "GOOD", "@good", "@GooD", "fqdn:good", "FQDN:Good", "dns:good", "good.", "fqdn:GOOD.", " good", "good "),
        ("gw.example.org", "GW.example.ORG.", "@gw.example.org"),
        ("ann@example.org", "ANN@example.org", "@@ann@example.org", "email:Ann@Example.org", "rfc822:ann@example.org."),
        ("192.0.2.1", "ipv4:192.0.2.1", "::ffff:192.0.2.1", "::FFFF:c000:201", "fqdn:192.0.2.1", "@192.0.2.1"),
        ("2001:db8::1", "2001:DB8:0::1", "2001:0db8:0000:0000:0000:0000:0000:0001", "ipv6:2001:db8::0:1"),
        ("C=DE, CN=hub", "c=de,cn=HUB", "/C=DE/CN=hub", "asn1dn:C=DE, CN=hub", "C = DE , CN = hub"),
        ("*", "::", "0.0.0.0", "0::0", "fqdn:", "@", "@@", "email:", "keyid:", "fqdn:.", "ipv6:::", "fqdn:0.0.0.0"),  # noqa: S104 - texts
        ("keyid:hub", "KEYID:HUB"),
    ],
)  # fmt: skip
def test_all_spellings_of_an_identity_have_one_canonical_form(spellings: tuple[str, ...]) -> None:
    assert {canonical(text) for text in spellings} == {canonical(spellings[0])}


def test_different_identities_have_different_canonical_forms() -> None:
    texts = [
        "good",
        "good-1",
        "good.example",
        "email:good",
        "keyid:good",
        "uri:good",
        "192.0.2.1",
        "C=DE, CN=good",
        "*",
    ]
    assert len({canonical(text) for text in texts}) == len(texts)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hub-1", "fqdn:hub-1"),
        ("@hub-1", "fqdn:hub-1"),
        ("ann@example.org", "email:ann@example.org"),
        ("192.0.2.1", "ipv4:#c0000201"),
        ("ipv4:192.0.2.1", "ipv4:#c0000201"),
        ("2001:db8::1", "ipv6:#20010db8000000000000000000000001"),
        ("keyid:a:b", "keyid:a:b"),
        ("mac:00", "keyid:mac:00"),
        ("C=DE, CN=hub", "C=DE, CN=hub"),
        ("asn1dn:C=DE, CN=hub", "C=DE, CN=hub"),
        ("uri:x", "uri:x"),
        ("*", "*"),
    ],
)
def test_the_explicit_form_has_a_type_prefix(text: str, expected: str) -> None:
    assert explicit(text) == expected


@given(st.from_regex(r"\A[A-Za-z0-9@:._=, /*+-]{1,24}\Z"))
def test_the_explicit_form_is_the_same_identity(text: str) -> None:
    result = explicit(text)
    if "#" not in result:
        assert canonical(result) == canonical(text)
        assert parse_identity(result).value == parse_identity(text).value
