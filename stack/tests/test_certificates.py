"""The CA and the certificates of listeners, as our own client verifies them."""

import stat
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from warren_stack.errors import LocalError
from warren_stack.tls.check import UnusableCertificateError, handshake_error, usable_chain
from warren_stack.tls.folder import ListenerCertificate, TlsFolder
from warren_stack.tls.keeper import CertificateKeeper, OwnCertificate
from warren_trust.certificates import (
    LEAF_LIFETIME,
    LOOPBACK,
    certificate_pem,
    fingerprint,
    issue,
    make_authority,
    names_of,
    renewal_due,
)

NOW = datetime.now(UTC)
AUTHORITY = make_authority(NOW)
OTHER = make_authority(NOW)
NAMES = ("Bus.Example.net", "192.0.2.10", "2001:db8::1", *LOOPBACK)


@dataclass
class Clock:
    now: datetime = NOW

    def __call__(self) -> datetime:
        return self.now


def test_issued_certificate_is_accepted_for_its_names_only() -> None:
    issued = issue(AUTHORITY, "warren nats", NAMES, NOW)
    assert handshake_error(issued.chain_pem, issued.key_pem, AUTHORITY.pem, NAMES) == ""
    assert "is not for 192.0.2.11" in handshake_error(issued.chain_pem, issued.key_pem, AUTHORITY.pem, ["192.0.2.11"])
    assert "does not verify" in handshake_error(issued.chain_pem, issued.key_pem, OTHER.pem, ["127.0.0.1"])
    assert "PRIVATE" not in repr(issued)
    assert "key" not in repr(AUTHORITY)


def test_chain_ends_with_the_authority_that_hosts_pin() -> None:
    chain = x509.load_pem_x509_certificates(issue(AUTHORITY, "warren nats", NAMES, NOW).chain_pem)
    assert [fingerprint(certificate) for certificate in chain[1:]] == [fingerprint(AUTHORITY.certificate)]
    assert names_of(chain[0]) == {"bus.example.net", "192.0.2.10", "2001:db8::1", *LOOPBACK}


def test_renewal_is_due_after_two_thirds() -> None:
    leaf = x509.load_pem_x509_certificate(issue(AUTHORITY, "warren nats", NAMES, NOW).chain_pem)
    assert not renewal_due(leaf, NOW + LEAF_LIFETIME * 0.6)
    assert renewal_due(leaf, NOW + LEAF_LIFETIME * 0.67)


def test_certificate_ends_before_its_authority() -> None:
    short = make_authority(NOW, timedelta(days=2))
    leaf = x509.load_pem_x509_certificate(issue(short, "warren nats", NAMES, NOW).chain_pem)
    assert leaf.not_valid_after_utc <= short.certificate.not_valid_after_utc


def test_certificate_without_names_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        issue(AUTHORITY, "warren nats", (), NOW)


