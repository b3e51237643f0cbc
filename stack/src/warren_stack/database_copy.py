"""Copy the rows of the database to a file and back: rows only, no functions, triggers or constraints.

A restore of SQL by PostgreSQL's superuser runs what the roles of services have put into their schemas (a CHECK, a default), with the
rights of the superuser. Here the tables are made by the migrations of this release, and each service's rows are inserted by its own role.

The file is a tar archive: `manifest.json`, then `<schema>/<table>` in PostgreSQL's text form of COPY.
"""

import io
import json
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import asyncpg

from warren_stack.database import DATABASE, DatabaseServer, connect, dsn, provision
from warren_stack.errors import LocalError
from warren_stack.postgres import read_password
from warren_stack.services import READERS, ROLES
from warren_store import load_migrations
from warren_store.migrations import migrate

FORMAT = 1
MANIFEST = "manifest.json"
MAX_MANIFEST = 1 << 20  # bytes
_SPOOLED = 16 << 20  # bytes of a table in memory; a larger one is in a temporary file

_TABLES = """
SELECT c.relname AS name, array_agg(a.attname::text ORDER BY a.attnum) AS columns
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
WHERE c.relnamespace = to_regnamespace($1) AND c.relkind = 'r' AND c.relname <> 'migration'
GROUP BY c.relname ORDER BY c.relname
"""
_REFERENCES = """
SELECT child.relname AS child, parent.relname AS parent FROM pg_constraint
JOIN pg_class child ON child.oid = conrelid JOIN pg_class parent ON parent.oid = confrelid
WHERE contype = 'f' AND connamespace = to_regnamespace($1) AND conrelid <> confrelid
"""
_IDENTITIES = """
SELECT c.relname AS table, a.attname AS column FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
WHERE c.relnamespace = to_regnamespace($1) AND c.relkind = 'r' AND a.attidentity <> ''
"""


class Restored(NamedTuple):
    """How many tables were filled, and those of the dump that are not of this release: somebody has added them."""

    tables: int
    skipped: tuple[str, ...]


class Table(NamedTuple):
    """A table and its columns, without those that are computed."""

    name: str
    columns: tuple[str, ...]


async def dump(server: DatabaseServer, output: BinaryIO) -> int:
    """Write the rows of every schema, as of one moment; returns the number of tables.

    Raises:
        LocalError: PostgreSQL does not let the superuser in.
    """
    connection = await connect(server, DATABASE)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            schemas = {role: await _tables(connection, role) for role in ROLES}
            manifest = {
                "format": FORMAT,
                "schemas": {
                    role: {
                        "migration": await _migration(connection, role),
                        "tables": {table.name: table.columns for table in tables},
                    }
                    for role, tables in schemas.items()
                },
            }
            with tarfile.open(fileobj=output, mode="w|", format=tarfile.PAX_FORMAT) as archive:
                _add(archive, MANIFEST, io.BytesIO(json.dumps(manifest).encode()))
                for role, tables in schemas.items():
                    for table in tables:
                        with _spool() as rows:
                            await connection.copy_from_table(
                                table.name, schema_name=role, columns=table.columns, output=rows
                            )
                            rows.seek(0)
                            _add(archive, f"{role}/{table.name}", rows)
        return sum(map(len, schemas.values()))
    finally:
        await connection.close()


async def restore(server: DatabaseServer, secrets: Path, source: BinaryIO) -> Restored:
    """Make an empty database, and fill it with the rows of an archive. `secrets` has the password files of the roles.

    Raises:
        LocalError: the database is not empty, or the archive is not one, or of a newer release.
    """
    await provision(server, ROLES, secrets, READERS)
    superuser = await connect(server, DATABASE)
    try:
        for role in ROLES:
            if await superuser.fetchval("SELECT to_regclass($1) IS NOT NULL", f"{role}.migration"):
                raise LocalError(
                    "the database is not empty: restore to a new one (remove the volume of PostgreSQL first)"
                )
        with tarfile.open(fileobj=source, mode="r|") as archive:
            manifest = _manifest(archive)
            for role in ROLES:
                await _migrate(server, secrets, role, manifest[role]["migration"])
            restored = await _fill(server, secrets, archive, manifest)
        for role in ROLES:
            await _continue_sequences(superuser, role)
        return restored
    except (tarfile.TarError, KeyError, ValueError, TypeError) as error:
        raise LocalError(f"this is not a dump of `warren deploy dump` ({type(error).__name__})") from None
    finally:
        await superuser.close()


async def _migrate(server: DatabaseServer, secrets: Path, role: str, number: int) -> None:
    """Make the tables as they were when the dump was made; the service migrates them further."""
    migrations = load_migrations(f"warren_{role}")
    if number > len(migrations):
        raise LocalError(f"the dump is of a newer release (migration {number} of {role}): install that one")
    connection = await _as_role(server, secrets, role)
    try:
        await migrate(connection, role, migrations[:number])
    finally:
        await connection.close()


