"""Two gateways in network namespaces, joined by a veth pair, each with a charon of its own and a protected address."""

import asyncio
import base64
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from nacl.signing import SigningKey

from warren_agent.drivers.port import DaemonUp, DriverEvent, TunnelChanged
from warren_agent.drivers.strongswan.driver import StrongswanDriver, StrongswanPaths
from warren_agent.drivers.strongswan.ledger import Ledger
from warren_agent.drivers.strongswan.vici_client import ViciConnection
from warren_agent.errors import DriverUnavailableError
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