def test_folder_makes_a_private_authority_once(tmp_path: Path) -> None:
    folder = TlsFolder(tmp_path / "tls")
    made = folder.authority(NOW)
    assert fingerprint(folder.authority(NOW).certificate) == fingerprint(made.certificate)
    assert folder.trusted.read_bytes() == made.pem
    assert stat.S_IMODE(folder.ca_key.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    folder.ca_certificate.unlink()
    with pytest.raises(LocalError, match="restore both from a backup"):
        folder.authority(NOW)


def test_folder_issues_again_for_other_names_an_old_certificate_and_a_damaged_key(tmp_path: Path) -> None:
    folder = TlsFolder(tmp_path / "tls")
    authority, listener = folder.authority(NOW), ListenerCertificate("nats", ("192.0.2.10",))
    assert folder.issue_due(listener, authority, NOW)
    assert not folder.issue_due(listener, authority, NOW)
    assert folder.issue_due(ListenerCertificate("nats", ("192.0.2.10", "bus.example.net")), authority, NOW)
    assert folder.issue_due(listener, authority, NOW)
    assert folder.issue_due(listener, authority, NOW + LEAF_LIFETIME)
    folder.key("nats").write_bytes(b"")
    assert folder.issue_due(listener, authority, NOW + LEAF_LIFETIME)
    assert stat.S_IMODE(folder.key("nats").stat().st_mode) == 0o600
    assert folder.issue_due(listener, make_authority(NOW), NOW + LEAF_LIFETIME)


def test_keeper_renews_when_due(tmp_path: Path) -> None:
    clock, said = Clock(), list[str]()
    keeper = CertificateKeeper(TlsFolder(tmp_path / "tls"), [ListenerCertificate("nats", NAMES)], clock, said.append)
    keeper.prepare()
    assert keeper.check() == frozenset()
    clock.now += timedelta(days=61)
    assert keeper.check() == {"nats"}
    assert said == []


@pytest.fixture
def own(tmp_path: Path) -> OwnCertificate:
    files = OwnCertificate(tmp_path / "own.crt", tmp_path / "own.key", tmp_path / "ca.pem", ("bus.example.net",))
    write_own(files, issue(AUTHORITY, "own", files.names, NOW).chain_pem)
    return files


def write_own(files: OwnCertificate, chain: bytes, key: bytes | None = None) -> None:
    issued = issue(AUTHORITY, "own", files.names, NOW)
    files.certificate.write_bytes(issued.chain_pem if key is None else chain)
    files.key.write_bytes(issued.key_pem if key is None else key)
    files.authority.write_bytes(AUTHORITY.pem)


def test_own_certificate_is_served_and_an_unusable_one_keeps_it(tmp_path: Path, own: OwnCertificate) -> None:
    folder, said = TlsFolder(tmp_path / "tls"), list[str]()
    keeper = CertificateKeeper(folder, [ListenerCertificate("nats", NAMES)], Clock(), said.append, own)
    keeper.prepare()
    first = folder.served("nats")
    assert folder.trusted.read_bytes() == AUTHORITY.pem
    own.key.write_bytes(issue(AUTHORITY, "own", own.names, NOW).key_pem)
    assert keeper.check() == keeper.check() == frozenset()
    assert folder.served("nats") == first
    assert len(said) == 1
    assert "the key does not belong to the certificate" in said[0]
    write_own(own, b"")
    assert keeper.check() == {"nats"}
    assert folder.served("nats") != first


def test_own_certificate_that_is_missing_refuses_the_first_start(tmp_path: Path, own: OwnCertificate) -> None:
    own.certificate.unlink()
    keeper = CertificateKeeper(
        TlsFolder(tmp_path / "tls"), [ListenerCertificate("nats", NAMES)], Clock(), lambda words: None, own
    )
    with pytest.raises(LocalError, match=r"own\.crt: No such file"):
        keeper.prepare()


def test_unusable_certificates_say_what_to_do() -> None:
    mine = issue(AUTHORITY, "own", ["bus.example.net"], NOW)
    old = issue(AUTHORITY, "own", ["bus.example.net"], NOW - timedelta(days=200), timedelta(days=100))
    for chain, key, authority, names, words in (
        (b"text", mine.key_pem, AUTHORITY.pem, ["bus.example.net"], "the certificate file contains no certificate"),
        (mine.chain_pem, b"text", AUTHORITY.pem, ["bus.example.net"], "contains no private key"),
        (mine.chain_pem, old.key_pem, AUTHORITY.pem, ["bus.example.net"], "does not belong"),
        (old.chain_pem, old.key_pem, AUTHORITY.pem, ["bus.example.net"], "expired at"),
        (mine.chain_pem, mine.key_pem, OTHER.pem, ["bus.example.net"], "the CA file does not verify"),
        (mine.chain_pem, mine.key_pem, AUTHORITY.pem, ["bus.example.org"], "is not for bus.example.org"),
    ):
        with pytest.raises(UnusableCertificateError, match=words):
            usable_chain(chain, key, authority, names, NOW)


def test_served_chain_gets_the_root_that_verifies_it() -> None:
    mine = issue(AUTHORITY, "own", ["bus.example.net"], NOW)
    leaf = certificate_pem(x509.load_pem_x509_certificate(mine.chain_pem))
    served, root = usable_chain(leaf, mine.key_pem, OTHER.pem + AUTHORITY.pem, ["bus.example.net"], NOW)
    assert served == leaf + AUTHORITY.pem
    assert fingerprint(root) == fingerprint(AUTHORITY.certificate)
