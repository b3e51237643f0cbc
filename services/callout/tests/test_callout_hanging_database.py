"""The callout with a PostgreSQL that hangs: its sockets are open, and nothing answers."""

import base64
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from warren_callout.adapters.postgres import PostgresCredentials
from warren_callout.authorizer import Authorizer
from warren_callout.domain.admission import AuthRequest
from warren_callout.domain.credential_cache import CredentialCache
from warren_registry.adapters.postgres.database import PostgresDatabase, registry_store
from warren_registry.peers.model import Peer
from warren_testkit.postgres import PostgresServer, postgres_server
from warren_trust.keys import KeyKind, KeyPair

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


async def test_a_hanging_database_delays_a_decision_by_at_most_a_second(own_postgres: PostgresServer) -> None:
    key = KeyPair.generate(KeyKind.USER)
    signature = base64.b64encode(key.sign(b"nonce")).decode()
    request = AuthRequest("N", "U", nkey=key.public, signature=signature, nonce="nonce")
    async with registry_store(own_postgres.dsn()) as store:
        async with PostgresDatabase(store).transaction() as tables:
            await tables.peers.save(Peer("gw1", key.public, ("branch",), 1, "t", NOW))
        authorizer = Authorizer(PostgresCredentials(store), CredentialCache())
        await authorizer.reload()
        own_postgres.freeze()
        start = time.monotonic()
        assert (await authorizer.decide(request, NOW)).name == "gw1"
        assert time.monotonic() - start < 1.7  # the callout answers within 4 s
        start = time.monotonic()
        assert (await authorizer.decide(request, NOW)).name == "gw1"
        assert time.monotonic() - start < 0.5  # the next decision does not wait
        own_postgres.thaw()
