"""An operator's verb and the API server's certificate: what is trusted, and what is said where it is not."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from typer.testing import CliRunner, Result

from warren_cli.main import app
from warren_cli.remote.client import ApiClient
from warren_cli.remote.health import ask_health
from warren_cli.remote.server_trust import CertificateError, ServerTrust
from warren_contracts.commands import Role
from warren_service.server_certificate import ServerCertificate
from warren_testkit.api import TOKENS
from warren_testkit.api.live import LiveApi
from warren_trust.certificates import Authority, issue, make_authority

NOW = datetime.now(UTC)
AUTHORITY = make_authority(NOW)
ANOTHER = make_authority(NOW)


@contextmanager
def serving(folder: Path, authority: Authority, *names: str, life: timedelta = timedelta(days=9)) -> Iterator[LiveApi]:
    """An API server with a certificate for these names."""
    issued = issue(authority, "api", names, NOW - timedelta(days=2), life)
    certificate, key = folder / "api.crt", folder / "api.key"
    certificate.write_bytes(issued.chain_pem)
    key.write_bytes(issued.key_pem)
    with capture_logs(), LiveApi(certificate=ServerCertificate(certificate, key)) as live:
        yield live


@pytest.fixture
def token(tmp_path: Path) -> Path:
    """As `warren up` leaves it, next to the CA."""
    (tmp_path / "data" / "tls").mkdir(parents=True)
    path = tmp_path / "data" / "admin.token"
    path.write_text(TOKENS[Role.ADMIN] + "\n")
    path.chmod(0o600)
    (path.parent / "tls" / "trusted.pem").write_bytes(AUTHORITY.pem)
    return path


def run(token: Path, url: str, *arguments: str, **env: str) -> Result:
    names = {"WARREN_URL": url, "WARREN_TOKEN_FILE": str(token), "WARREN_CA_FILE": "", "WARREN_CLEARTEXT": ""}
    return CliRunner().invoke(app, list(arguments), env=names | env)


def refused(result: Result) -> str:
    assert result.exit_code == 1, (result.output, result.exception)
    assert len(result.stderr.splitlines()) == 1
    return result.stderr


def test_the_ca_next_to_the_token_is_pinned(tmp_path: Path, token: Path) -> None:
    with serving(tmp_path, AUTHORITY, "127.0.0.1") as api:
        result = run(token, api.url, "peers", "--json")
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout) == []


@pytest.mark.parametrize("place", ["behind", "before", "environment", "group"])
def test_a_named_ca_is_pinned_in_any_position(tmp_path: Path, token: Path, place: str) -> None:
    named = tmp_path / "ca.pem"
    named.write_bytes(ANOTHER.pem)
    with serving(tmp_path, ANOTHER, "127.0.0.1") as api:
        option = ("--ca-file", str(named))
        result = {
            "behind": lambda: run(token, api.url, "peers", "list", *option),
            "before": lambda: run(token, api.url, "peers", *option, "list"),
            "group": lambda: run(token, api.url, "peers", *option),
            "environment": lambda: run(token, api.url, "health", WARREN_CA_FILE=str(named)),
        }[place]()
        assert result.exit_code == 0, result.output
        assert "is not signed by the CA in" in refused(run(token, api.url, "peers"))


def test_an_unknown_ca_is_named_with_the_remedy(tmp_path: Path, token: Path) -> None:
    with serving(tmp_path, ANOTHER, "127.0.0.1") as api:
        said = refused(run(token, api.url, "peers"))
        assert f"not signed by the CA in {token.parent}/tls/trusted.pem" in said
        assert "--ca-file (WARREN_CA_FILE)" in said
        (token.parent / "tls" / "trusted.pem").unlink()
        assert "no CA of this system has signed the certificate: name its CA with --ca-file" in refused(
            run(token, api.url, "status")
        )


def test_another_name_and_an_expired_certificate_are_named(tmp_path: Path, token: Path) -> None:
    with serving(tmp_path, AUTHORITY, "192.0.2.1", "fleet.example") as api:
        assert "the certificate is not for 127.0.0.1: use a name or address that it has" in refused(
            run(token, api.url, "peers")
        )
        localhost = api.url.replace("127.0.0.1", "localhost")
        assert "the certificate is not for localhost" in refused(run(token, localhost, "health"))
    with serving(tmp_path, AUTHORITY, "127.0.0.1", life=timedelta(days=1)) as api:
        assert "the certificate has expired: renew it" in refused(run(token, api.url, "tunnels"))


def test_the_wrong_scheme_is_named(tmp_path: Path, token: Path) -> None:
    with serving(tmp_path, AUTHORITY, "127.0.0.1") as api:
        assert "write https://" in refused(run(token, api.url.replace("https", "http"), "peers"))
    with capture_logs(), LiveApi() as clear:
        assert "the server does not speak TLS" in refused(run(token, clear.url.replace("http", "https"), "peers"))


def test_a_server_that_closes_in_the_handshake_is_named(token: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def close_one() -> None:
            accepted, _ = listening.accept()
            accepted.recv(1_000)
            accepted.close()

        thread = threading.Thread(target=close_one)
        thread.start()
        said = refused(run(token, f"https://127.0.0.1:{listening.getsockname()[1]}", "peers"))
        thread.join(20)
    assert "in the TLS handshake" in said


@pytest.mark.parametrize("host", ["192.0.2.1", "fleet.example", "[2001:db8::1]"])
def test_a_token_is_not_sent_in_clear_text_to_another_machine(token: Path, host: str) -> None:
    said = refused(run(token, f"http://{host}:8400", "peers"))
    assert "would send the token in clear text: write https://, or add --cleartext (WARREN_CLEARTEXT)" in said


def test_clear_text_is_an_explicit_option(token: Path) -> None:
    trust = ServerTrust(cleartext=True)
    with ApiClient("http://192.0.2.1:8400", "a-token", trust):
        pass
    with ApiClient("http://192.0.2.1:8400", ""):  # no token to lose
        pass


@pytest.mark.parametrize(
    "text", [b"", b"no PEM", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", b"\xff"]
)
def test_an_unusable_ca_file_is_named(token: Path, tmp_path: Path, text: bytes) -> None:
    named = tmp_path / "ca.pem"
    named.write_bytes(text)
    assert str(named) in refused(run(token, "https://127.0.0.1:1", "peers", "--ca-file", str(named)))
    named.unlink()
    assert str(named) in refused(run(token, "https://127.0.0.1:1", "peers", "--ca-file", str(named)))


def test_a_replaced_ca_is_followed_by_a_client_that_runs(tmp_path: Path) -> None:
    named = tmp_path / "ca.pem"
    named.write_bytes(AUTHORITY.pem)
    with serving(tmp_path, ANOTHER, "127.0.0.1") as api, ApiClient(api.url, "", ServerTrust(named)) as client:
        with pytest.raises(CertificateError):
            ask_health(client)
        named.write_bytes(AUTHORITY.pem + ANOTHER.pem)
        assert ask_health(client).live
