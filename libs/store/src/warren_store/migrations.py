"""The migration tool: numbered `.sql` files, applied once, in order, each in a transaction of its own.

A service's files lie in `sql/migrations/` of its package as `0001_peers.sql`, `0002_...`. Applied files are recorded in
`<schema>.migration` with their SHA-256, so that a file changed after its release is refused. An advisory lock lets several
instances of a service start at once. There are no down migrations: a mistake is corrected by the next number.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, TypeAlias

import asyncpg

from warren_store.errors import DamagedMigrationsError

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Connection: TypeAlias = asyncpg.Connection | PoolConnectionProxy
else:
    Connection: TypeAlias = asyncpg.Connection

_FILE = re.compile(r"^(\d{4})_([a-z0-9_]+)\.sql$")
_SCHEMA = re.compile(r"^[a-z][a-z0-9_]{0,62}$")

_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('warren.migration.' || $1, 0))"
_SCHEMA_EXISTS = "SELECT 1 FROM pg_namespace WHERE nspname = $1"
_TABLE = """
CREATE TABLE IF NOT EXISTS {schema}.migration (
    number     integer PRIMARY KEY,
    name       text NOT NULL,
    checksum   text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""
_APPLIED = "SELECT number, checksum FROM {schema}.migration ORDER BY number"
_RECORD = "INSERT INTO {schema}.migration (number, name, checksum) VALUES ($1, $2, $3)"


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file."""

    number: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def load_migrations(package: str) -> tuple[Migration, ...]:
    """The files of `sql/migrations/` inside `package`, in order; DamagedMigrationsError for gaps, repeats and invalid names."""
    found = []
    for entry in (resources.files(package) / "sql" / "migrations").iterdir():
        if not entry.name.endswith(".sql"):
            continue
        match = _FILE.match(entry.name)
        if match is None:
            raise DamagedMigrationsError(f"{entry.name}: invalid name of a migration; an example is 0001_peers.sql")
        found.append(Migration(int(match[1]), match[2], entry.read_text("utf-8")))
    return ordered(found)


def ordered(migrations: Sequence[Migration]) -> tuple[Migration, ...]:
    """The migrations by number; DamagedMigrationsError unless they are numbered 1, 2, 3, ..."""
    result = tuple(sorted(migrations, key=lambda migration: migration.number))
    numbers = [migration.number for migration in result]
    if numbers != list(range(1, len(numbers) + 1)):
        raise DamagedMigrationsError(f"migrations must be numbered from 1 without gap or repeat, not {numbers}")
    return result


async def migrate(connection: Connection, schema: str, migrations: Sequence[Migration]) -> tuple[int, ...]:
    """Apply the missing migrations; returns their numbers. Idempotent, and safe next to other instances.

    Each migration and its record are one transaction, which holds the lock: a crash leaves
    either all of a file or nothing of it.
    Raises DamagedMigrationsError when an applied file has changed or is missing.
    """
    if not _SCHEMA.match(schema):
        raise DamagedMigrationsError(f"invalid schema name {schema!r}")
    done: list[int] = []
    for migration in migrations or ():
        async with connection.transaction():
            await connection.execute(_LOCK, schema)
            await _prepare(connection, schema)
            applied = {row["number"]: row["checksum"] for row in await connection.fetch(_APPLIED.format(schema=schema))}
            _compare(applied, migrations)
            if migration.number in applied:
                continue
            await connection.execute(f"SET LOCAL search_path TO {schema}")
            await connection.execute(migration.sql)
            await connection.execute(
                _RECORD.format(schema=schema), migration.number, migration.name, migration.checksum
            )
            done.append(migration.number)
    return tuple(done)


async def _prepare(connection: Connection, schema: str) -> None:
    # Looked up first: in production the schema exists and the role may not create one (IF NOT EXISTS requires the right).
    if await connection.fetchval(_SCHEMA_EXISTS, schema) is None:
        await connection.execute(f"CREATE SCHEMA {schema}")
    await connection.execute(_TABLE.format(schema=schema))


def _compare(applied: dict[int, str], migrations: Sequence[Migration]) -> None:
    known = {migration.number: migration for migration in migrations}
    for number, checksum in applied.items():
        if number not in known:
            raise DamagedMigrationsError(f"migration {number} was applied by a newer release: start that release")
        if known[number].checksum != checksum:
            raise DamagedMigrationsError(f"migration {number} ({known[number].name}) has changed since it was applied")
