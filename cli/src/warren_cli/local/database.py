"""The database, and one role with one schema for each service that has one. Idempotent: run at every start."""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from pathlib import Path

import asyncpg

from warren_cli.errors import LocalError, TimedOutError
from warren_cli.folders import is_file, write_secret
from warren_cli.local.postgres import SUPERUSER, Postgres
from warren_cli.process import eventually

DATABASE = "warren"
SCRAM_ITERATIONS = 4096
"""PostgreSQL's own default (scram_iterations)."""
CONNECT_LIMIT_SECONDS = 30.0


def scram_verifier(password: str, salt: bytes, iterations: int = SCRAM_ITERATIONS) -> str:
    """What PostgreSQL stores for a password (RFC 5803), so that the password itself is in no statement and no log."""
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    encoded = [base64.b64encode(part).decode() for part in (salt, hashlib.sha256(client_key).digest(), server_key)]
    return f"SCRAM-SHA-256${iterations}:{encoded[0]}${encoded[1]}:{encoded[2]}"


def dsn(postgres: Postgres, role: str) -> str:
    """The libpq URL of a service; its password comes by PGPASSFILE."""
    return f"postgresql://{role}@/{DATABASE}?host={postgres.sockets}"


async def provision(postgres: Postgres, roles: Sequence[str], secrets_folder: Path) -> None:
    """Make what is missing: the database, each role with its password file `pg-<role>.pass`, and each role's schema.

    Raises:
        LocalError: PostgreSQL does not let the superuser in (its password file is lost, or the server does not answer).
    """
    administrator = await _connect(postgres, "postgres")
    try:
        if not await administrator.fetchval("SELECT true FROM pg_database WHERE datname = $1", DATABASE):
            await administrator.execute(f'CREATE DATABASE "{DATABASE}"')
        for role in roles:
            await _provision_role(administrator, role, secrets_folder / f"pg-{role}.pass")
        await administrator.execute(f'REVOKE ALL ON DATABASE "{DATABASE}" FROM PUBLIC')
        for role in roles:
            await administrator.execute(f'GRANT CONNECT ON DATABASE "{DATABASE}" TO "{role}"')
    finally:
        await administrator.close()
    administrator = await _connect(postgres, DATABASE)
    try:
        await administrator.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
        for role in roles:
            await administrator.execute(f'CREATE SCHEMA IF NOT EXISTS "{role}" AUTHORIZATION "{role}"')
            await administrator.execute(f'ALTER ROLE "{role}" SET search_path = "{role}"')
    finally:
        await administrator.close()


async def _provision_role(administrator: asyncpg.Connection, role: str, password_file: Path) -> None:
    """A role without superpowers. A lost password file means a new password, never an open door."""
    exists = await administrator.fetchval("SELECT true FROM pg_roles WHERE rolname = $1", role)
    if exists and is_file(password_file):
        return
    password = secrets.token_urlsafe(32)
    write_secret(password_file, f"*:*:*:{role}:{password}\n")
    verb = "ALTER" if exists else "CREATE"
    verifier = scram_verifier(password, secrets.token_bytes(16))
    await administrator.execute(f"{verb} ROLE \"{role}\" LOGIN PASSWORD '{verifier}'")


async def _connect(postgres: Postgres, database: str) -> asyncpg.Connection:
    """As the superuser; a server that starts or recovers is awaited."""
    if not is_file(postgres.password_file):
        raise LocalError(f"{postgres.password_file} is lost: PostgreSQL's superuser has no password any more")
    password = postgres.password_file.read_text().strip().rpartition(":")[2]
    opened: list[asyncpg.Connection] = []

    async def try_once() -> bool:
        try:
            opened.append(
                await asyncpg.connect(
                    host=str(postgres.sockets), user=SUPERUSER, password=password, database=database, timeout=5
                )
            )
        except (OSError, TimeoutError, asyncpg.CannotConnectNowError, asyncpg.ConnectionDoesNotExistError):
            return False
        return True

    try:
        await eventually(try_once, "PostgreSQL accepts the superuser", CONNECT_LIMIT_SECONDS)
    except (TimedOutError, asyncpg.PostgresError) as error:
        raise LocalError(f"PostgreSQL does not let the superuser in: {error}") from error
    return opened[0]
