from collections.abc import AsyncIterator, Iterator

import pytest

from warren_metrics.adapters.postgres import make_store
from warren_metrics.history.postgres import PostgresHistory
from warren_testkit.history import World
from warren_testkit.postgres import PostgresServer, postgres_server


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture
async def world(postgres: PostgresServer) -> AsyncIterator[World]:
    """An empty history."""
    postgres.sql("DROP SCHEMA IF EXISTS metrics CASCADE")
    async with make_store(postgres.dsn()) as store:
        yield World(PostgresHistory(store))
