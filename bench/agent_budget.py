"""`agent_memory`, `agent_cpu`: what one agent costs on its gateway with a hundred established tunnels, reports on.

The whole stack runs, in a sandbox of its own: two gateways with a charon each, joined by a policy of a hundred explicit
tunnels. After all are up at both ends and a settling time, one quiet minute is measured from /proc of the agent's process.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from harness import Bench, Row, absolute

from warren_cli.demo.agents import Agents
from warren_cli.demo.api import Api
from warren_cli.demo.fleet import MANAGEMENT_ADDRESS, Gateway, build_fleet
from warren_cli.lab import Lab
from warren_cli.local.stack import Stack, StackOptions
from warren_cli.process import eventually
from warren_cli.run_as import in_sandbox
from warren_contracts.policy import Policy
from warren_contracts.status import TunnelState

TUNNELS = 100
MEMORY_TARGET_MB = 50.0
CPU_TARGET_PERCENT = 1.0
SETTLE_SECONDS = 15.0  # the last tunnel's reports, and what a reconnect would ask for
QUIET_SECONDS = 60.0
UP_LIMIT = 180.0  # s
RUNS = 5  # minutes
SPOKE, HUB = "spoke-1", "hub"
INNER = {HUB: IPv4Address("10.80.0.10"), SPOKE: IPv4Address("10.80.1.10")}  # within the subnets that the two announce


@dataclass(frozen=True)
class Sample:
    """One quiet minute of one agent."""

    resident_mb: float
    cpu_percent: float


def _policy() -> Policy:
    tunnels = [
        {
            "name": f"t{number}",
            "ends": [{"peer": peer, "subnets": [f"{first + number}/32"]} for peer, first in INNER.items()],
        }
        for number in range(TUNNELS)
    ]
    return Policy.model_validate({"id": "hundred", "tunnels": tunnels})


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
        return sum(tunnel.state is TunnelState.UP and len(tunnel.ends) == 2 for tunnel in tunnels) == TUNNELS

    await eventually(up, f"{TUNNELS} tunnels are up at both ends", UP_LIMIT)


async def _inside(data: Path) -> list[Sample]:
    with Lab("wq") as lab:
        async with contextlib.AsyncExitStack() as resources:
            gateways = {name: gateway for name, gateway in build_fleet(lab).items() if name in INNER}
            for name, gateway in gateways.items():
                _add_addresses(gateway, INNER[name])
                gateway.charon.restart()  # it learns addresses at its start; later ones it may learn too late
            stack = await resources.enter_async_context(
                Stack(StackOptions(data, bind=str(MANAGEMENT_ADDRESS), http_bind="127.0.0.1"))
            )
            api = await resources.enter_async_context(Api(stack.info.url, stack.info.token_file))
            agents = Agents(gateways, stack.info.nats_url, data)
            resources.push_async_callback(agents.stop)
            await agents.join(api)
            await api.apply(_policy())
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
