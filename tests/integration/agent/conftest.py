"""Two gateways in network namespaces, joined by a veth pair, each with a charon of its own and a protected address."""

import asyncio
import base64
import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nats
import pytest
from nacl.signing import SigningKey
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from pydantic import BaseModel

from warren_agent.drivers.port import DaemonUp, DriverEvent, TunnelChanged
from warren_agent.drivers.strongswan.charon import Charon
from warren_agent.drivers.strongswan.driver import StrongswanDriver, StrongswanPaths
from warren_agent.drivers.strongswan.ledger import Ledger
from warren_agent.drivers.strongswan.sas import IkeSa
from warren_agent.drivers.strongswan.vici_client import ViciConnection
from warren_agent.errors import DriverUnavailableError
from warren_bus.permissions import inbox
from warren_bus.streams import STREAMS, declare
from warren_bus.testing import GrantingCallout, RealServer
from warren_bus.testing.fleet import Fleet, SignedBytes
from warren_contracts.commands import AnnounceReply
from warren_contracts.documents import DirectoryPageRequest, EnrolReply, EnrolRequest
from warren_contracts.peers import Announcement, PeerRecord
from warren_contracts.policy import Policy, PolicySet, PublishedPolicy
from warren_contracts.telemetry import Applied, Presence, Reason, Report, TunnelChange
from warren_contracts.tunnel import TunnelConfig

CHARON = Path("/usr/lib/ipsec/charon")
PLUGINS = (
    "random nonce aes sha1 sha2 hmac kdf mgf1 pem pkcs1 pkcs8 pubkey x509 constraints curve25519 openssl gmp gcm chapoly"
    " kernel-libipsec kernel-netlink socket-default vici updown error-notify counters"
)
STRONGSWAN_CONF = """
charon {{
  load_modular = no
  load = {plugins}
  threads = 16
  dos_protection = no
  retransmit_timeout = 1.0
  retransmit_tries = 3
  filelog {{
    log {{
      path = {log}
      default = 1
      flush_line = yes
    }}
  }}
}}
"""


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout


async def eventually(read: Callable[[], Awaitable[object]], within: float = 20.0) -> object:
    """Read until the answer is true; the last answer's failure is the test's."""
    async with asyncio.timeout(within):
        while True:
            answer = await read()
            if answer:
                return answer
            await asyncio.sleep(0.02)


