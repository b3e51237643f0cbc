"""Certificate path validation (RFC 5280, 6; RFC 4945, 5), beyond the handshakes of other tests."""

import datetime
import ipaddress
from collections.abc import Sequence

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from warren_ikev2.auth.certificates import validate
from warren_ikev2.constants import CertEncoding
from warren_ikev2.credentials import CertificateTrust, PrivateKey
from warren_ikev2.errors import AuthenticationError
from warren_ikev2.identity import Identity
from warren_ikev2.wire.payloads import CertPayload
from warren_testkit.ikev2.keys import make_key

NOW = datetime.datetime(2026, 6, 1, tzinfo=datetime.UTC)
DAY = datetime.timedelta(days=1)
KEYS = {name: make_key("ecdsa-p256") for name in ("Root", "Middle", "Low", "moon")}
UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")
Extensions = Sequence[tuple[x509.ExtensionType, bool]]


def usage(*allowed: str) -> x509.KeyUsage:
    names = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
        "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    )  # fmt: skip
    return x509.KeyUsage(**{name: name in allowed for name in names})


def authority(path_length: int | None = None) -> Extensions:
    return [(x509.BasicConstraints(True, path_length), True), (usage("key_cert_sign", "crl_sign"), True)]


PLAIN: Extensions = [(x509.SubjectAlternativeName([x509.DNSName("moon")]), False), (usage("digital_signature"), True)]


def named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def certificate(name: str, issuer: str, extensions: Extensions, *, early: int = 1, late: int = 1) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder(named(issuer), named(name), KEYS[name].public_key(), x509.random_serial_number())
        .not_valid_before(NOW - early * DAY)
        .not_valid_after(NOW + late * DAY)
    )
    for value, critical in extensions:
        builder = builder.add_extension(value, critical)
    return builder.sign(KEYS[issuer], hashes.SHA256())


def revoked(
    *serials: int, issuer: str = "Root", until: int = 1, since: int = 1, key: PrivateKey | None = None,
    extensions: Extensions = (),
) -> x509.CertificateRevocationList:  # fmt: skip
    builder = x509.CertificateRevocationListBuilder(named(issuer), NOW - since * DAY, NOW + until * DAY)
    for value, critical in extensions:
        builder = builder.add_extension(value, critical)
    for serial in serials:
        entry = x509.RevokedCertificateBuilder(serial, NOW - 3 * DAY)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(key or KEYS[issuer], hashes.SHA256())


def check(*chain: x509.Certificate, root: x509.Certificate | None = None, **trust: object) -> None:
    anchors = (root or certificate("Root", "Root", authority()),)
    payloads = [CertPayload(CertEncoding.X509_SIGNATURE, cert.public_bytes(Encoding.DER)) for cert in chain]
    validate(CertificateTrust(anchors, **trust), Identity.parse("moon"), payloads, NOW)  # type: ignore[arg-type]  # fields


def refused(reason: str, *chain: x509.Certificate, **more: object) -> None:
    with pytest.raises(AuthenticationError, match=reason):
        check(*chain, **more)  # type: ignore[arg-type]  # as check takes them


def entity(issuer: str = "Root", more: Extensions = (), base: Extensions = PLAIN) -> x509.Certificate:
    return certificate("moon", issuer, [*base, *more])


def middle(more: Extensions = (), base: Extensions | None = None) -> x509.Certificate:
    return certificate("Middle", "Root", [*(authority() if base is None else base), *more])


def test_a_plain_chain_is_valid() -> None:
    check(entity())
    check(entity("Middle"), middle())


# Critical extensions


@pytest.mark.parametrize("place", ["entity", "middle", "root"])
def test_a_critical_extension_that_we_do_not_process_is_refused(place: str) -> None:
    odd = {name: [(UNKNOWN, True)] if name == place else [] for name in ("entity", "middle", "root")}
    root = certificate("Root", "Root", [*authority(), *odd["root"]])
    refused("critical extension 1.3.6.1.4.1.99999.1", entity("Middle", odd["entity"]), middle(odd["middle"]), root=root)


def test_the_same_extension_without_the_mark_is_ignored() -> None:
    check(entity("Middle", [(UNKNOWN, False)]), middle([(UNKNOWN, False)]))


def dn(*parts: tuple[x509.ObjectIdentifier, str]) -> x509.DirectoryName:
    return x509.DirectoryName(x509.Name([x509.NameAttribute(oid, value) for oid, value in parts]))


def san(*names: x509.GeneralName) -> Extensions:
    return [(x509.SubjectAlternativeName([x509.DNSName("moon"), *names]), False), (usage("digital_signature"), True)]


MOON = dn((NameOID.COMMON_NAME, "MOON"))
NET, ADDRESS = ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_address("10.1.2.3")


