"""The database, and one role with one schema for each service that has one. Idempotent: run at every start."""

import base64
import hashlib
import hmac
import secrets
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import asyncpg

from warren_lab.errors import TimedOutError
from warren_lab.process import eventually
from warren_stack.errors import LocalError
from warren_stack.folders import is_file
from warren_stack.postgres import SUPERUSER, new_password, read_password, write_password

DATABASE = "warren"
SCRAM_ITERATIONS = 4096
"""PostgreSQL's own default (scram_iterations)."""
CONNECT_LIMIT_SECONDS = 30.0

# The tables are the schema's owner's, who makes them later: what it will make is readable from the start.
_READER = """
ALTER ROLE "{reader}" SET search_path = "{schema}";
ALTER ROLE "{reader}" SET default_transaction_read_only = on;
GRANT USAGE ON SCHEMA "{schema}" TO "{reader}";
GRANT SELECT ON ALL TABLES IN SCHEMA "{schema}" TO "{reader}";
ALTER DEFAULT PRIVILEGES FOR ROLE "{schema}" IN SCHEMA "{schema}" GRANT SELECT ON TABLES TO "{reader}";
"""

# An audit log belongs to the superuser, and so do its schema (an owner of either could drop it) and the function of its triggers
# (it runs in the sessions of others): the service adds and reads.
# The service makes the table itself, so at the first start it is its migration that calls the function.
AUDITED = ("policy", "registry")
_SEAL = """
ALTER SCHEMA {schema} OWNER TO CURRENT_USER;
GRANT USAGE, CREATE ON SCHEMA {schema} TO {schema};
CREATE OR REPLACE FUNCTION {schema}.seal_audit() RETURNS void LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    ALTER TABLE {schema}.audit OWNER TO CURRENT_USER;
    IF to_regprocedure('{schema}.keep_audit()') IS NOT NULL THEN
        -- It runs in the session of the role that changes the log, with the rights of that session.
        ALTER FUNCTION {schema}.keep_audit() OWNER TO CURRENT_USER;
        REVOKE ALL ON FUNCTION {schema}.keep_audit() FROM PUBLIC;
        ALTER FUNCTION {schema}.keep_audit() SET search_path = pg_catalog, pg_temp;
    END IF;
    REVOKE ALL ON TABLE {schema}.audit FROM PUBLIC, {schema};
    GRANT SELECT, INSERT ON TABLE {schema}.audit TO {schema};
END
$$;
REVOKE ALL ON FUNCTION {schema}.seal_audit() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION {schema}.seal_audit() TO {schema};
"""
_SEALABLE = "SELECT to_regclass($1 || '.audit') IS NOT NULL AND to_regprocedure($1 || '.keep_audit()') IS NOT NULL"


class DatabaseServer(Protocol):
    """Where PostgreSQL is, and how its superuser comes in."""

    @property
    def host(self) -> str:
        """A host's name or address, or the folder of the server's socket."""
        ...

    @property
    def password_file(self) -> Path:
        """The superuser's, as libpq has it."""
        ...

    @property
    def ca_file(self) -> Path | None:
        """The CA by which it is verified; None: it is reached by its socket."""
        ...


def scram_verifier(password: str, salt: bytes, iterations: int = SCRAM_ITERATIONS) -> str:
    """What PostgreSQL stores for a password (RFC 5803), so that the password itself is in no statement and no log."""
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    encoded = [base64.b64encode(part).decode() for part in (salt, hashlib.sha256(client_key).digest(), server_key)]
    return f"SCRAM-SHA-256${iterations}:{encoded[0]}${encoded[1]}:{encoded[2]}"


def dsn(host: str, role: str, ca_file: Path | None = None) -> str:
    """The libpq URL of a service; its password comes by PGPASSFILE. A server that is not a socket is verified by `ca_file`."""
    verified = "" if ca_file is None or host.startswith("/") else f"&sslmode=verify-full&sslrootcert={ca_file}"
    return f"postgresql://{role}@/{DATABASE}?host={host}{verified}"