async def _fill(server: DatabaseServer, secrets: Path, archive: tarfile.TarFile, manifest: dict[str, Any]) -> Restored:
    """Insert the rows, each service's by its own role, in one transaction a service; parents before their children."""
    spooled: dict[tuple[str, str], BinaryIO] = {}
    while (member := archive.next()) is not None:
        role, _, name = member.name.partition("/")
        rows = archive.extractfile(member)
        if role not in ROLES or rows is None or name not in manifest[role]["tables"]:
            raise ValueError(member.name)
        spooled[role, name] = kept = _spool()
        while block := rows.read(1 << 20):
            kept.write(block)
        kept.seek(0)
    skipped: list[str] = []
    try:
        for role in ROLES:
            connection = await _as_role(server, secrets, role)
            try:
                async with connection.transaction():
                    skipped += await _fill_schema(connection, role, manifest[role]["tables"], spooled)
            finally:
                await connection.close()
    finally:
        for kept in spooled.values():
            kept.close()
    return Restored(len(spooled) - len(skipped), tuple(skipped))


async def _fill_schema(
    connection: asyncpg.Connection, role: str, given: dict[str, list[str]], rows: dict[tuple[str, str], BinaryIO]
) -> list[str]:
    """Returns the tables that are not of this release."""
    known = {table.name: table for table in await _tables(connection, role)}
    for name, columns in given.items():
        if name in known and set(columns) != set(known[name].columns):
            raise LocalError(f"{role}.{name} of the dump has other columns than in this release: {', '.join(columns)}")
    ordered = await _parents_first(connection, role, sorted(known))
    for name in reversed(ordered):  # what migrations insert
        if name != "audit":
            await connection.execute(f'DELETE FROM "{role}"."{name}"')  # noqa: S608 - a table of our migrations
    for name in ordered:
        if (role, name) in rows:
            await connection.copy_to_table(name, schema_name=role, columns=given[name], source=rows[role, name])
    return [f"{role}.{name}" for name in given if name not in known]


async def _parents_first(connection: asyncpg.Connection, role: str, names: Sequence[str]) -> list[str]:
    references = [(row["child"], row["parent"]) for row in await connection.fetch(_REFERENCES, role)]
    ordered: list[str] = []
    while len(ordered) < len(names):
        ready = [
            name for name in names
            if name not in ordered and all(parent in ordered for child, parent in references if child == name)
        ]  # fmt: skip
        ordered += ready
        if not ready:
            raise LocalError(f"the tables of {role} refer to each other in a circle")
    return ordered


async def _continue_sequences(superuser: asyncpg.Connection, role: str) -> None:
    """New rows get numbers after those that were restored."""
    for row in await superuser.fetch(_IDENTITIES, role):
        await superuser.execute(
            f"SELECT setval(pg_get_serial_sequence('{role}.{row['table']}', '{row['column']}'), "  # noqa: S608 - of our migrations
            f'(SELECT coalesce(max("{row["column"]}"), 0) + 1 FROM "{role}"."{row["table"]}"), false)'
        )


async def _migration(connection: asyncpg.Connection, role: str) -> int:
    """The newest migration of a schema; 0 before its service has started."""
    if not await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", f"{role}.migration"):
        return 0
    return int(await connection.fetchval(f'SELECT coalesce(max(number), 0) FROM "{role}".migration'))  # noqa: S608 - a constant


async def _tables(connection: asyncpg.Connection, schema: str) -> tuple[Table, ...]:
    return tuple(Table(row["name"], tuple(row["columns"])) for row in await connection.fetch(_TABLES, schema))


async def _as_role(server: DatabaseServer, secrets: Path, role: str) -> asyncpg.Connection:
    password = read_password(secrets / f"pg-{role}.pass")
    return await asyncpg.connect(
        dsn(server.host, role, server.ca_file), password=password, database=DATABASE, timeout=10
    )


def _manifest(archive: tarfile.TarFile) -> dict[str, Any]:
    """By schema: its migration, and the columns of its tables. Raises ValueError, KeyError or TypeError."""
    first = archive.next()
    file = archive.extractfile(first) if first is not None and first.name == MANIFEST else None
    if file is None:
        raise ValueError(MANIFEST)
    found = json.loads(file.read(MAX_MANIFEST))
    if found["format"] != FORMAT:
        raise LocalError(f"the dump has the format {found['format']}: install the release that made it")
    return dict(found["schemas"])


def _spool() -> BinaryIO:
    return cast(BinaryIO, tempfile.SpooledTemporaryFile(_SPOOLED))


def _add(archive: tarfile.TarFile, name: str, content: Any) -> None:
    member = tarfile.TarInfo(name)
    content.seek(0, io.SEEK_END)
    member.size = content.tell()
    member.mode = 0o600
    content.seek(0)
    archive.addfile(member, content)
