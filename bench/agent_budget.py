"""`agent_memory`, `agent_cpu`: what one agent costs on its gateway with a hundred established tunnels, reports on.

The whole stack runs, in a sandbox of its own, with one gateway whose policy names a hundred foreign gateways; these are a
hundred identities of a second charon. After all tunnels are up and a settling time, quiet minutes are measured from /proc of
the agent's process.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from harness import Bench, Row, absolute
from nacl.signing import SigningKey

from warren_agent.drivers.port import DaemonUp
from warren_agent.drivers.strongswan.driver import StrongswanDriver
from warren_agent.drivers.strongswan.ledger import Ledger
from warren_agent.drivers.strongswan.settings import StrongswanPaths
from warren_contracts.peers import KeyUse, PeerRecord
from warren_contracts.policy import Policy
from warren_contracts.status import TunnelState
from warren_contracts.tunnel import Tunnel
from warren_lab.lab import Lab
from warren_lab.process import eventually
from warren_lab.sandbox import in_sandbox
from warren_stack.demo.agents import Agents
from warren_stack.demo.api import Api
from warren_stack.demo.fleet import MANAGEMENT_ADDRESS, Gateway, build_fleet
from warren_stack.stack import Stack, StackOptions
from warren_testkit.agent.process import unit_environment
from warren_testkit.intent import ipsec_tunnel

TUNNELS = 100
MEMORY_TARGET_MB = 50.0
CPU_TARGET_PERCENT = 1.0
SETTLE_SECONDS = 15.0  # the last tunnel's reports, and what a reconnect would ask for
QUIET_SECONDS = 60.0
UP_LIMIT = 180.0  # s
RUNS = 5  # minutes
SPOKE, HUB = "spoke-1", "hub"
INNER = {HUB: IPv4Address("10.80.0.10"), SPOKE: IPv4Address("10.80.1.10")}  # the first protected addresses of each
FOREIGN_KEY = SigningKey(b"f" * 32)
IKE, ESP = "aes256gcm16-prfsha384-x25519", "aes256gcm16-x25519"


@dataclass(frozen=True)
class Sample:
    """One quiet minute of one agent."""

    resident_mb: float
    cpu_percent: float


def _text(key: bytes) -> str:
    return base64.b64encode(key).decode()


def _foreign(number: int, wan: str) -> dict[str, object]:
    return {
        "identity": f"fqdn:foreign-{number}", "public_key": _text(bytes(FOREIGN_KEY.verify_key)),
        "addresses": [wan], "subnets": [f"{INNER[HUB] + number}/32"],
    }  # fmt: skip


def _policy(foreign_wan: str) -> Policy:
    tunnels = [
        {
            "name": f"t{number}",
            "ends": [{"peer": SPOKE, "subnets": [f"{INNER[SPOKE] + number}/32"]}, _foreign(number, foreign_wan)],
        }
        for number in range(TUNNELS)
    ]
    return Policy.model_validate({"id": "hundred", "tunnels": tunnels, "crypto": {"ike": [IKE], "esp": [ESP]}})


def _foreign_side(number: int, own_wan: str, agent: PeerRecord) -> Tunnel:
    """The foreign gateway's view of one tunnel."""
    auth = {"kind": "raw-key", "identity": f"fqdn:foreign-{number}", "public_key": _text(bytes(FOREIGN_KEY.verify_key))}
    return ipsec_tunnel(
        name=f"t{number}", policy="foreign", peer=None, initiator=False,
        local_endpoints=[own_wan], remote_endpoints=[str(endpoint) for endpoint in agent.endpoints],
        link={
            "local_auth": auth,
            "remote_auth": {"kind": "raw-key", "identity": agent.identity, "public_key": agent.key(KeyUse.IKE)},
        },
        ike={"proposals": [IKE]},
        child={
            "local_ts": [f"{INNER[HUB] + number}/32"], "remote_ts": [f"{INNER[SPOKE] + number}/32"], "proposals": [ESP],
        },
    )  # fmt: skip


@contextlib.asynccontextmanager
async def _foreign_gateway(gateway: Gateway, agent: PeerRecord) -> AsyncIterator[None]:
    """A charon that answers as a hundred gateways that no agent of ours manages."""
    driver = StrongswanDriver(
        StrongswanPaths(Path(gateway.daemon.agent_settings["WARREN_VICI_SOCKET"])), bytes(FOREIGN_KEY), Ledger()
    )
    await driver.initialize()
    try:
        async for event in driver.events():
            if isinstance(event, DaemonUp):
                break
        for number in range(TUNNELS):
            await driver.create_tunnel(_foreign_side(number, str(gateway.plan.wan.ip), agent))
        yield
    finally:
        await driver.cleanup()


