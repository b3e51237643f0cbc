"""The callout with a PostgreSQL that hangs: its sockets are open, and nothing answers."""

import asyncio
import base64
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from warren_callout.adapters.postgres import PostgresCredentials
from warren_callout.authorizer import RETRY_AFTER, Authorizer
from warren_callout.domain.admission import AuthRequest, KeyStatus
from warren_callout.domain.credential_cache import CredentialCache
from warren_registry.adapters.postgres.database import PostgresDatabase, registry_store
from warren_registry.peers.model import Peer
from warren_store import store as store_module
from warren_testkit.postgres import PostgresServer, postgres_server
from warren_trust.keys import KeyKind, KeyPair

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


class CountingCredentials(PostgresCredentials):
    """Counts the reads of keys."""

    reads = 0

    async def key_status(self, nkey: str) -> KeyStatus:
        self.reads += 1
        return await super().key_status(nkey)


async def test_a_hanging_database_delays_one_decision_until_the_limit_of_a_row(
    own_postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the store's own limits out of reach: what waits for one of them does not return."""
    monkeypatch.setattr(store_module, "CONNECT_TIMEOUT", 3600.0)
    monkeypatch.setattr(store_module, "COMMAND_TIMEOUT", 3600.0)
    key = KeyPair.generate(KeyKind.USER)
    signature = base64.b64encode(key.sign(b"nonce")).decode()
    request = AuthRequest("N", "U", nkey=key.public, signature=signature, nonce="nonce")
    clock = 0.0
    async with registry_store(own_postgres.dsn()) as store:
        async with PostgresDatabase(store).transaction() as tables:
            await tables.peers.save(Peer("gw1", key.public, ("branch",), 1, "t", NOW))
        credentials = CountingCredentials(store)
        authorizer = Authorizer(credentials, CredentialCache(), lambda: clock)
        await authorizer.reload()
        own_postgres.freeze()
        try:
            async with asyncio.timeout(60):
                assert (await authorizer.decide(request, NOW)).name == "gw1"
                assert credentials.reads == 1
                assert (await authorizer.decide(request, NOW)).name == "gw1"
                assert credentials.reads == 1  # the next decision does not wait
                clock += RETRY_AFTER
                assert (await authorizer.decide(request, NOW)).name == "gw1"
                assert credentials.reads == 2
        finally:
            own_postgres.thaw()
