"""PostgreSQL by our own launcher: private, by password, and again after a kill."""

import os
import shutil
import signal
import stat
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from warren_lab.process import eventually
from warren_stack.database import dsn, provision
from warren_stack.folders import DataFolder
from warren_stack.postgres import program_folders
from warren_store import load_migrations
from warren_store.migrations import migrate
from warren_testkit.own_postgres import OwnPostgres, own_postgres

LIMIT_SECONDS = 90.0


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[OwnPostgres]:
    closed = tmp_path / "closed"  # as /root is: the server must reach its data without opening this folder
    closed.mkdir(mode=0o700)
    async with own_postgres(DataFolder(closed / "data"), ("registry", "policy")) as server:
        yield server
        assert stat.S_IMODE(closed.stat().st_mode) == 0o700


async def test_postgres_gives_each_role_its_own_schema(server: OwnPostgres) -> None:
    registry = await server.connect("registry")
    await registry.execute("CREATE TABLE peers (id text)")
    assert await registry.fetchval("SELECT schemaname FROM pg_tables WHERE tablename = 'peers'") == "registry"
    policy = await server.connect("policy")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await policy.fetch("SELECT * FROM registry.peers")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await policy.execute("CREATE TABLE public.mine (id text)")
    await registry.close()
    await policy.close()


async def test_postgres_refuses_without_the_password(server: OwnPostgres) -> None:
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(dsn(server.postgres.host, "registry"), password="wrong", timeout=LIMIT_SECONDS)


async def test_postgres_is_private(server: OwnPostgres) -> None:
    assert stat.S_IMODE(server.postgres.sockets.stat().st_mode) & 0o007 == 0
    assert stat.S_IMODE((server.data.secrets / "pg-registry.pass").stat().st_mode) == 0o600
    assert server.part.process_id is not None
    status = Path(f"/proc/{server.part.process_id}/status").read_text()
    assert "\nUid:\t0\t" not in status
    listening = Path(f"/proc/{server.part.process_id}/cmdline").read_text()
    assert "--listen_addresses=\0" in listening


async def test_provision_again_changes_nothing_and_makes_a_lost_password_new(server: OwnPostgres) -> None:
    registry_file = server.data.secrets / "pg-registry.pass"
    policy_file = server.data.secrets / "pg-policy.pass"
    before = registry_file.read_text(), policy_file.read_text()
    registry_file.unlink()
    await provision(server.postgres, ("registry", "policy"), server.data.secrets)
    assert registry_file.read_text() != before[0]
    assert policy_file.read_text() == before[1]
    for role in ("registry", "policy"):
        await (await server.connect(role)).close()


async def test_a_reader_reads_the_rows_of_another_role_and_writes_none(server: OwnPostgres) -> None:
    """`server` was provisioned as older releases did: the reader comes with the next start, for tables old and new."""
    registry = await server.connect("registry")
    await registry.execute("CREATE TABLE operator_token (name text, role text)")
    for _ in range(2):
        await provision(server.postgres, ("registry", "policy"), server.data.secrets, {"callout": "registry"})
    await registry.execute("CREATE TABLE peer AS SELECT 'hub-1' AS id")
    callout = await server.connect("callout")
    assert await callout.fetch("SELECT * FROM operator_token") == []
    assert await callout.fetchval("SELECT id FROM peer") == "hub-1"
    await callout.execute("LISTEN warren_admission")
    await callout.execute("SET default_transaction_read_only = off")
    for statement in (
        "INSERT INTO operator_token VALUES ('evil', 'admin')", "UPDATE peer SET id = 'x'", "DELETE FROM peer",
        "TRUNCATE peer", "DROP TABLE peer", "CREATE TABLE mine (id text)", "CREATE TABLE public.mine (id text)",
        "SELECT * FROM policy.policy",
    ):  # fmt: skip
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await callout.execute(statement)
    await callout.close()
    await registry.close()


ADD = "INSERT INTO audit VALUES ($1, now(), 'ann', 'apply', 1, 1, 'trace', '{}', ''::bytea)"
TAMPERING = (
    "UPDATE audit SET actor = 'nobody'", "DELETE FROM audit", "TRUNCATE audit", "DROP TABLE audit",
    "ALTER TABLE audit DISABLE TRIGGER ALL", "ALTER TABLE audit OWNER TO policy", "ALTER TABLE audit RENAME TO old",
    "DROP TRIGGER audit_is_kept ON audit", "ALTER SCHEMA policy RENAME TO old", "DROP SCHEMA policy CASCADE",
    "CREATE OR REPLACE FUNCTION policy.seal_audit() RETURNS void LANGUAGE sql AS 'SELECT'",
    "SET session_replication_role = replica",
)  # fmt: skip


@pytest.mark.parametrize("former", [0, 1, 3], ids=["new folder", "first release", "last release"])
async def test_the_policy_service_adds_to_its_audit_log_and_changes_nothing(server: OwnPostgres, former: int) -> None:
    migrations = load_migrations("warren_policy")
    connection = await server.connect("policy")
    if former:  # as an older release left it: the role owns its schema and everything in it
        administrator = await server.connect("postgres")
        await administrator.execute("DROP FUNCTION policy.seal_audit(); ALTER SCHEMA policy OWNER TO policy")
        await administrator.close()
        await migrate(connection, "policy", migrations[:former])
        await connection.execute(ADD, 1)
        await provision(server.postgres, ("registry", "policy"), server.data.secrets)
    await migrate(connection, "policy", migrations)
    await connection.execute(ADD, 2)
    await connection.execute("GRANT ALL ON audit TO policy")  # PostgreSQL warns, and grants nothing
    for statement in TAMPERING:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
    await provision(server.postgres, ("registry", "policy"), server.data.secrets)  # the next start
    await connection.execute(ADD, 3)
    for statement in TAMPERING:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
    kept = [row["seq"] for row in await connection.fetch("SELECT seq FROM audit ORDER BY seq")]
    assert kept == ([1, 2, 3] if former else [2, 3])
    assert await migrate(connection, "policy", migrations) == ()
    await connection.close()


async def test_postgres_comes_back_after_a_kill_with_what_was_committed(server: OwnPostgres) -> None:
    connection = await server.connect("policy")
    await connection.execute("CREATE TABLE kept AS SELECT 1 AS one")
    killed = server.part.process_id
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    answers: list[int] = []

    async def answered() -> bool:
        try:
            again = await server.connect("policy")
        except (OSError, TimeoutError, asyncpg.PostgresError):
            return False
        answers.append(await again.fetchval("SELECT one FROM kept"))
        await again.close()
        return True

    await eventually(answered, "PostgreSQL after a kill", LIMIT_SECONDS)
    assert answers == [1]
    assert server.part.process_id != killed
    connection.terminate()


@pytest.mark.skipif(shutil.which("ldd") is None, reason="ldd is glibc's")
def test_program_folders_hold_every_library_of_the_wheel() -> None:
    folders = program_folders()
    for program in ("initdb", "postgres"):
        listing = subprocess.run(
            ["ldd", folders[0] / "bin" / program], capture_output=True, text=True, check=True, timeout=LIMIT_SECONDS
        ).stdout
        assert "not found" not in listing
        paths = [Path(word).resolve() for word in listing.split() if word.startswith("/")]
        wheel = [path for path in paths if folders[0].parents[1] in path.parents]
        assert all(any(folder in path.parents for folder in folders) for path in wheel)
