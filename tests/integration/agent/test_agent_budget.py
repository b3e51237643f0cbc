"""The agent's budget with 100 established tunnels: resident memory and CPU while nothing happens but reports."""

import asyncio
import base64
import contextlib
import os
import time
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path

import pytest
from nacl.signing import SigningKey

from warren_agent.drivers.strongswan.charon import CharonClient
from warren_agent.drivers.strongswan.connections import HandleName, build_connection
from warren_contracts.peers import KeyUse, PeerKey, PeerRecord
from warren_contracts.policy import Policy, PublishedPolicy
from warren_contracts.status import TunnelState
from warren_contracts.telemetry import Report
from warren_intent.expand import expand
from warren_testkit.agent.process import AgentPair

pytestmark = [pytest.mark.root, pytest.mark.interop]

TUNNELS = 100
MAX_RESIDENT = (
    49_000_000  # bytes; measured: 47.6 MB. The budget is 50 MB, on every gateway and with whatever may happen there
)
MAX_CPU = 0.01  # of one core
WINDOWS = 5  # in one of which it must stay below
QUIET = float(os.environ.get("WARREN_BUDGET_SECONDS", "12"))  # s

STAR = Policy.model_validate(
    {"id": "star", "topology": {"kind": "hub-spoke", "hubs": ["tag=hub"], "spokes": ["tag=branch"]}}
)


def spokes(endpoint: str) -> Iterator[tuple[PeerRecord, SigningKey]]:
    """A hundred peers that live in one charon: each with an identity, a key and a subnet of its own."""
    for number in range(TUNNELS):
        key = SigningKey(number.to_bytes(32, "big"))
        record = PeerRecord(
            peer=f"spoke-{number}", epoch=1, revision=1, tags=("branch",), endpoints=(endpoint,),
            identity=f"spoke-{number}", subnets=(ip_network(f"10.77.{number}.0/24"),),
            keys=(PeerKey(use=KeyUse.IKE, public=base64.b64encode(bytes(key.verify_key)).decode()),),
        )  # fmt: skip
        yield record, key


async def bring_up(charon: CharonClient, members: list[tuple[PeerRecord, SigningKey]], hub: PeerRecord) -> None:
    """Load and start the spokes' ends of all tunnels in their one charon."""
    directory = {record.peer: record for record, _ in members} | {hub.peer: hub}
    abilities = await charon.abilities()
    published = [PublishedPolicy(revision=1, policy=STAR)]
    for record, key in members:
        (config,) = expand(published, directory, record.peer)
        handle, child = HandleName(config.name, 1), HandleName(config.name, 1, "net")
        await charon.load_key(bytes(key), abilities)
        await charon.load_connection(build_connection(config, handle, [child], abilities))
        await charon.initiate(handle, child)


def usage(pid: int) -> tuple[int, float]:
    """Resident bytes and CPU seconds of a process, as the kernel counts them."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return resident, (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def quiet() -> None:
    """Let time pass: what is measured is what happens by itself."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(QUIET):
            await asyncio.Event().wait()


@pytest.mark.timeout(600)
async def test_hundred_tunnels_stay_within_the_budget(fleet: AgentPair) -> None:
    control, hub, spoke = fleet
    await spoke.stop()
    await spoke.gateway.stop()
    for number in range(TUNNELS):  # kernel-libipsec wants an address in every protected network before charon starts
        spoke.gateway.add_address(f"10.77.{number}.1/24")
    await spoke.gateway.start()
    async with asyncio.timeout(90):
        while "hub" not in control.records:
            await control.more()
    members = list(spokes(spoke.gateway.address))
    await control.put_records(record for record, _ in members)
    await control.publish(STAR)
    charon = CharonClient(spoke.gateway.vici)

    async def complete(since: int) -> None:
        """Wait until all tunnels are reported up; a report comes in parts."""
        up: set[str] = set()

        def more_are_up(report: Report) -> bool:
            up.update(it.name for it in report.tunnels if it.state is TunnelState.UP)
            return len(up) == TUNNELS

        await control.received(Report, "hub", more_are_up, since=since, within=180)

    try:
        await control.received(Report, "hub", lambda it: len(it.tunnels) == TUNNELS)
        await bring_up(charon, members, control.records["hub"])
        await complete(0)
    finally:
        await charon.close()
    await complete(control.count)
    for _ in range(
        WINDOWS
    ):  # the last of what brought the tunnels up may still be at work, and a busy core is a slow one
        (_, before), began = usage(hub.pid), time.monotonic()
        await quiet()
        resident, after = usage(hub.pid)
        share = (after - before) / (time.monotonic() - began)
        print(f"resident {resident / 1e6:.2f} MB, cpu {share:.2%} of a core")
        assert resident <= MAX_RESIDENT
        if share <= MAX_CPU:
            break
    assert share <= MAX_CPU
