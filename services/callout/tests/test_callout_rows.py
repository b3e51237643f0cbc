"""The contract with the registry's schema: its migrations, rows that it wrote, and its notifications."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from warren_callout.adapters.postgres import CHANNEL, SCHEMA, PostgresCredentials, credential_store
from warren_callout.domain.admission import JoinTokenState, KeyStatus, OperatorTokenRow
from warren_contracts.commands import Role
from warren_contracts.problems import UnavailableError
from warren_registry.adapters.postgres.database import SCHEMA as REGISTRY_SCHEMA
from warren_registry.adapters.postgres.database import PostgresDatabase, registry_store
from warren_registry.enrolment.model import JoinTokenRow
from warren_registry.operators.model import OperatorRow
from warren_registry.peers.membership import revoke
from warren_registry.peers.model import Peer
from warren_testkit.postgres import PostgresServer, postgres_server
from warren_testkit.waiting import eventually

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
NKEY, REVOKED = "U" + "A" * 55, "U" + "B" * 55
DIGEST, SCOPED = b"d" * 32, b"s" * 32


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture
async def registry(postgres: PostgresServer) -> AsyncIterator[PostgresDatabase]:
    """The registry's schema as its migrations leave it, empty."""
    postgres.sql(f"SET client_min_messages = error; DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
    async with registry_store(postgres.dsn()) as store:
        database = PostgresDatabase(store)
        await eventually(database.ready)
        yield database


@pytest.fixture
async def credentials(postgres: PostgresServer) -> AsyncIterator[PostgresCredentials]:
    async with credential_store(postgres.dsn()) as store:
        yield PostgresCredentials(store)


def test_both_name_the_same_schema() -> None:
    assert SCHEMA == REGISTRY_SCHEMA


async def test_keys_are_read(registry: PostgresDatabase, credentials: PostgresCredentials) -> None:
    async with registry.transaction() as tables:
        await tables.peers.save(Peer("gw1", NKEY, ("branch",), 1, "t", NOW))
        await tables.peers.save(Peer("gw2", REVOKED, (), 2, "t", NOW))
    async with registry.transaction() as tables:
        await revoke(tables, "gw2", "ann", NOW)
    valid = KeyStatus(NKEY, "gw1", ("branch",), 1)
    assert await credentials.key_status(NKEY) == valid
    assert await credentials.key_status("U" + "C" * 55) == KeyStatus("U" + "C" * 55)
    revoked = await credentials.key_status(REVOKED)
    assert revoked.revoked
    keys, _ = await credentials.load_all()
    assert {(key.nkey, key.id, key.revoked) for key in keys} == {(NKEY, "gw1", False), (REVOKED, "gw2", True)}


async def test_tokens_are_read(registry: PostgresDatabase, credentials: PostgresCredentials) -> None:
    async with registry.transaction() as tables:
        await tables.join_tokens.add_join_token(JoinTokenRow("t", DIGEST, ("branch",), 2, 0, NOW, LATER))
        await tables.join_tokens.spend("t")
        await tables.operators.add_operator(OperatorRow("ann", Role.VIEWER, DIGEST, NOW, None, "root"))
        await tables.operators.add_operator(OperatorRow("bob", Role.ADMIN, SCOPED, NOW, None, "root", ("branch",)))
    assert await credentials.join_token("t") == JoinTokenState("t", DIGEST, 2, 1, LATER)
    assert await credentials.join_token("u") is None
    ann = OperatorTokenRow("ann", Role.VIEWER, DIGEST, None)
    assert await credentials.operator_token(DIGEST) == ann
    assert await credentials.operator_token(b"other") is None
    bob = OperatorTokenRow("bob", Role.ADMIN, SCOPED, None, scoped=True)
    assert await credentials.operator_token(SCOPED) == bob
    assert set((await credentials.load_all())[1]) == {ann, bob}


async def test_before_the_registry_has_brought_its_tables_to_this_release_nobody_is_known(
    registry: PostgresDatabase, credentials: PostgresCredentials, postgres: PostgresServer
) -> None:
    """Whether a token has a scope cannot be read: no operator is admitted, instead of one with a scope to the whole fleet."""
    async with registry.transaction() as tables:
        await tables.operators.add_operator(OperatorRow("ann", Role.VIEWER, DIGEST, NOW, None, "root"))
    postgres.sql(f"ALTER TABLE {SCHEMA}.operator_token DROP COLUMN scope")
    with pytest.raises(UnavailableError, match="this release"):
        await credentials.operator_token(DIGEST)
    with pytest.raises(UnavailableError, match="this release"):
        await credentials.load_all()


async def test_changes_are_notified(
    postgres: PostgresServer, registry: PostgresDatabase, credentials: PostgresCredentials
) -> None:
    payloads: asyncio.Queue[str] = asyncio.Queue()
    async with credential_store(postgres.dsn()) as store, store.connection() as connection:

        def take(*received: object) -> None:
            payloads.put_nowait(str(received[-1]))

        await connection.add_listener(CHANNEL, take)
        async with registry.transaction() as tables:
            await tables.peers.save(Peer("gw1", NKEY, (), 1, "t", NOW))
            await tables.operators.add_operator(OperatorRow("ann", Role.VIEWER, DIGEST, NOW, None))
        async with registry.transaction() as tables:
            await revoke(tables, "gw1", "ann", NOW)
        async with asyncio.timeout(60):
            received = {await payloads.get() for _ in range(3)}
            while f"revoked_key {NKEY}" not in received:
                received.add(await payloads.get())
        assert {f"peer {NKEY}", f"operator_token {DIGEST.hex()}"} <= received
        async with registry.transaction() as tables:
            await tables.operators.remove_operator("ann")
        async with asyncio.timeout(60):
            while await payloads.get() != f"operator_token {DIGEST.hex()}":
                pass
        await connection.remove_listener(CHANNEL, take)  # the pool takes no connection back that still listens


async def test_without_the_registrys_tables_no_credential_can_be_read(
    postgres: PostgresServer, credentials: PostgresCredentials
) -> None:
    postgres.sql(f"SET client_min_messages = error; DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
    with pytest.raises(UnavailableError, match="tables"):
        await credentials.key_status(NKEY)
    exists = postgres.sql("SELECT count(*) FROM pg_namespace WHERE nspname = 'registry'")
    assert exists == "0"  # the callout applies no migrations