@pytest.mark.parametrize("critical", [True, False])
@pytest.mark.parametrize("place", ["middle", "root"])
@pytest.mark.parametrize(
    ("permitted", "excluded", "names", "reason"),
    [
        ([x509.DNSName("moon")], None, [], None),
        ([x509.DNSName("sun"), x509.DNSName("MOON")], None, [], None),
        ([x509.DNSName("sun")], None, [], "does not permit the name moon"),
        (None, [x509.DNSName("moon")], [], "excludes the name moon"),
        (None, [x509.DNSName("example.com")], [x509.DNSName("a.example.com")], "excludes the name a.example.com"),
        (None, [x509.DNSName("example.com")], [x509.DNSName("notexample.com")], None),
        (None, [x509.DNSName(".example.com")], [x509.DNSName("example.com")], None),
        ([MOON], None, [], None),  # attributes compare without case
        ([dn((NameOID.ORGANIZATION_NAME, "Sun"))], None, [], "does not permit the name CN=moon"),
        (None, [MOON], [], "excludes the name CN=moon"),
        ([x509.IPAddress(NET)], None, [x509.IPAddress(ADDRESS)], None),
        (None, [x509.IPAddress(NET)], [x509.IPAddress(ADDRESS)], "excludes the name 10.1.2.3"),
        ([x509.IPAddress(NET)], None, [x509.IPAddress(ipaddress.ip_address("fd00::1"))], "does not permit"),
        ([x509.RFC822Name("a@example.com")], None, [x509.RFC822Name("a@EXAMPLE.com")], None),
        ([x509.RFC822Name("a@example.com")], None, [x509.RFC822Name("A@example.com")], "does not permit"),
        ([x509.RFC822Name("example.com")], None, [x509.RFC822Name("a@mail.example.com")], "does not permit"),
        ([x509.RFC822Name(".example.com")], None, [x509.RFC822Name("a@mail.example.com")], None),
        ([x509.RFC822Name("example.com")], None, [], None),  # there is no name of this kind
        (None, [x509.UniformResourceIdentifier("example.com")], [], None),
        (
            None,
            [x509.UniformResourceIdentifier("example.com")],
            [x509.UniformResourceIdentifier("https://other.org/")],
            "constrains names of the kind UniformResourceIdentifier",
        ),
    ],
)
def test_name_constraints_are_evaluated_critical_or_not(
    place: str, critical: bool, permitted: list[x509.GeneralName] | None, excluded: list[x509.GeneralName] | None,
    names: list[x509.GeneralName], reason: str | None,
) -> None:  # fmt: skip
    constraint = (x509.NameConstraints(permitted, excluded), critical)
    below = entity("Middle" if place == "middle" else "Root", base=san(*names))
    chain = [below, middle([constraint])] if place == "middle" else [below]
    root = None if place == "middle" else certificate("Root", "Root", [*authority(), constraint])
    if reason is None:
        check(*chain, root=root)
    else:
        refused(reason, *chain, root=root)


def test_name_constraints_of_the_root_bind_every_certificate_below() -> None:
    constraint = (x509.NameConstraints(None, [dn((NameOID.COMMON_NAME, "Middle"))]), True)
    root = certificate("Root", "Root", [*authority(), constraint])
    refused("excludes the name CN=Middle", entity("Middle"), middle(), root=root)


def test_a_mail_address_in_the_subject_is_a_name_where_there_are_no_alternative_names() -> None:
    from warren_ikev2.auth.name_constraints import check_name_constraints

    subject = x509.Name([x509.NameAttribute(NameOID.EMAIL_ADDRESS, "a@example.com")])
    builder = x509.CertificateBuilder(named("Root"), subject, KEYS["moon"].public_key(), 7)
    below = builder.not_valid_before(NOW - DAY).not_valid_after(NOW + DAY).sign(KEYS["Root"], hashes.SHA256())
    constraint = (x509.NameConstraints(None, [x509.RFC822Name("example.com")]), True)
    with pytest.raises(AuthenticationError, match=r"excludes the name a@example\.com"):
        check_name_constraints(certificate("Root", "Root", [*authority(), constraint]), [below])


@pytest.mark.parametrize(
    "extension", [x509.PolicyConstraints(0, None), x509.InhibitAnyPolicy(0)], ids=["constraints", "inhibit"]
)
def test_constraints_on_policies_are_refused(extension: x509.ExtensionType) -> None:
    refused("critical extension", entity("Middle"), middle([(extension, True)]))


@pytest.mark.parametrize(
    ("purposes", "critical", "holds"),
    [
        ([ExtendedKeyUsageOID.SERVER_AUTH], False, True),
        ([ExtendedKeyUsageOID.SERVER_AUTH], True, False),
        ([ExtendedKeyUsageOID.IPSEC_IKE], True, True),
        ([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE], True, True),
        ([ExtendedKeyUsageOID.CODE_SIGNING, ExtendedKeyUsageOID.IPSEC_IKE], True, True),
    ],
)
def test_extended_key_usage_counts_where_it_is_critical(
    purposes: list[x509.ObjectIdentifier], critical: bool, holds: bool
) -> None:
    end = entity(more=[(x509.ExtendedKeyUsage(purposes), critical)])
    if holds:
        check(end)
    else:
        refused("not for IKE", end)


