"""Authentication between two engines: raw keys, certificates, and refused handshakes."""

from typing import Any

import pytest

from warren_ikev2.constants import IdType
from warren_ikev2.credentials import CertificateAuth, CertificateTrust, PrivateKey, RawKeyAuth, RawKeyTrust
from warren_ikev2.events import AuthenticationFailed, IkeSaEstablished
from warren_ikev2.identity import Identity
from warren_testkit.ikev2.keys import Authority, make_key
from warren_testkit.ikev2.pair import Pair, make_pair

KINDS = ["ed25519", "ecdsa-p256", "ecdsa-p384", "rsa-3072"]
KEYS: dict[tuple[str, str], PrivateKey] = {}


def key_of(host: str, kind: str) -> PrivateKey:
    """One key a host and kind; RSA keys take long to make."""
    if (host, kind) not in KEYS:
        KEYS[host, kind] = make_key(kind)
    return KEYS[host, kind]


@pytest.fixture(scope="module")
def root() -> Authority:
    return Authority.make("Root")


def certified(root: Authority, kind: str = "ecdsa-p256", **trust: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Both ends with certificates from one root."""
    sides = []
    for name in ("moon", "sun"):
        key = key_of(name, kind)
        sides.append(
            {
                "local_auth": CertificateAuth((root.issue(name, key),), key),
                "remote_auth": CertificateTrust((root.certificate,), **trust),
            }
        )
    return sides[0], sides[1]


def refused(pair: Pair, reason: str) -> None:
    """Both sides report a failure, one of them for this reason, and nothing is left."""
    pair.start()
    pair.wire.run(60)
    reasons = [event.reason for host in (pair.moon, pair.sun) for event in host.all(AuthenticationFailed)]
    assert any(reason in text for text in reasons), reasons
    assert not pair.moon.children
    assert not pair.sun.children
    assert pair.moon.endpoint.size == pair.sun.endpoint.size == 0


@pytest.mark.parametrize("kind", KINDS)
def test_raw_keys(kind: str) -> None:
    own, peer = key_of("moon", kind), key_of("sun", kind)
    pair = make_pair(
        moon={"local_auth": RawKeyAuth(own), "remote_auth": RawKeyTrust((peer.public_key(),))},
        sun={"local_auth": RawKeyAuth(peer), "remote_auth": RawKeyTrust((own.public_key(),))},
    ).establish()
    assert pair.moon.last(IkeSaEstablished).remote_auth == "pubkey"


def test_a_foreign_raw_key_is_refused() -> None:
    own, peer, foreign = make_key("ed25519"), make_key("ed25519"), make_key("ed25519")
    pair = make_pair(
        moon={"local_auth": RawKeyAuth(foreign), "remote_auth": RawKeyTrust((peer.public_key(),))},
        sun={"local_auth": RawKeyAuth(peer), "remote_auth": RawKeyTrust((own.public_key(),))},
    )
    refused(pair, "raw public key is not among the trusted ones")


@pytest.mark.parametrize("kind", KINDS)
def test_certificates(root: Authority, kind: str) -> None:
    moon, sun = certified(root, kind)
    pair = make_pair(moon, sun).establish()
    established = pair.sun.last(IkeSaEstablished)
    assert established.remote_auth == "pubkey"
    assert established.peer_certificate is not None


@pytest.mark.parametrize("name", ["moon.example", "carol@example.org", "192.0.2.1", "2001:db8::1"])
def test_identities_in_subject_alternative_names(root: Authority, name: str) -> None:
    moon, sun = certified(root)
    key = key_of("moon", "ecdsa-p256")
    moon |= {"local_identity": Identity.parse(name), "local_auth": CertificateAuth((root.issue(name, key),), key)}
    sun |= {"remote_identity": None}
    pair = make_pair(moon, sun).establish()
    assert str(pair.sun.last(IkeSaEstablished).remote_identity) == name


def test_a_distinguished_name_as_identity(root: Authority) -> None:
    moon, sun = certified(root)
    moon |= {"local_identity": Identity.parse("O=Warren, CN=moon")}
    sun |= {"remote_identity": Identity.parse("O=warren, CN=Moon")}
    assert make_pair(moon, sun).establish().sun.last(IkeSaEstablished).remote_identity.type == IdType.DER_ASN1_DN


def test_a_chain_through_an_intermediate(root: Authority) -> None:
    moon, sun = certified(root)
    key, below = key_of("moon", "ecdsa-p256"), root.subordinate("Branch")
    moon |= {"local_auth": CertificateAuth((below.issue("moon", key), below.certificate), key)}
    make_pair(moon, sun).establish()


def test_a_chain_without_its_intermediate_is_refused(root: Authority) -> None:
    moon, sun = certified(root)
    key, below = key_of("moon", "ecdsa-p256"), root.subordinate("Branch")
    moon |= {"local_auth": CertificateAuth((below.issue("moon", key),), key)}
    refused(make_pair(moon, sun), "no trusted authority issued")


def test_an_end_entity_cannot_issue(root: Authority) -> None:
    moon, sun = certified(root)
    middle = make_key("ecdsa-p256")
    rogue = Authority(root.issue("Rogue", middle), middle)
    key = key_of("moon", "ecdsa-p256")
    moon |= {"local_auth": CertificateAuth((rogue.issue("moon", key), rogue.certificate), key)}
    refused(make_pair(moon, sun), "not a certificate authority")


def test_another_authority_of_the_same_name_is_refused(root: Authority) -> None:
    moon, sun = certified(root)
    key = key_of("moon", "ecdsa-p256")
    moon |= {"local_auth": CertificateAuth((Authority.make("Root").issue("moon", key),), key)}
    refused(make_pair(moon, sun), "no trusted authority issued")


def test_an_expired_certificate_is_refused(root: Authority) -> None:
    moon, sun = certified(root)
    key = key_of("moon", "ecdsa-p256")
    moon |= {"local_auth": CertificateAuth((root.issue("moon", key, expired=True),), key)}
    refused(make_pair(moon, sun), "expired")


def test_a_certificate_of_another_name_is_refused(root: Authority) -> None:
    moon, sun = certified(root)
    key = key_of("moon", "ecdsa-p256")
    moon |= {"local_auth": CertificateAuth((root.issue("mars", key),), key)}
    refused(make_pair(moon, sun), "does not hold the identity moon")


def test_a_revoked_certificate_is_refused(root: Authority) -> None:
    moon, sun = certified(root)
    auth = moon["local_auth"]
    crl = root.revocation_list(auth.chain)
    sun |= {"remote_auth": CertificateTrust((root.certificate,), revocation_lists=(crl,))}
    refused(make_pair(moon, sun), "revoked")


def test_a_required_revocation_list_must_be_present(root: Authority) -> None:
    moon, sun = certified(root)
    sun |= {"remote_auth": CertificateTrust((root.certificate,), require_revocation_list=True)}
    refused(make_pair(moon, sun), "no current revocation list")
    crl = root.revocation_list(())
    trust = CertificateTrust((root.certificate,), revocation_lists=(crl,), require_revocation_list=True)
    make_pair(moon, sun | {"remote_auth": trust}).establish()


def test_a_secret_where_a_certificate_is_expected(root: Authority) -> None:
    _, sun = certified(root)
    refused(make_pair({}, sun), "sent no certificate")


def test_a_certificate_where_a_secret_is_expected(root: Authority) -> None:
    moon, _ = certified(root)
    refused(make_pair(moon, {}), "a pre-shared key is configured")


def test_a_certificate_without_its_key_is_refused(root: Authority) -> None:
    """The certificate of another peer with the attacker's own key."""
    moon, sun = certified(root)
    auth = moon["local_auth"]
    stolen = CertificateAuth.__new__(CertificateAuth)
    object.__setattr__(stolen, "chain", auth.chain)
    object.__setattr__(stolen, "private_key", make_key("ecdsa-p256"))
    refused(make_pair(moon | {"local_auth": stolen}, sun), "does not verify")
