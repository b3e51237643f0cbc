"""`one_of_1000`: one changed tunnel of a thousand, through the driver, next to `swanctl --load-all`.

Both speak to a charon 5.9.8 of their own that holds the same thousand connections. Ours has a thousand established tunnels
meanwhile, and after all changes every other tunnel must have the SPIs that it had before: else the run fails.
"""

from __future__ import annotations

import asyncio
import base64
import subprocess
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address

from harness import MIN_RUNS, Bench, Rival, Row, compared
from nacl.signing import SigningKey

from warren_agent.drivers.port import AttemptFailed, DaemonTunnelChanged, DaemonUp
from warren_agent.drivers.strongswan.driver import StrongswanDriver
from warren_agent.drivers.strongswan.ledger import Ledger
from warren_agent.drivers.strongswan.settings import StrongswanPaths
from warren_contracts.tunnel import Tunnel
from warren_lab.charon import Charon
from warren_lab.lab import Lab
from warren_testkit.intent import ipsec_tunnel

TUNNELS = 1_000
RUNS = MIN_RUNS
TARGET = 50.0
LIMIT = 240.0  # s for all tunnels to come up; measured: 50 s, all of it charon's (it looks raw keys up one by one)
ED25519_PKCS8 = bytes.fromhex("302e020100300506032b657004220420")  # RFC 8410, section 7
ED25519_SPKI = bytes.fromhex("302a300506032b6570032100")  # RFC 8410, section 4


@dataclass(frozen=True)
class End:
    """One of the two gateways: its WAN address, its key and the first of its protected addresses."""

    name: str
    wan: str
    inner: IPv4Address
    key: SigningKey

    @property
    def public(self) -> str:
        return base64.b64encode(bytes(self.key.verify_key)).decode()


INITIATOR = End("i", "192.0.2.1", IPv4Address("10.1.0.1"), SigningKey(b"i" * 32))
RESPONDER = End("r", "192.0.2.2", IPv4Address("10.2.0.1"), SigningKey(b"r" * 32))


def _config(own: End, peer: End, number: int, esp: str = "aes256gcm16") -> Tunnel:
    auth = {
        side: {"kind": "raw-key", "identity": f"fqdn:{end.name}{number}", "public_key": end.public}
        for side, end in (("local_auth", own), ("remote_auth", peer))
    }
    networks = {"local_ts": [f"{own.inner + number}/32"], "remote_ts": [f"{peer.inner + number}/32"]}
    return ipsec_tunnel(
        name=f"t{number}", policy="bench", peer=peer.name, initiator=own is INITIATOR, local_endpoints=[own.wan],
        remote_endpoints=[peer.wan], link=auth, child={**networks, "proposals": [esp]},
    )  # fmt: skip


def _gateway(lab: Lab, end: End) -> Charon:
    """A namespace with all protected addresses (charon must find them when it starts), and its charon."""
    namespace = lab.namespace(end.name)
    batch = "".join(f"address add {end.inner + number}/32 dev lo\n" for number in range(TUNNELS))
    subprocess.run(namespace.argv(["ip", "-batch", "-"]), input=batch, text=True, check=True, timeout=60)
    return lab.charon(namespace)


class Watched:
    """A driver, and the tunnels that it has reported as converged."""

    def __init__(self, charon: Charon, end: End) -> None:
        self.driver = StrongswanDriver(StrongswanPaths(charon.vici_path), bytes(end.key), Ledger())
        self.converged: set[str] = set()
        self.up = asyncio.Event()
        self.all_settled = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self.driver.initialize()
        self.task = asyncio.create_task(self._listen())
        await asyncio.wait_for(self.up.wait(), LIMIT)

    async def stop(self) -> None:
        if self.task is not None:
            self.task.cancel()
        await self.driver.cleanup()

    async def _listen(self) -> None:
        async for event in self.driver.events():
            match event:
                case DaemonUp():
                    self.up.set()
                case AttemptFailed(name=name, final=True):
                    await self.driver.start_tunnel(name)
                case DaemonTunnelChanged(name=name, converged=True):
                    self.converged.add(name)
                    if len(self.converged) == TUNNELS:
                        self.all_settled.set()

    async def spis(self) -> dict[str, tuple[str, ...]]:
        """The inbound SPIs of each tunnel."""
        return {
            tunnel.name: tuple(sa.spi_in for sa in tunnel.link.children) for tunnel in await self.driver.list_tunnels()
        }


