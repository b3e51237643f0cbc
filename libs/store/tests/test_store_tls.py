"""PostgreSQL on another host: by TLS that is verified, or not at all."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError
from structlog.testing import capture_logs

from warren_store import PostgresUnavailableError, Store
from warren_store.settings import PostgresSettings, unverified, wrong_dsn
from warren_testkit.bus import free_port
from warren_testkit.postgres import PostgresServer, postgres_server, tls_installation
from warren_testkit.waiting import eventually
from warren_trust.certificates import issue, make_authority

VERIFIED = "sslmode=verify-full&sslrootcert=/ca.pem"
NOW = datetime.now(UTC)
AUTHORITY = make_authority(NOW)


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://registry@/warren?host=/run/pg", "postgresql:///warren", "postgresql://registry@/warren",
        "postgresql://localhost/warren", "postgresql://127.0.0.1:5433/warren", "postgresql://[::1]:5432/warren",
        "postgresql://db.example/warren?host=/run/pg", f"postgresql://db.example/warren?{VERIFIED}",
        f"postgresql://a:1,b:2/warren?{VERIFIED}", f"postgres://[2001:db8::1]/warren?{VERIFIED}",
    ],
)  # fmt: skip
def test_local_and_verified_servers_are_accepted(dsn: str) -> None:
    assert wrong_dsn(dsn, {}) == ""
    assert unverified(dsn, {}) == ""
    assert PostgresSettings(postgres_dsn=dsn).postgres_dsn == dsn


@pytest.mark.parametrize(
    ("dsn", "environment", "said"),
    [
        ("postgresql://db.example/warren", {}, "db.example is another host"),
        ("postgresql://registry@/warren?host=db.example", {}, "db.example is another host"),
        ("postgresql:///warren", {"PGHOST": "db.example"}, "db.example is another host"),
        ("postgresql://localhost,192.0.2.1:5433/warren", {}, "192.0.2.1 is another host"),
        ("postgresql://[2001:db8::1]/warren", {}, "2001:db8::1 is another host"),
        ("postgresql://u:p@ss@db/warren?sslmode=require", {}, "sslmode=verify-full and sslrootcert=FILE"),
        ("postgresql://db/warren?sslmode=verify-ca&sslrootcert=/ca.pem", {}, "with sslmode=verify-full:"),
        ("postgresql://db/warren?sslmode=verify-full", {}, "with sslrootcert=FILE, the CA of the server:"),
        ("postgresql://db/warren?sslmode=verify-full&sslrootcert=", {}, "sslrootcert=FILE"),
    ],
)
def test_another_host_without_verification_is_refused(dsn: str, environment: Mapping[str, str], said: str) -> None:
    assert said in unverified(dsn, environment)
    assert "add ?sslmode=verify-full&sslrootcert=FILE" in unverified(dsn, environment)


@pytest.mark.parametrize(
    "dsn", ["host=db.example", "mysql://db/warren", "postgresql://[db/warren", "postgresql:///w?service=x"]
)
def test_what_is_no_such_url_is_refused(dsn: str) -> None:
    assert wrong_dsn(dsn, {})


def test_clear_text_is_an_explicit_setting_and_the_password_is_not_shown() -> None:
    dsn = "postgresql://registry:hidden@db.example/warren"
    with pytest.raises(ValidationError) as caught:
        PostgresSettings(postgres_dsn=dsn)
    [found] = caught.value.errors()
    assert found["loc"] == ("postgres_dsn",)
    assert "or set WARREN_POSTGRES_CLEARTEXT=allow" in found["msg"]
    assert "hidden" not in found["msg"]
    assert PostgresSettings(postgres_dsn=dsn, postgres_cleartext="allow").postgres_dsn == dsn


@pytest.fixture(scope="module")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Files of the right CA and of another one."""
    folder = tmp_path_factory.mktemp("ca")
    for name, authority in (("right", AUTHORITY), ("wrong", make_authority(NOW))):
        (folder / name).write_bytes(authority.pem)
    return {name: folder / name for name in ("right", "wrong")}


@pytest.fixture(scope="module")
def openssl() -> Iterator[PostgresServer]:
    """A real server that can speak TLS."""
    if (installation := tls_installation()) is None:
        pytest.skip("npm has not installed build/node: make node")
    with postgres_server(installation) as server:
        yield server


def serve(server: PostgresServer, *names: str, life: timedelta = timedelta(days=9)) -> str:
    """Let it have a certificate for these names (without any: no TLS); its DSN."""
    issued = issue(AUTHORITY, "postgres", names, NOW - timedelta(days=2), life) if names else None
    return server.serve_tcp(free_port(), *((issued.chain_pem, issued.key_pem) if issued else ()))


async def reason(dsn: str, authority: Path) -> str:
    """What a service says that cannot use it; empty where it can."""
    verified = f"{dsn}?sslmode=verify-full&sslrootcert={authority}"
    with capture_logs() as logged:
        async with Store(verified, schema="public", migrations=None) as store:
            try:
                async with store.connection() as connection:
                    encrypted = await connection.fetchval("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
            except PostgresUnavailableError as error:
                reported, encrypted = str(error), False
            else:
                reported = ""
    assert encrypted is not bool(reported)
    assert not reported or [line["event"] for line in logged] == ["store.tls_refused"]
    return reported


async def test_a_real_server_is_verified(openssl: PostgresServer, authorities: Mapping[str, Path]) -> None:
    dsn = serve(openssl, "127.0.0.1")
    assert await reason(dsn, authorities["right"]) == ""
    assert "not signed by the CA in sslrootcert" in await reason(dsn, authorities["wrong"])
    assert "is not for the host" in await reason(dsn.replace("127.0.0.1", "localhost"), authorities["right"])


async def test_a_replaced_ca_is_followed(
    openssl: PostgresServer, authorities: Mapping[str, Path], tmp_path: Path
) -> None:
    replaced = tmp_path / "ca.pem"
    dsn = f"{serve(openssl, '127.0.0.1')}?sslmode=verify-full&sslrootcert={replaced}"
    replaced.write_bytes(authorities["wrong"].read_bytes())
    async with Store(dsn, schema="public", migrations=None) as store:
        assert not await store.ready()
        replaced.write_bytes(authorities["right"].read_bytes())
        await eventually(store.ready)


async def test_an_expired_certificate_and_a_server_without_tls_are_refused(
    openssl: PostgresServer, authorities: Mapping[str, Path]
) -> None:
    expired = serve(openssl, "127.0.0.1", life=timedelta(days=1))
    assert "has expired" in await reason(expired, authorities["right"])
    assert "it offers no TLS" in await reason(serve(openssl), authorities["right"])