async def provision(
    server: DatabaseServer, roles: Sequence[str], secrets_folder: Path, readers: Mapping[str, str] | None = None
) -> None:
    """Make what is missing, and bring what an older release made up to date: the database, each role with its password file
    `pg-<role>.pass`, each role's schema, and `readers`: roles that only read the schema of another role.

    Raises:
        LocalError: PostgreSQL does not let the superuser in (its password file is lost, or the server does not answer).
    """
    readers = readers or {}
    everybody = (*roles, *readers)
    administrator = await connect(server, "postgres")
    try:
        if not await administrator.fetchval("SELECT true FROM pg_database WHERE datname = $1", DATABASE):
            await administrator.execute(f'CREATE DATABASE "{DATABASE}"')
        for role in everybody:
            await _provision_role(administrator, role, secrets_folder / f"pg-{role}.pass")
        await administrator.execute(f'REVOKE ALL ON DATABASE "{DATABASE}" FROM PUBLIC')
        for role in everybody:
            await administrator.execute(f'GRANT CONNECT ON DATABASE "{DATABASE}" TO "{role}"')
    finally:
        await administrator.close()
    administrator = await connect(server, DATABASE)
    try:
        await administrator.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
        for role in roles:
            await administrator.execute(f'CREATE SCHEMA IF NOT EXISTS "{role}" AUTHORIZATION "{role}"')
            await administrator.execute(f'ALTER ROLE "{role}" SET search_path = "{role}"')
        for schema in (role for role in AUDITED if role in roles):
            await administrator.execute(_SEAL.format(schema=schema))
            if await administrator.fetchval(_SEALABLE, schema):  # else its migration is still to come, and seals it
                await administrator.execute(f"SELECT {schema}.seal_audit()")
        for reader, schema in readers.items():
            await administrator.execute(_READER.format(reader=reader, schema=schema))
    finally:
        await administrator.close()


async def _provision_role(administrator: asyncpg.Connection, role: str, password_file: Path) -> None:
    """Create or update a role without special rights, with the password of its file.

    A lost file means a new password, never a role without one. A cluster that is older than the file gets the file's.
    """
    if not is_file(password_file):
        write_password(password_file, role, new_password())
    exists = await administrator.fetchval("SELECT true FROM pg_roles WHERE rolname = $1", role)
    verb = "ALTER" if exists else "CREATE"
    verifier = scram_verifier(read_password(password_file), secrets.token_bytes(16))
    await administrator.execute(f"{verb} ROLE \"{role}\" LOGIN PASSWORD '{verifier}'")


async def connect(server: DatabaseServer, database: str) -> asyncpg.Connection:
    """As the superuser; a server that starts or recovers is awaited."""
    if not is_file(server.password_file):
        raise LocalError(f"{server.password_file} is lost: PostgreSQL's superuser has no password any more")
    password = read_password(server.password_file)
    opened: list[asyncpg.Connection] = []

    async def try_once() -> bool:
        try:
            opened.append(
                await asyncpg.connect(
                    dsn(server.host, SUPERUSER, server.ca_file), password=password, database=database, timeout=5
                )
            )
        except ssl.SSLCertVerificationError:
            raise
        except (OSError, TimeoutError, asyncpg.CannotConnectNowError, asyncpg.ConnectionDoesNotExistError):
            return False
        return True

    try:
        await eventually(try_once, "PostgreSQL accepts the superuser", CONNECT_LIMIT_SECONDS)
    except ssl.SSLCertVerificationError as error:
        raise LocalError(
            f"PostgreSQL's certificate is not trusted ({error.verify_message}): it must be for {server.host}, and of the CA in "
            f"{server.ca_file}"
        ) from None
    except (TimedOutError, asyncpg.PostgresError) as error:
        raise LocalError(f"PostgreSQL does not let the superuser in: {error}") from error
    return opened[0]
