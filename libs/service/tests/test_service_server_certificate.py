"""The certificate of a listener: what makes it unusable, and what happens when its files change."""

import ssl
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import structlog
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from warren_bus.errors import InvalidSettingError
from warren_service.server_certificate import (
    ServerCertificate,
    UnusableCertificateError,
    configured_certificate,
    is_loopback,
)
from warren_trust.certificates import issue, make_authority

NOW = datetime.now(UTC)
CA = make_authority(NOW)
ISSUED = [issue(CA, f"server {number}", ["127.0.0.1"], NOW) for number in range(2)]
EXPIRED = issue(CA, "old", ["127.0.0.1"], NOW - timedelta(days=30), timedelta(days=1))


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    paths = tmp_path / "tls.crt", tmp_path / "tls.key"
    write(paths, ISSUED[0].chain_pem, ISSUED[0].key_pem)
    return paths


def write(paths: tuple[Path, Path], chain: bytes, key: bytes) -> None:
    for path, text in zip(paths, (chain, key), strict=True):
        new = path.with_suffix(".new")
        new.write_bytes(text)
        new.rename(path)


def encrypted(key: bytes) -> bytes:
    loaded = load_pem_private_key(key, None)
    return loaded.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))


def served(certificate: ServerCertificate) -> str:
    """The common name that a client sees, whose handshake has no server name."""
    client_in, client_out, server_in, server_out = (ssl.MemoryBIO() for _ in range(4))
    trusting = ssl.create_default_context(cadata=CA.pem.decode())
    client = trusting.wrap_bio(client_in, client_out, server_hostname="127.0.0.1")
    server = certificate.context.wrap_bio(server_in, server_out, server_side=True)
    for _ in range(6):
        for end in (client, server):
            with suppress(ssl.SSLWantReadError):
                end.do_handshake()
        server_in.write(client_out.read())
        client_in.write(server_out.read())
    found = client.getpeercert()
    assert found is not None
    return dict(entry[0] for entry in found["subject"])["commonName"]  # type: ignore[misc]


UNUSABLE = {
    "no files": ((None, None), "there is no certificate file"),
    "no key": ((ISSUED[0].chain_pem, None), "there is no key file"),
    "another key": ((ISSUED[0].chain_pem, ISSUED[1].key_pem), "the key does not belong to"),
    "no PEM": ((b"\x30\x82", ISSUED[0].key_pem), "no certificate and private key in PEM form"),
    "a key of garbage": ((ISSUED[0].chain_pem, b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), "in PEM form"),
    "an encrypted key": ((ISSUED[0].chain_pem, encrypted(ISSUED[0].key_pem)), "the key is encrypted: decrypt it"),
    "too large": ((b"#" * 300_000, ISSUED[0].key_pem), "more than 262,144 bytes"),
}  # fmt: skip


@pytest.mark.parametrize("case", UNUSABLE)
def test_unusable_files_are_refused_at_the_start_with_the_remedy(case: str, files: tuple[Path, Path]) -> None:
    texts, said = UNUSABLE[case]
    for path, text in zip(files, texts, strict=True):
        path.unlink()
        if text is not None:
            path.write_bytes(text)
    with pytest.raises(UnusableCertificateError, match=said) as caught:
        ServerCertificate(*files)
    assert str(files[0]) in str(caught.value) or str(files[1]) in str(caught.value)
    with pytest.raises(InvalidSettingError, match="WARREN_HTTP_CERT_FILE, WARREN_HTTP_KEY_FILE is invalid"):
        configured_certificate("WARREN_HTTP", *files)


def test_one_file_without_the_other_is_a_missing_setting(files: tuple[Path, Path]) -> None:
    assert configured_certificate("WARREN_HTTP", None, None) is None
    with pytest.raises(InvalidSettingError, match="WARREN_HTTP_KEY_FILE is not set"):
        configured_certificate("WARREN_HTTP", files[0], None)
    with pytest.raises(InvalidSettingError, match="WARREN_HTTP_CERT_FILE is not set"):
        configured_certificate("WARREN_HTTP", None, files[1])


def test_changed_files_are_served_to_new_handshakes_once_they_are_at_rest(files: tuple[Path, Path]) -> None:
    certificate = ServerCertificate(*files)
    assert served(certificate) == "server 0"
    assert not certificate.refresh()
    write(files, ISSUED[1].chain_pem, ISSUED[1].key_pem)
    assert not certificate.refresh()  # they may still change
    assert certificate.refresh()
    assert served(certificate) == "server 1"
    assert not certificate.refresh()


@pytest.mark.parametrize(
    "change",
    [(ISSUED[1].chain_pem, ISSUED[0].key_pem), (b"", b""), (EXPIRED.chain_pem, EXPIRED.key_pem)],
    ids=["another key", "empty", "expired"],
)
def test_an_unusable_change_keeps_the_former_one_and_is_reported_once(
    files: tuple[Path, Path], change: tuple[bytes, bytes]
) -> None:
    certificate = ServerCertificate(*files)
    write(files, *change)
    with structlog.testing.capture_logs() as logged:
        assert not any(certificate.refresh() for _ in range(5))
    assert [line["event"] for line in logged] == ["tls.certificate_unusable"]
    assert "the former one is served" in logged[0]["action"]
    assert served(certificate) == "server 0"
    write(files, ISSUED[1].chain_pem, ISSUED[1].key_pem)
    assert [certificate.refresh() for _ in range(2)] == [False, True]
    assert served(certificate) == "server 1"


def test_an_expired_certificate_is_served_with_a_warning_at_the_start(files: tuple[Path, Path]) -> None:
    write(files, EXPIRED.chain_pem, EXPIRED.key_pem)
    with structlog.testing.capture_logs() as logged:
        ServerCertificate(*files)
    assert [line["event"] for line in logged] == ["tls.certificate_expired"]


def test_versions_before_tls_1_2_are_not_offered(files: tuple[Path, Path]) -> None:
    assert ServerCertificate(*files).context.minimum_version is ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True), ("::1", True), ("localhost", True), ("127.8.8.8", True),
        ("0.0.0.0", False), ("::", False), ("fleet", False),  # noqa: S104 - not loopback addresses
    ],
)  # fmt: skip
def test_loopback_is_an_address_of_this_machine_only(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected
