"""F10 and F11: thieves of one service's database password.

A NOTIFY that cannot be read ended the callout; and the function of the audit log's triggers belonged to the service that it guards,
so that its code ran with the rights of an administrator who touched the log. A restore of SQL by the superuser ran what services' roles
had put into their schemas.
"""

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from warren_callout.adapters.postgres import CHANNEL
from warren_callout.authorizer import Authorizer
from warren_callout.domain.admission import JoinTokenState, KeyStatus, OperatorTokenRow
from warren_callout.domain.credential_cache import CredentialCache
from warren_stack.database_copy import dump, restore
from warren_stack.errors import LocalError
from warren_stack.folders import DataFolder
from warren_store import Listener, Store, load_migrations
from warren_store.migrations import migrate
from warren_testkit.own_postgres import OwnPostgres, own_postgres
from warren_testkit.postgres import PostgresServer, postgres_server
from warren_testkit.waiting import eventually

ROLES = ("registry", "policy", "metrics")


@pytest.fixture(scope="module")
def database() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


class Rows:
    """The registry's rows, in memory: what the callout reads is counted."""

    def __init__(self) -> None:
        self.loads = 0
        self.read: list[str] = []

    async def key_status(self, nkey: str) -> KeyStatus:
        self.read.append(nkey)
        return KeyStatus(nkey)

    async def join_token(self, identifier: str) -> JoinTokenState | None:
        return None

    async def operator_token(self, digest: bytes) -> OperatorTokenRow | None:
        self.read.append(digest.hex())
        return None

    async def load_all(self) -> tuple[tuple[KeyStatus, ...], tuple[OperatorTokenRow, ...]]:
        self.loads += 1
        return (), ()


@contextlib.asynccontextmanager
async def listening(database: PostgresServer) -> AsyncIterator[tuple[Rows, asyncpg.Connection]]:
    """A callout that listens for notices, and a thief's connection to the database. The callout must not have ended by itself."""
    rows = Rows()
    authorizer = Authorizer(rows, CredentialCache())
    async with Store(database.dsn(), schema="public", migrations=None) as store, asyncio.TaskGroup() as tasks:
        listener = Listener(store, CHANNEL, on_gap=authorizer.reload, on_notify=authorizer.refresh)
        running = tasks.create_task(listener.run())
        try:
            await eventually(lambda: rows.loads >= 1, what="the first load")
            thief = await asyncpg.connect(database.dsn())
            try:
                yield rows, thief
            finally:
                await thief.close()
            assert not running.done()
        finally:
            running.cancel()


@pytest.mark.parametrize(
    "payload",
    [
        "operator_token zz", "operator_token ", "operator_token", "peer", "peer ", "peer a b", "x", " ", "peer " + "A" * 65, "\u2028",
        "'; DROP TABLE peer", "operator_token abc", "peer \u0663",
    ],
)  # fmt: skip
async def test_a_notice_that_cannot_be_read_is_a_gap_and_ends_nothing(database: PostgresServer, payload: str) -> None:
    async with listening(database) as (rows, thief):
        loads = rows.loads
        await thief.execute("SELECT pg_notify($1, $2)", CHANNEL, payload)
        await eventually(lambda: rows.loads > loads, what="everything is read again")
        await thief.execute("SELECT pg_notify($1, $2)", CHANNEL, "peer UABC")
        await eventually(lambda: "UABC" in rows.read, what="the next notice is read")


async def test_a_flood_of_notices_is_read_by_few_loads(database: PostgresServer) -> None:
    async with listening(database) as (rows, thief):
        loads = rows.loads
        # PostgreSQL sends equal payloads of one transaction once.
        await thief.execute("SELECT pg_notify($1, 'junk ' || n) FROM generate_series(1, 20000) n", CHANNEL)
        await thief.execute("SELECT pg_notify($1, $2)", CHANNEL, "peer UABC")
        await eventually(lambda: "UABC" in rows.read or rows.loads > loads, what="it goes on")
        assert rows.loads < loads + 20


@pytest.fixture
async def provisioned(tmp_path: Path) -> AsyncIterator[OwnPostgres]:
    """PostgreSQL as `warren up` makes it, with the tables of policy and registry."""
    async with own_postgres(DataFolder(tmp_path / "data"), ROLES) as made:
        for role in ("policy", "registry"):
            connection = await made.connect(role)
            await migrate(connection, role, load_migrations(f"warren_{role}"))
            await connection.close()
        yield made


ENTRIES = {
    "policy": "INSERT INTO policy.audit VALUES (1, now(), 'ann', 'apply', 1, 1, 'trace', '{}', ''::bytea)",
    "registry": (
        "INSERT INTO registry.audit (at, actor, client, action, subject, detail) "
        "VALUES (now(), 'ann', '192.0.2.7', 'revoke', 'gw1', '{}')"
    ),
}
REPLACED = """
CREATE OR REPLACE FUNCTION policy.keep_audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN EXECUTE 'ALTER ROLE policy SUPERUSER'; RETURN OLD; END $$
"""


@pytest.mark.parametrize("role", ENTRIES)
async def test_the_audit_log_and_its_functions_are_not_the_services(provisioned: OwnPostgres, role: str) -> None:
    thief = await provisioned.connect(role)
    await thief.execute(ENTRIES[role])
    for statement in (
        REPLACED,
        "ALTER FUNCTION policy.keep_audit() OWNER TO policy",
        "ALTER FUNCTION policy.keep_audit() RENAME TO old",
        "DROP FUNCTION policy.keep_audit() CASCADE",
        "ALTER FUNCTION policy.keep_audit() SET search_path = policy",
        "CREATE TRIGGER mine AFTER INSERT ON policy.audit FOR EACH ROW EXECUTE FUNCTION policy.keep_audit()",
        "CREATE RULE mine AS ON DELETE TO policy.audit DO ALSO SELECT 1",
        "ALTER TABLE policy.audit ADD CHECK (true)",
        "ALTER TABLE policy.audit ALTER actor SET DEFAULT 'x'",
        "CREATE INDEX ON policy.audit (lower(actor))",
        "ALTER FUNCTION policy.seal_audit() OWNER TO policy",
        "SET ROLE postgres",
        "DELETE FROM policy.audit",
        "UPDATE policy.audit SET actor = 'x'",
        "TRUNCATE policy.audit",
        "DROP TABLE policy.audit",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await thief.execute(statement.replace("policy", role))
    administrator = await provisioned.connect("postgres")
    with pytest.raises(asyncpg.PostgresError, match="audit"):
        await administrator.execute("DELETE FROM policy.audit".replace("policy", role))
    owners = await administrator.fetch(
        "SELECT p.proname, r.rolname FROM pg_proc p JOIN pg_roles r ON r.oid = p.proowner WHERE p.pronamespace = $1::regnamespace",
        role,
    )
    assert {row["proname"]: row["rolname"] for row in owners if "audit" in row["proname"]} == {
        "keep_audit": "postgres", "seal_audit": "postgres",
    }  # fmt: skip
    supers = await administrator.fetch("SELECT rolname FROM pg_roles WHERE rolsuper AND rolname <> 'postgres'")
    assert supers == []
    await administrator.close()
    await thief.close()


PLANTED = (
    """CREATE FUNCTION policy.mine() RETURNS bool LANGUAGE plpgsql IMMUTABLE AS $$
       BEGIN EXECUTE 'ALTER ROLE policy SUPERUSER'; RETURN true; EXCEPTION WHEN OTHERS THEN RETURN true; END $$""",
    "ALTER TABLE policy.policy ADD CHECK (policy.mine())",
    "ALTER TABLE policy.policy_version ALTER version SET DEFAULT policy.mine()::int",
    "CREATE INDEX ON policy.policy_version ((policy.mine())) WHERE policy.mine()",
    "CREATE TABLE policy.mine (id int, CHECK (policy.mine()))",
    "INSERT INTO policy.mine VALUES (1)",
    "CREATE FUNCTION policy.noted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM policy.mine(); RETURN NEW; END $$",
    "CREATE TRIGGER mine BEFORE INSERT ON policy.policy_version FOR EACH ROW EXECUTE FUNCTION policy.noted()",
    "CREATE VIEW policy.seen AS SELECT policy.mine()",
)


async def dumped(made: OwnPostgres) -> bytes:
    output = io.BytesIO()
    await dump(made.postgres, output)
    return output.getvalue()


async def test_a_restore_executes_nothing_that_a_thief_has_put_into_a_schema(
    provisioned: OwnPostgres, tmp_path: Path
) -> None:
    thief = await provisioned.connect("policy")
    await thief.execute(ENTRIES["policy"])
    await thief.execute("INSERT INTO policy.policy_version VALUES ('branches', 7)")
    for statement in PLANTED:
        await thief.execute(statement)
    service = await provisioned.connect("registry")
    await service.execute(ENTRIES["registry"])
    await service.execute("INSERT INTO registry.kick (bus_user, requested_at) VALUES ('gw1', now())")
    await thief.close()
    await service.close()
    archive = await dumped(provisioned)
    assert b"mine()" not in archive
    async with own_postgres(DataFolder(tmp_path / "new"), ()) as new:
        done = await restore(new.postgres, new.data.secrets, io.BytesIO(archive))
        assert done.skipped == ("policy.mine",)
        assert done.tables > 10
        administrator = await new.connect("postgres")
        supers = await administrator.fetch("SELECT rolname FROM pg_roles WHERE rolsuper AND rolname <> 'postgres'")
        assert supers == []
        functions = await administrator.fetchval(
            "SELECT count(*) FROM pg_proc WHERE pronamespace = 'policy'::regnamespace AND proname IN ('mine', 'noted')"
        )
        assert functions == 0
        assert await administrator.fetchval("SELECT version FROM policy.policy_version WHERE policy = 'branches'") == 7
        assert [row["actor"] for row in await administrator.fetch("SELECT actor FROM policy.audit")] == ["ann"]
        await administrator.close()
        registry = await new.connect("registry")
        await registry.execute(ENTRIES["registry"])  # numbers continue
        await registry.execute("INSERT INTO registry.kick (bus_user, requested_at) VALUES ('gw2', now())")
        assert await registry.fetchval("SELECT array_agg(seq ORDER BY seq) FROM registry.audit") == [1, 2]
        assert await registry.fetchval("SELECT array_agg(id ORDER BY id) FROM registry.kick") == [1, 2]
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await registry.execute("DELETE FROM registry.audit")
        await registry.close()
        with pytest.raises(LocalError, match="the database is not empty"):
            await restore(new.postgres, new.data.secrets, io.BytesIO(archive))


@pytest.mark.parametrize("text", [b"", b"SELECT 1;", b"x" * 2_000])
async def test_what_is_no_dump_is_refused(tmp_path: Path, text: bytes) -> None:
    async with own_postgres(DataFolder(tmp_path / "data"), ()) as new:
        with pytest.raises(LocalError, match="not a dump of `warren deploy dump`"):
            await restore(new.postgres, new.data.secrets, io.BytesIO(text))