# Authorities


def test_path_lengths_are_enforced() -> None:
    low = certificate("Low", "Middle", authority())
    check(entity("Low"), low, middle(base=authority(1)))
    refused("not a certificate authority for this chain", entity("Low"), low, middle(base=authority(0)))
    root = certificate("Root", "Root", authority(0))
    check(entity(), root=root)
    refused("not a certificate authority for this chain", entity("Middle"), middle(), root=root)


@pytest.mark.parametrize(
    ("base", "reason"),
    [
        ([(usage("key_cert_sign"), True)], "not a certificate authority"),
        ([(x509.BasicConstraints(False, None), True), (usage("key_cert_sign"), True)], "not a certificate authority"),
        ([(x509.BasicConstraints(True, None), True), (usage("digital_signature"), True)], "may not sign certificates"),
    ],
    ids=["no-basic-constraints", "no-ca", "key-usage"],
)
@pytest.mark.parametrize("place", ["middle", "root"])
def test_a_certificate_that_is_not_an_authority_cannot_issue(place: str, base: Extensions, reason: str) -> None:
    if place == "middle":
        refused(reason, entity("Middle"), middle(base=base))
    else:
        refused(reason, entity(), root=certificate("Root", "Root", base))


def test_an_expired_authority_is_refused() -> None:
    refused("expired", entity(), root=certificate("Root", "Root", authority(), early=5, late=-2))
    refused("expired", entity("Middle"), certificate("Middle", "Root", authority(), early=5, late=-2))


@pytest.mark.parametrize("allowed", ["key_encipherment", "key_cert_sign"])
def test_a_key_that_must_not_sign_is_refused(allowed: str) -> None:
    refused("may not sign", entity(base=[PLAIN[0], (usage(allowed), True)]))


def test_non_repudiation_is_enough_to_sign() -> None:
    check(entity(base=[PLAIN[0], (usage("content_commitment"), True)]))


# Revocation


def test_a_revoked_certificate_is_refused_at_every_level() -> None:
    end, between = entity("Middle"), middle()
    refused("revoked", end, between, revocation_lists=(revoked(end.serial_number, issuer="Middle"),))
    refused("revoked", end, between, revocation_lists=(revoked(between.serial_number),))
    check(end, between, revocation_lists=(revoked(end.serial_number),))  # another issuer's serial number


def test_an_old_list_still_revokes() -> None:
    end = entity()
    refused("revoked", end, revocation_lists=(revoked(end.serial_number, since=9, until=-5),))


def test_an_old_list_does_not_show_that_a_certificate_is_valid() -> None:
    """It is accepted if a current list is not required."""
    old = revoked(since=9, until=-5)
    check(entity(), revocation_lists=(old,))
    refused("no current revocation list", entity(), revocation_lists=(old,), require_revocation_list=True)
    check(entity(), revocation_lists=(old, revoked()), require_revocation_list=True)


def test_a_list_that_is_not_valid_yet_is_not_current() -> None:
    refused(
        "no current revocation list", entity(), revocation_lists=(revoked(since=-1, until=5),), require_revocation_list=True
    )  # fmt: skip


def test_a_partial_list_is_not_enough() -> None:
    scope = x509.IssuingDistributionPoint(
        full_name=None, relative_name=None, only_contains_user_certs=True, only_contains_ca_certs=False,
        only_some_reasons=None, indirect_crl=False, only_contains_attribute_certs=False,
    )  # fmt: skip
    for extension in (scope, x509.DeltaCRLIndicator(1)):
        partial = revoked(extensions=[(extension, True)])
        refused("no current revocation list", entity(), revocation_lists=(partial,), require_revocation_list=True)


def test_a_forged_list_is_ignored() -> None:
    end = entity()
    forged = revoked(end.serial_number, key=KEYS["Low"])
    check(end, revocation_lists=(forged,))
    refused("no current revocation list", end, revocation_lists=(forged,), require_revocation_list=True)


def test_a_list_of_an_authority_that_may_not_sign_lists_is_not_enough() -> None:
    base = [(x509.BasicConstraints(True, None), True), (usage("key_cert_sign"), True)]
    root, end = certificate("Root", "Root", base), entity()
    refused("no current revocation list", end, root=root, revocation_lists=(revoked(),), require_revocation_list=True)
    refused("revoked", end, root=root, revocation_lists=(revoked(end.serial_number),))


def test_every_level_needs_a_list_where_lists_are_required() -> None:
    end, between = entity("Middle"), middle()
    lists = (revoked(), revoked(issuer="Middle"))
    check(end, between, revocation_lists=lists, require_revocation_list=True)
    for only in lists:
        refused("no current revocation list", end, between, revocation_lists=(only,), require_revocation_list=True)
