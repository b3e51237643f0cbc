"""Where PostgreSQL is, as a setting: beyond this machine it is reached by TLS with full verification only.

The words are libpq's (PostgreSQL documentation, 34.1.2 and 34.19): `sslmode=verify-full` verifies that a CA of `sslrootcert` has signed
the server's certificate, and that it is for the host. asyncpg reads the file at each connection, so a CA that is replaced is followed.
"""

import os
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Literal
from urllib.parse import parse_qs, urlsplit

from pydantic import BaseModel, Field, ValidationInfo, field_validator

VERIFIED = "sslmode=verify-full&sslrootcert=FILE"
ALLOW = "allow"


class PostgresSettings(BaseModel):
    """`WARREN_POSTGRES_DSN` and `WARREN_POSTGRES_CLEARTEXT` of a service; the password comes by PGPASSFILE, never in the URL."""

    postgres_cleartext: Literal["", "allow"] = ""  # to another host, without TLS or without its verification
    postgres_dsn: str = Field(repr=False)

    @field_validator("postgres_dsn")
    @classmethod
    def _verified(cls, dsn: str, others: ValidationInfo) -> str:
        if wrong := wrong_dsn(dsn, os.environ):
            raise ValueError(wrong)
        if others.data.get("postgres_cleartext") != ALLOW and (wrong := unverified(dsn, os.environ)):
            raise ValueError(f"{wrong}, or set WARREN_POSTGRES_CLEARTEXT=allow")
        return dsn


def wrong_dsn(dsn: str, environment: Mapping[str, str]) -> str:
    """Why a DSN is invalid; empty: it is valid. It is not quoted: it may hold a password."""
    try:
        parts, hosts = urlsplit(dsn), _hosts(dsn, environment)
    except ValueError:
        return "must be a URL such as postgresql://registry@db.example/warren"
    if parts.scheme not in ("postgresql", "postgres"):
        return "must be a URL such as postgresql://registry@db.example/warren"
    if "service" in parse_qs(parts.query) and not hosts:
        return "must name the host, and not a service"
    return ""


def unverified(dsn: str, environment: Mapping[str, str]) -> str:
    """Why what is sent to PostgreSQL could be read or changed on the way; empty: it is verified, or stays on this machine."""
    remote = [host for host in _hosts(dsn, environment) if not _is_local(host)]
    if not remote:
        return ""
    given = {name: values[-1] for name, values in parse_qs(urlsplit(dsn).query).items()}
    missing = [
        wanted
        for wanted, found in (
            ("sslmode=verify-full", given.get("sslmode") == "verify-full"),
            ("sslrootcert=FILE, the CA of the server", bool(given.get("sslrootcert"))),
        )
        if not found
    ]
    if not missing:
        return ""
    return f"{remote[0]} is another host, and is verified only with {' and '.join(missing)}: add ?{VERIFIED}"


def _hosts(dsn: str, environment: Mapping[str, str]) -> list[str]:
    """As libpq and asyncpg take them: of `host=`, which wins, of the authority, of PGHOST; none means a socket or localhost."""
    parts = urlsplit(dsn)
    if named := parse_qs(parts.query).get("host"):
        return [_without_port(host) for host in named[-1].split(",") if host]
    authority = parts.netloc.rpartition("@")[2]
    found = [_without_port(entry) for entry in authority.split(",") if entry]
    return found or [host for host in environment.get("PGHOST", "").split(",") if host]


def _without_port(entry: str) -> str:
    if entry.startswith("["):
        return entry[1:].partition("]")[0]
    host, colon, port = entry.rpartition(":")
    return host if colon and port.isdigit() and ":" not in host else entry


def _is_local(host: str) -> bool:
    """A socket's folder, an abstract socket, or the loopback."""
    if host.startswith(("/", "@")) or host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
