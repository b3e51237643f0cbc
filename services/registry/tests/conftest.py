from collections.abc import AsyncIterator, Iterator

import pytest

from warren_registry.adapters.postgres.database import PostgresDatabase, registry_store
from warren_registry.ports import Database
from warren_testkit.postgres import PostgresServer, postgres_server
from warren_testkit.registry import FakeDatabase
from warren_testkit.registry.workers import Fleet


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture
def fleet() -> Fleet:
    """The registry's workers over fakes."""
    return Fleet()


@pytest.fixture(params=["fake", "postgres"])
async def database(request: pytest.FixtureRequest) -> AsyncIterator[Database]:
    """The fake and the real thing: one contract suite for both."""
    if request.param == "fake":
        yield FakeDatabase()
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    server.sql("SET client_min_messages = error; DROP SCHEMA IF EXISTS registry CASCADE")
    async with registry_store(server.dsn()) as store:
        yield PostgresDatabase(store)