@asynccontextmanager
async def _established(lab: Lab) -> AsyncIterator[Watched]:
    """A thousand tunnels between two charons; gives the initiator's driver."""
    charons = {end: _gateway(lab, end) for end in (INITIATOR, RESPONDER)}
    first, second = (charon.namespace for charon in charons.values())
    lab.link(first, "wan", f"{INITIATOR.wan}/24", second, "wan", f"{RESPONDER.wan}/24")
    for charon in charons.values():
        charon.start()
    ends = [Watched(charon, end) for end, charon in charons.items()]
    await asyncio.gather(*(end.start() for end in ends))
    try:
        for number in range(TUNNELS):
            await ends[1].driver.create_tunnel(_config(RESPONDER, INITIATOR, number))
            await ends[0].driver.create_tunnel(_config(INITIATOR, RESPONDER, number))
        for number in range(TUNNELS):
            await ends[0].driver.start_tunnel(f"t{number}")
        await asyncio.wait_for(ends[0].all_settled.wait(), LIMIT)
        yield ends[0]
    finally:
        await asyncio.gather(*(end.stop() for end in ends))


class Swanctl:
    """The rival: a charon of its own, and the files that swanctl reads."""

    def __init__(self, lab: Lab) -> None:
        self.charon = _gateway(lab, End("s", INITIATOR.wan, INITIATOR.inner, INITIATOR.key))
        self.folder = self.charon.folder / "swanctl"
        for name, data in (
            ("private", ED25519_PKCS8 + bytes(INITIATOR.key)),
            ("pubkey", ED25519_SPKI + bytes(INITIATOR.key.verify_key)),
            ("pubkey", ED25519_SPKI + bytes(RESPONDER.key.verify_key)),
        ):
            folder = self.folder / name
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"key{len(list(folder.iterdir()))}.der").write_bytes(data)

    def write(self, changed: int, esp: str) -> None:
        """All connections, of which one differs."""
        connections = "".join(
            _section(number, esp if number == changed else "aes256gcm16") for number in range(TUNNELS)
        )
        (self.folder / "swanctl.conf").write_text(f"connections {{\n{connections}}}\n")

    def restart(self) -> None:
        """A fresh charon with all connections unchanged: 5.9.8 grows slower with every reload of raw public keys."""
        self.charon.restart()
        self.write(0, "aes256gcm16")
        self.load_all()

    def load_all(self) -> None:
        command = ["swanctl", "--load-all", "--noprompt", "--uri", f"unix://{self.charon.vici_path}"]
        subprocess.run(
            [*command, "--file", str(self.folder / "swanctl.conf")],
            env={"SWANCTL_DIR": str(self.folder), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            check=True, capture_output=True, timeout=60,
        )  # fmt: skip


def _section(number: int, esp: str) -> str:
    config = _config(INITIATOR, RESPONDER, number, esp)
    return f"""t{number} {{
  version = 2
  local_addrs = {INITIATOR.wan}
  remote_addrs = {RESPONDER.wan}
  proposals = aes256gcm16-prfsha384-x25519
  local {{
    auth = pubkey
    id = {config.link.local_auth.identity}
    pubkeys = key0.der
  }}
  remote {{
    auth = pubkey
    id = {config.link.remote_auth.identity}
    pubkeys = key1.der
  }}
  children {{
    t{number} {{
      local_ts = {config.link.children[0].local_ts[0]}
      remote_ts = {config.link.children[0].remote_ts[0]}
      esp_proposals = {esp}
    }}
  }}
}}
"""


async def _measure() -> Row:
    with Lab("wb") as lab:
        rival = Swanctl(lab)
        async with _established(lab) as watched:
            before = await watched.spis()
            ours, theirs = [], []
            for run in range(RUNS):
                esp = ("aes128gcm16", "aes256gcm16")[run % 2]
                ours.append(await _change_one(watched.driver, run, esp))
                await asyncio.to_thread(rival.restart)
                rival.write(run, "aes128gcm16")
                theirs.append(await asyncio.to_thread(_seconds, rival))
            after = await watched.spis()
    touched = [name for name, spis in before.items() if after[name] != spis]
    if touched:
        raise RuntimeError(f"SAs of {', '.join(touched)} were touched")
    if len(before) != TUNNELS or not all(before.values()):
        raise RuntimeError(f"only {sum(map(bool, before.values()))} of {TUNNELS} tunnels were established")
    return compared(
        "one_of_1000", ours, Rival("swanctl --load-all", theirs), "ms", better="lower", target=TARGET,
        note="the proposals of one CHILD_SA of 1,000 loaded; our charon holds 1,000 established SAs, none was touched",
    )  # fmt: skip


async def _change_one(driver: StrongswanDriver, number: int, esp: str) -> float:
    config = _config(INITIATOR, RESPONDER, number, f"{esp}-ecp256")
    start = time.perf_counter()
    await driver.update_tunnel(config)
    return (time.perf_counter() - start) * 1e3


def _seconds(rival: Swanctl) -> float:
    start = time.perf_counter()
    rival.load_all()
    return (time.perf_counter() - start) * 1e3


def run() -> Iterable[Row]:
    yield asyncio.run(_measure())


BENCHES = (Bench(("one_of_1000",), run, "one changed tunnel of a thousand"),)
