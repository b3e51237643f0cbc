"""PostgreSQL as `warren up` starts it: a user of its own, passwords, and a role and a schema for each service."""

import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg

from warren_lab.runtime import make_runtime_folder
from warren_stack.database import dsn, provision
from warren_stack.folders import DataFolder
from warren_stack.postgres import Postgres
from warren_stack.supervisor import PartState, ProcessSupervisor, SupervisedPart
from warren_stack.users import part_users
from warren_testkit.waiting import eventually

START_LIMIT_S = 60.0


@dataclass(frozen=True)
class OwnPostgres:
    """A started server and its database, with the roles of services."""

    data: DataFolder
    postgres: Postgres
    part: SupervisedPart

    async def connect(self, role: str) -> asyncpg.Connection:
        """As a service connects: by its URL and its password file."""
        return await asyncpg.connect(
            dsn(self.postgres.host, role), passfile=str(self.data.secrets / f"pg-{role}.pass"), timeout=60
        )


@asynccontextmanager
async def own_postgres(data: DataFolder, roles: Sequence[str]) -> AsyncIterator[OwnPostgres]:
    """A server with its data in the new folder `data`, stopped when the block ends."""
    data.create()
    runtime = make_runtime_folder()
    users = part_users(runtime)
    user = None if users is None else users["postgres"]
    postgres = Postgres(data.postgres, runtime / "pg", data.secrets / "pg-postgres.pass", user)
    try:
        await postgres.prepare()
        async with ProcessSupervisor(data.log) as supervisor:
            part = supervisor.add(postgres.part())
            await eventually(lambda: part.state is PartState.READY, START_LIMIT_S, "PostgreSQL answers")
            await provision(postgres, roles, data.secrets)
            yield OwnPostgres(data, postgres, part)
    finally:
        shutil.rmtree(runtime, ignore_errors=True)