def _add_addresses(gateway: Gateway, first: IPv4Address) -> None:
    batch = "".join(f"address add {first + number}/32 dev lo\n" for number in range(TUNNELS))
    command = gateway.namespace.argv(["ip", "-batch", "-"])
    subprocess.run(command, input=batch, text=True, check=True, timeout=30)


def _resident_mb(process_id: int) -> float:
    line = next(
        line for line in Path(f"/proc/{process_id}/status").read_text().splitlines() if line.startswith("VmRSS")
    )
    return int(line.split()[1]) * 1024 / 1e6


def _cpu_seconds(process_id: int) -> float:
    fields = Path(f"/proc/{process_id}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # utime, stime: proc_pid_stat(5), 14 and 15


async def _all_up(api: Api) -> None:
    async def up() -> bool:
        tunnels = await api.tunnels()
        return sum(tunnel.state is TunnelState.UP for tunnel in tunnels) == TUNNELS

    await eventually(up, f"{TUNNELS} tunnels are up", UP_LIMIT)


async def _inside(data: Path) -> list[Sample]:
    with Lab("wq") as lab:
        async with contextlib.AsyncExitStack() as resources:
            gateways = {name: gateway for name, gateway in build_fleet(lab, "strongswan").items() if name in INNER}
            for name, gateway in gateways.items():
                _add_addresses(gateway, INNER[name])
                gateway.daemon.stop()  # it learns addresses at its start; later ones it may learn too late
                gateway.daemon.start()
            stack = await resources.enter_async_context(
                Stack(StackOptions(data, bind=str(MANAGEMENT_ADDRESS), http_bind="127.0.0.1"))
            )
            api = await resources.enter_async_context(Api(stack.info.url, stack.info.token_file))
            agents = Agents({SPOKE: gateways[SPOKE]}, stack.info.nats_url, data, unit_environment())
            resources.push_async_callback(agents.stop)
            await agents.join(api)
            (agent,) = await api.peers()
            await resources.enter_async_context(_foreign_gateway(gateways[HUB], agent.record))
            await api.apply(_policy(str(gateways[HUB].plan.wan.ip)))
            await _all_up(api)
            await asyncio.sleep(SETTLE_SECONDS)
            process_id = agents.process_id(SPOKE)
            samples = []
            for _ in range(RUNS):
                before, began = _cpu_seconds(process_id), time.monotonic()
                await asyncio.sleep(QUIET_SECONDS)
                cpu = 100 * (_cpu_seconds(process_id) - before) / (time.monotonic() - began)
                samples.append(Sample(_resident_mb(process_id), cpu))
            await _all_up(api)
            return samples


def run() -> Iterable[Row]:
    with tempfile.TemporaryDirectory(prefix="wab-") as folder:
        os.chmod(folder, 0o755)  # noqa: S103 - PostgreSQL runs as nobody and must reach its own folder inside
        command = in_sandbox([sys.executable, __file__, folder], own_user_namespace=os.geteuid() != 0)
        limit = UP_LIMIT + RUNS * (QUIET_SECONDS + 5) + 120
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=limit)
    samples = [Sample(**entry) for entry in json.loads(done.stdout.splitlines()[-1])]
    note = f"{TUNNELS} established tunnels, strongSwan driver, reports every 10 s; the initiator's agent, quiet minutes"
    yield absolute(
        "agent_memory",
        [sample.resident_mb for sample in samples],
        "MB",
        better="lower",
        target=MEMORY_TARGET_MB,
        note=note,
    )
    yield absolute(
        "agent_cpu", [sample.cpu_percent for sample in samples], "% of a core", better="lower",
        target=CPU_TARGET_PERCENT, note=note,
    )  # fmt: skip


BENCHES = (Bench(("agent_memory", "agent_cpu"), run, "what one agent costs"),)

if __name__ == "__main__":
    measured = asyncio.run(_inside(Path(sys.argv[1]) / "data"))
    print(json.dumps([{"resident_mb": sample.resident_mb, "cpu_percent": sample.cpu_percent} for sample in measured]))