@dataclass
class Gateway:
    """One namespace with a charon; its VICI socket and its log are files that the test can reach."""

    name: str
    namespace: str
    folder: Path
    address: str
    protected: str
    process: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def vici(self) -> Path:
        return self.folder / "run" / "charon.vici"

    @property
    def notify(self) -> Path:
        return self.folder / "run" / "charon.enfy"

    @property
    def log(self) -> str:
        return (self.folder / "charon.log").read_text()

    async def start(self) -> None:
        (self.folder / "run").mkdir(exist_ok=True)
        for name in ("charon.vici", "charon.pid", "charon.enfy"):
            (self.folder / "run" / name).unlink(missing_ok=True)
        conf = self.folder / "strongswan.conf"
        conf.write_text(STRONGSWAN_CONF.format(plugins=PLUGINS, log=self.folder / "charon.log"))
        mount = f"mount --bind {self.folder}/run /run && exec {CHARON}"
        self.process = subprocess.Popen(
            ["ip", "netns", "exec", self.namespace, "unshare", "-m", "sh", "-c", mount],
            env=os.environ | {"STRONGSWAN_CONF": str(conf)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        await eventually(self._answers)

    async def _answers(self) -> bool:
        try:
            connection = await ViciConnection.open(self.vici)
        except DriverUnavailableError:
            assert self.process is not None
            assert self.process.poll() is None, "charon ended: " + self.log[-2000:]
            return False
        connection.close()
        return True

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(timeout=20)
            self.process = None

    def add_address(self, address: str) -> None:
        run("ip", "-n", self.namespace, "addr", "add", address, "dev", "lo")

    def ping(self, target: str, count: int = 3) -> bool:
        command = ["ip", "netns", "exec", self.namespace, "ping", "-q", "-n", "-c", str(count), "-i", "0.05", "-W", "2"]
        done = subprocess.run([*command, "-I", self.protected, target], capture_output=True, timeout=30)
        return done.returncode == 0


@pytest.fixture
def pair() -> Iterator[tuple[Gateway, Gateway]]:
    """Two gateways whose charons are not started yet."""
    if not CHARON.exists() or os.geteuid() != 0:
        pytest.skip("needs root and Debian's strongswan-charon")
    run_id = f"{os.getpid()}{secrets.token_hex(2)}"
    base = Path(tempfile.mkdtemp(prefix="wa-", dir="/tmp"))
    gateways = tuple(
        Gateway(name, f"wa{name}{run_id}", base / name, f"192.0.2.{n}", f"10.{n}.0.1")
        for n, name in ((1, "hub"), (2, "spoke"))
    )
    try:
        lay_out(*gateways, link=run_id[-8:])
        yield gateways[0], gateways[1]
    finally:
        for gateway in gateways:
            gateway.stop()
            subprocess.run(["ip", "netns", "del", gateway.namespace], capture_output=True, timeout=10)
        shutil.rmtree(base)


def lay_out(hub: Gateway, spoke: Gateway, link: str) -> None:
    for gateway in (hub, spoke):
        gateway.folder.mkdir()
        run("ip", "netns", "add", gateway.namespace)
        run("ip", "-n", gateway.namespace, "link", "set", "lo", "up")
        run("ip", "-n", gateway.namespace, "addr", "add", f"{gateway.protected}/24", "dev", "lo")
    run("ip", "link", "add", f"h{link}", "netns", hub.namespace, "type", "veth", "peer", "name", f"s{link}",
        "netns", spoke.namespace)  # fmt: skip
    for gateway, device in ((hub, f"h{link}"), (spoke, f"s{link}")):
        run("ip", "-n", gateway.namespace, "addr", "add", f"{gateway.address}/24", "dev", device)
        run("ip", "-n", gateway.namespace, "link", "set", device, "up")


@pytest.fixture
async def hub(pair: tuple[Gateway, Gateway]) -> AsyncIterator[Gateway]:
    """One gateway with a running charon."""
    await pair[0].start()
    return pair[0]


@pytest.fixture
async def both(pair: tuple[Gateway, Gateway]) -> AsyncIterator[tuple[Gateway, Gateway]]:
    """Two gateways with running charons."""
    await asyncio.gather(pair[0].start(), pair[1].start())
    return pair


def ike_key(number: int) -> tuple[bytes, str]:
    """A private seed and the public half in base64."""
    key = SigningKey(bytes([number]) * 32)
    return bytes(key), base64.b64encode(bytes(key.verify_key)).decode()


def tunnel(me: Gateway, peer: Gateway, initiator: bool, **changes: object) -> TunnelConfig:
    """One end's view of the tunnel between the two gateways; keys by the last part of the address."""
    own, other = int(me.address[-1]), int(peer.address[-1])
    fields: dict[str, object] = {
        "name": "hub+spoke",
        "policy": "p1",
        "priority": 100,
        "peer": peer.name,
        "initiator": initiator,
        "local_addrs": [me.address],
        "remote_addrs": [peer.address],
        "local_auth": {"identity": f"fqdn:{me.name}", "public_key": ike_key(own)[1]},
        "remote_auth": {"identity": f"fqdn:{peer.name}", "public_key": ike_key(other)[1]},
        "local_ts": [f"{me.protected[:-1]}0/24"],
        "remote_ts": [f"{peer.protected[:-1]}0/24"],
        "ike_proposals": ["aes256gcm16-prfsha384-x25519"],
        "esp_proposals": ["aes256gcm16-x25519"],
    }
    return TunnelConfig.model_validate(fields | changes)


class Watched:
    """A driver and everything it has told so far."""

    def __init__(self, gateway: Gateway, ledger: Path) -> None:
        self.gateway = gateway
        self.ledger = ledger
        seed = ike_key(int(gateway.address[-1]))[0]
        self.driver = StrongswanDriver(StrongswanPaths(gateway.vici), seed, Ledger(ledger))
        self.told: list[DriverEvent] = []
        self._more = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def tunnel(self, peer: "Watched", initiator: bool, **changes: object) -> TunnelConfig:
        return tunnel(self.gateway, peer.gateway, initiator, **changes)

    async def eventually(self, read: Callable[[], Awaitable[object]]) -> None:
        await eventually(read)

    async def start(self) -> None:
        await self.driver.initialize()
        self._task = asyncio.create_task(self._listen())
        await self.wait_for(lambda event: isinstance(event, DaemonUp))

    async def _listen(self) -> None:
        async for event in self.driver.events():
            self.told.append(event)
            self._more.set()

    async def wait_for(
        self, wanted: Callable[[DriverEvent], bool], within: float = 20.0, since: int = 0
    ) -> DriverEvent:
        async with asyncio.timeout(within):
            while True:
                for event in self.told[since:]:
                    if wanted(event):
                        return event
                self._more.clear()
                await self._more.wait()

    async def settled(self, since: int = 0) -> TunnelChanged:
        """The next news of the tunnel being up on its newest configuration."""
        event = await self.wait_for(lambda event: isinstance(event, TunnelChanged) and event.settled, since=since)
        assert isinstance(event, TunnelChanged)
        return event

    async def stop(self, teardown: bool = False) -> None:
        if self._task is not None:
            self._task.cancel()
        await self.driver.cleanup(teardown)


@pytest.fixture
async def ends(both: tuple[Gateway, Gateway]) -> AsyncIterator[tuple[Watched, Watched]]:
    """A driver on each of two gateways with running charons."""
    hub, spoke = (Watched(gateway, gateway.folder / "state" / "strongswan.json") for gateway in both)
    await asyncio.gather(hub.start(), spoke.start())
    yield hub, spoke
    await asyncio.gather(hub.stop(), spoke.stop())


TOKEN = "wj1_" + "a" * 16 + "_" + "b" * 52 + "_"
# An agent as its command starts it, which leaves the names of its modules behind.
STARTER = """
import atexit, json, sys
names = sys.argv.pop()
atexit.register(lambda: json.dump(sorted(name for name, it in sys.modules.items() if it), open(names, "w")))
from warren_agent.entry import main
main()
"""


class AgentProcess:
    """`warren-agent` beside one gateway's charon."""

    def __init__(self, gateway: Gateway, url: str, root: bytes) -> None:
        self.gateway = gateway
        self.state = gateway.folder / "agent"
        self.modules = gateway.folder / "modules.json"
        self.exit_code: int | None = None
        self._token = TOKEN + base64.b32encode(root).decode().rstrip("=").lower()
        self._process: asyncio.subprocess.Process | None = None
        self._environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            "WARREN_NATS_URL": url,
            "WARREN_STATE": str(self.state),
            "WARREN_PEER": gateway.name,
            "WARREN_VICI_SOCKET": str(gateway.vici),
            "WARREN_ENDPOINTS": gateway.address,
            "WARREN_SUBNETS": f"{gateway.protected[:-1]}0/24",
            "WARREN_LOG_FORMAT": "json",
        }

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        return (self.gateway.folder / "agent.log").read_text()

    async def enrol(self) -> None:
        process = await self._spawn("enrol", {"WARREN_JOIN_TOKEN": self._token})
        assert await process.wait() == 0, self.log

    async def start(self) -> None:
        self._process = await self._spawn("run", {})

    async def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            if process.returncode is None:
                process.terminate()
            self.exit_code = await asyncio.wait_for(process.wait(), 20)

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    async def _spawn(self, verb: str, more: dict[str, str]) -> asyncio.subprocess.Process:
        with (self.gateway.folder / "agent.log").open("ab") as log:
            return await asyncio.create_subprocess_exec(
                sys.executable, "-c", STARTER, verb, str(self.modules), env=self._environment | more, stdout=log, stderr=log
            )  # fmt: skip


class Control:
    """The smallest control plane on a real bus: registry and policy in one, whose truth is a signed Fleet."""

    def __init__(self, server: RealServer, callout: GrantingCallout) -> None:
        self.server, self.callout = server, callout
        self.fleet = Fleet()
        self._messages: list[tuple[str, BaseModel]] = []
        self._more = asyncio.Event()
        self._clients: dict[str, Client] = {}
        self._reader: asyncio.Task[None] | None = None

    @property
    def root(self) -> bytes:
        return base64.b64decode(self.fleet.identity("any").root)

    async def __aenter__(self) -> "Control":
        for name in ("registry", "policy", "metrics"):
            self._clients[name] = await nats.connect(
                self.server.url,
                nkeys_seed_str=self.server.settings(name).key().seed,
                inbox_prefix=inbox(name),
                max_reconnect_attempts=-1,
                reconnect_time_wait=0.1,
            )
        for spec in STREAMS.values():
            await declare(self._clients[spec.owner].jetstream(), spec)
        registry = self._clients["registry"]
        await registry.subscribe("warren.v1.rpc.agent.*.*", cb=self._agent_rpc)
        await registry.subscribe("warren.v1.rpc.enrol.*", cb=self._enrol)
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._reader is not None
        self._reader.cancel()
        for client in self._clients.values():
            await client.close()

    async def _enrol(self, message: Msg) -> None:
        request = EnrolRequest.model_validate_json(message.data)
        tag = "hub" if request.peer == "hub" else "branch"
        self.callout.enrol(message.subject.rsplit(".", 1)[-1], request.peer, (tag,))
        self.fleet.enrol(request.peer, tag)
        reply = EnrolReply(
            peer=request.peer, tags=(tag,), epoch=1, root=self.fleet.identity(request.peer).root,
            trust=self.fleet.trust_document(), enrolled_at=datetime.now(UTC),
        )  # fmt: skip
        await self._clients["registry"].publish(message.reply, reply.model_dump_json().encode())

    async def _agent_rpc(self, message: Msg) -> None:
        peer, verb = message.subject.split(".")[4:6]
        registry = self._clients["registry"]
        if verb == "announce":
            await self._announce(peer, Announcement.model_validate_json(message.data))
            reply = AnnounceReply(revision=self.fleet.revision, changed=True)
            await registry.publish(message.reply, reply.model_dump_json().encode())
            return
        if verb == "whoami":
            answer = self.fleet.whoami(peer)
        else:
            answer = self.fleet.page(peer, DirectoryPageRequest.model_validate_json(message.data))
        await registry.publish(message.reply, answer.payload, headers=answer.headers)

    async def _announce(self, peer: str, said: Announcement) -> None:
        record = PeerRecord(
            peer=peer, epoch=1, revision=self.fleet.next_revision(), tags=self.fleet.tags[peer], endpoints=said.endpoints,
            subnets=said.subnets, identity=peer, public_key=said.public_key, capabilities=said.capabilities,
        )  # fmt: skip
        self.fleet.records.setdefault("all", {})[peer] = record
        await self._store("registry", self.fleet.signed_record("all", peer))

    async def put_records(self, records: Iterable[PeerRecord]) -> None:
        """Peers that have no agent here."""
        for record in records:
            known = record.model_copy(update={"revision": self.fleet.next_revision()})
            self.fleet.records.setdefault("all", {})[record.peer] = known
            await self._store("registry", self.fleet.signed_record("all", record.peer))

    async def publish(self, *policies: Policy) -> None:
        """These policies, and no others, for everybody."""
        revision = self.fleet.next_revision()
        published = tuple(PublishedPolicy(revision=revision, policy=policy) for policy in policies)
        self.fleet.sets["all"] = PolicySet(
            reader="all", epoch=1, revision=revision, batch=("all",), policies=published
        )  # fmt: skip
        await self._store("policy", self.fleet.signed_set("all"))

    async def _store(self, service: str, message: SignedBytes) -> None:
        stream = self._clients[service].jetstream()
        await stream.publish(message.subject, message.payload, headers=message.headers)

    # telemetry

    async def _read(self) -> None:
        stream = self._clients["metrics"].jetstream()
        consumer = await stream.pull_subscribe("warren.v1.telemetry.>", durable="metrics", stream="TELEMETRY")
        while True:
            try:
                for message in await consumer.fetch(50, timeout=1):
                    peer, kind = message.subject.split(".")[3:5]
                    self._messages.append((peer, MODELS[kind].model_validate_json(message.data)))
                    await message.ack()
            except (NatsError, TimeoutError):
                await asyncio.sleep(0.05)
            self._more.set()

    @property
    def count(self) -> int:
        return len(self._messages)

    def all(self, model: type[BaseModel], since: int = 0) -> list[Any]:
        return [it for _, it in self._messages[since:] if isinstance(it, model)]

    async def more(self) -> None:
        """Wait for whatever comes next."""
        self._more.clear()
        await self._more.wait()

    async def silence(self, seconds: float) -> None:
        """Let time pass: what is measured is what happens by itself."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.Event().wait()

    async def told(
        self, model: type[BaseModel], peer: str, wanted: Callable[[Any], object], since: int = 0, within: float = 40
    ) -> Any:
        async with asyncio.timeout(within):
            while True:
                for sender, it in self._messages[since:]:
                    if sender == peer and isinstance(it, model) and wanted(it):
                        return it
                await self.more()

    # charons

    async def eventually(self, read: Callable[[], Awaitable[object]], within: float = 20) -> object:
        return await eventually(read, within)

    async def one_ike_sa(self, *ends: AgentProcess) -> bool:
        async def one() -> bool:
            found = [await ike_sas(end.gateway) for end in ends]
            return all(len(sas) == 1 and len(sas[0].children) == 1 for sas in found)

        return bool(await eventually(one, 40))

    async def no_ike_sa(self, *ends: AgentProcess) -> bool:
        async def none() -> bool:
            return not any([await ike_sas(end.gateway) for end in ends])

        return bool(await eventually(none))


MODELS: dict[str, type[BaseModel]] = {
    "presence": Presence, "report": Report, "tunnel": TunnelChange, "applied": Applied, "reason": Reason,
}  # fmt: skip


async def ike_sas(gateway: Gateway) -> list[IkeSa]:
    charon = Charon(gateway.vici)
    try:
        return await charon.sas()
    finally:
        await charon.close()


@pytest.fixture
async def fleet(
    both: tuple[Gateway, Gateway], tmp_path: Path
) -> AsyncIterator[tuple[Control, AgentProcess, AgentProcess]]:
    """A bus with a small control plane, and two enrolled agents at work beside their charons."""
    async with RealServer(tmp_path) as server, GrantingCallout(server) as callout, Control(server, callout) as control:
        agents = [AgentProcess(gateway, server.url, control.root) for gateway in both]
        try:
            await asyncio.gather(*(agent.enrol() for agent in agents))
            await asyncio.gather(*(agent.start() for agent in agents))
            yield control, agents[0], agents[1]
        finally:
            try:
                await asyncio.gather(*(agent.stop() for agent in agents))
            finally:
                for agent in agents:
                    print(agent.log[-6000:])
