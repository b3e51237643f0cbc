"""The deployment's own folder, and one share of it for each container: nobody reads another's key.

Everything is made in DATA (`keys/` and `secrets/` as `warren up` has them), which only the step `keys` sees. A container sees
SHARES/<its name>, which holds copies of what it needs, for its user only.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from warren_stack.database import provision
from warren_stack.deploy.users import give_data, share_out, take
from warren_stack.errors import LocalError
from warren_stack.folders import DataFolder, is_file
from warren_stack.postgres import SETTINGS, SUPERUSER, new_password, read_password, write_password
from warren_stack.server_config import ServerConfig, ServerTls, render
from warren_stack.services import READERS, ROLES, SERVICES, Service
from warren_trust.keys import create_keys

NATS_MONITORING = 'http: "127.0.0.1:8222"  # for the container\'s own health check'
SHOWN = Path("/run/warren")  # where a container sees its share
NATS_TLS = ServerTls(SHOWN / "tls.crt", SHOWN / "tls.key", SHOWN / "ca.pem")
PUBLIC_KEYS = "public.json"

_HBA = """# Written by `warren deploy keys`: the networks that the server is part of, by TLS, and a password for everybody.
host all all 127.0.0.1/32 scram-sha-256
hostssl all all samenet scram-sha-256
"""
_LISTEN = {
    "listen_addresses": "*",
    "unix_socket_directories": "",
    "ssl": "on",
    "ssl_cert_file": "/run/warren/tls.crt",
    "ssl_key_file": "/run/warren/tls.key",
    "ssl_min_protocol_version": "TLSv1.2",
}


@dataclass(frozen=True)
class Deployment:
    """`data` is kept and backed up; `shares` holds a folder for each container."""

    data: DataFolder
    shares: Path

    @property
    def superuser(self) -> Path:
        """The password file of PostgreSQL's superuser."""
        return self.data.secrets / password_name(SUPERUSER)


@dataclass(frozen=True)
class RemotePostgres:
    """A server that somebody else runs, such as another container."""

    host: str
    password_file: Path
    ca_file: Path | None = None


DATABASE = "database"
"""The container that makes the database and its roles."""


def make_keys(deployment: Deployment, jetstream: Path) -> None:
    """Make what is missing, and hand out what NATS, PostgreSQL and the services need before they can start.

    `jetstream` is where NATS's container keeps its streams. Raises LocalError where a folder cannot be written.
    """
    data = deployment.data
    try:
        for folder in (data.path, data.keys, data.secrets):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            take(folder)
        public_keys = create_keys(data.keys)
        if not is_file(deployment.superuser):
            write_password(deployment.superuser, SUPERUSER, new_password())
        for role in (*ROLES, *READERS):
            if not is_file(data.secrets / password_name(role)):
                write_password(data.secrets / password_name(role), role, new_password())
        config = ServerConfig(public_keys, jetstream, host="0.0.0.0", tls=NATS_TLS, extra=(NATS_MONITORING,))  # noqa: S104 - of its container
        share_out(deployment.shares, "nats", {"nats.conf": render(config)})
        share_out(deployment.shares, "postgres", _postgres_files(deployment))
        passwords = {path.name: path.read_text() for path in data.secrets.glob(password_name("*"))}
        share_out(deployment.shares, DATABASE, passwords)
        for service in SERVICES:
            handed = {name: (data.keys / name).read_text() for name in (PUBLIC_KEYS, *seeds_of(service))}
            if service.role is not None:
                handed[password_name(service.role)] = passwords[password_name(service.role)]
            share_out(deployment.shares, service.name, handed)
    except OSError as error:
        raise LocalError(f"{error.filename}: cannot be written ({error.strerror})") from None


def give_folders(folders: Mapping[str, Path]) -> None:
    """Give the folders of data, by the container that writes each, to its user. Raises LocalError."""
    for name, folder in folders.items():
        try:
            give_data(folder, name)
        except OSError as error:
            raise LocalError(f"{folder}: cannot be given to the user of {name} ({error.strerror})") from None


async def make_database(share: Path, host: str, ca_file: Path) -> None:
    """Make or bring up to date the database and its roles, with the passwords of `share`. `ca_file` is the server's CA.

    Raises:
        LocalError: `keys` was not run before, or PostgreSQL does not let the superuser in.
    """
    await provision(remote_postgres(share, host, ca_file), ROLES, share, READERS)


def remote_postgres(share: Path, host: str, ca_file: Path) -> RemotePostgres:
    """PostgreSQL as the container `database` reaches it. Raises LocalError where `keys` was not run before."""
    for role in (*ROLES, *READERS):
        if not is_file(share / password_name(role)):
            raise LocalError(f"{share / password_name(role)} is missing: run `warren deploy keys` first")
    return RemotePostgres(host, share / password_name(SUPERUSER), ca_file)


def seeds_of(service: Service) -> tuple[str, ...]:
    """The names of the seed files that a service reads."""
    return tuple(f"{name}.seed" for name in (service.nkey, *service.seeds.values()))


def password_name(role: str) -> str:
    """The name of a role's password file."""
    return f"pg-{role}.pass"


def _postgres_files(deployment: Deployment) -> dict[str, str]:
    """What deploy/compose/postgres.sh reads: the settings of `warren up`, but that it listens."""
    lines = (f"{name} = '{value}'" for name, value in {**_LISTEN, **SETTINGS}.items())
    return {
        "superuser.password": read_password(deployment.superuser) + "\n",
        "postgresql.conf": "# Written by `warren deploy keys`.\n" + "\n".join(lines) + "\n",
        "pg_hba.conf": _HBA,
    }
