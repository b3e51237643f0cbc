"""Every part killed at every step of a change: no frame in clear, and not a ping lost on the tunnels that nothing touches.

A cell is a part and a step: before the edit, at a command of the spoke's agent to its charon, or after the edit. `make
test-promises` runs all of them and prints a line for each; two stay in `make test`.
"""

import asyncio
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from warren_lab.runtime import make_runtime_folder
from warren_testkit.agent.process import AgentProcess
from warren_testkit.lab.fleet import EDITED, LIMIT_S, SERVICES, FleetBed, fleet_bed
from warren_testkit.waiting import eventually

pytestmark = [pytest.mark.root, pytest.mark.interop]

AT_HUB, AT_SPOKE = "charon of the hub", "charon of the spoke"
PARTS = ("agent", "guard", AT_SPOKE, AT_HUB, *SERVICES)
MOST_COMMANDS = 60
ROUNDS = 20


@dataclass(frozen=True)
class Result:
    """What one cell has shown."""

    cell: str
    sent: int
    clear: int
    lost: list[str]  # on the tunnels that nothing touches
    lost_edited: int  # on the tunnel that is edited; a part that carries it may be the one that was killed

    def __str__(self) -> str:
        return (
            f"{self.cell:40} {self.sent:6} pings  {self.clear} in clear  {len(self.lost)} lost untouched  "
            f"{self.lost_edited} lost on {EDITED}"
        )


@pytest.fixture
async def bed(namespaces: None) -> AsyncIterator[FleetBed]:
    folder = make_runtime_folder("warren-test-")
    try:
        async with fleet_bed(folder) as made:
            yield made
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def restart(bed: FleetBed, part: str) -> None:
    """Kill a part as SIGKILL does, and start it again unless a supervisor does."""
    spoke = bed.spoke
    if part in SERVICES:
        await bed.kill_service(part)
    elif part == "agent":
        await spoke.agent.kill()
        spoke.gate.release()
        await spoke.agent.start()
    elif part == "guard":
        await spoke.guard.kill()
        await spoke.guard.start()
    else:
        gateway = (bed.hub if part == AT_HUB else spoke).gateway
        await gateway.crash()
        await gateway.start()


def untouched_but(part: str) -> str:
    """The site whose tunnels end with a part: charon's data plane is in charon."""
    return {AT_HUB: "hub", AT_SPOKE: "spoke"}.get(part, "")


async def run_cell(bed: FleetBed, part: str, step: str | int) -> Result | None:
    """One cell; None if the edit took fewer commands than the step."""
    gate = bed.spoke.gate
    with bed.traffic() as traffic:
        await traffic.answered()
        reached = True
        if step == "before":
            await restart(bed, part)
            await bed.edit()
        elif step == "after":
            await bed.edit()
            await bed.stands()
            await restart(bed, part)
        else:
            gate.hold_at(int(step))
            await bed.edit()
            reached = await _reached_or_stands(bed)
            try:
                if reached:
                    await restart(bed, part)
            finally:
                gate.release()
        await bed.stands()
        await traffic.answered()
    if not reached:
        return None
    clear, lost = len(traffic.clear()), traffic.lost(without=untouched_but(part))
    return Result(f"{part}, {step}", traffic.sent(), clear, lost, len(traffic.lost(edited=True)))


async def _reached_or_stands(bed: FleetBed) -> bool:
    """Whether the agent has come to the held command; False when the edit stands without."""
    standing = asyncio.create_task(bed.stands())
    try:
        await eventually(lambda: bed.spoke.gate.reached.is_set() or standing.done(), LIMIT_S, "the held command")
        return bed.spoke.gate.reached.is_set()
    finally:
        standing.cancel()
        await asyncio.gather(standing, return_exceptions=True)


@pytest.mark.promises
@pytest.mark.timeout(1200)
async def test_agents_of_all_sites_that_start_again_touch_nothing_and_announce_nothing(
    bed: FleetBed, capsys: pytest.CaptureFixture[str]
) -> None:
    """Twenty times, stopped and killed: an announcement by wall-clock seconds would differ in some of them."""
    await bed.stands()
    records = {it.record.peer: it.record for it in await bed.api.peers()}
    before = [await site.gateway.held() for site in bed.sites]
    with bed.traffic() as traffic:
        await traffic.answered()
        for number in range(ROUNDS):
            stop = AgentProcess.kill if number % 2 else AgentProcess.stop
            await asyncio.gather(*(stop(site.agent) for site in bed.sites))
            written = [len(site.agent.log) for site in bed.sites]
            await asyncio.gather(*(site.agent.start() for site in bed.sites))
            for site, length in zip(bed.sites, written, strict=True):
                await eventually(lambda: has_settled(site.agent.log[length:]), LIMIT_S, f"the agent of {site.name}")  # noqa: B023
        await traffic.answered()
    assert [await site.gateway.held() for site in bed.sites] == before
    assert {it.record.peer: it.record for it in await bed.api.peers()} == records
    lost = [*traffic.lost(), *traffic.lost(edited=True)]
    with capsys.disabled():
        text = "agents: {} starts, {} pings, {} in clear, {} lost"
        print(text.format(3 * ROUNDS, traffic.sent(), len(traffic.clear()), len(lost)), flush=True)
    assert traffic.clear() == []
    assert lost == []


def has_settled(log: str) -> bool:
    """Whether an agent has applied its intent, and the registry has its announcement."""
    return '"event": "intent.applied"' in log and '"event": "announcement.accepted"' in log


def wrong(results: list[Result]) -> list[Result]:
    return [it for it in results if it.clear or it.lost]


@pytest.mark.timeout(900)
async def test_agent_killed_in_an_edit_and_the_bus_after_it_lose_nothing_on_other_tunnels(bed: FleetBed) -> None:
    results = [await run_cell(bed, "agent", 3), await run_cell(bed, "nats-server", "after")]
    found = [it for it in results if it is not None]
    assert len(found) == 2
    assert wrong(found) == []


def steps(commands: int) -> list[str | int]:
    return ["before", *range(1, commands + 1), "after"]


@pytest.mark.promises
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("part", PARTS)
async def test_part_killed_at_every_step_of_an_edit(
    bed: FleetBed, capsys: pytest.CaptureFixture[str], part: str
) -> None:
    results: list[Result] = []
    commands = MOST_COMMANDS
    for step in steps(MOST_COMMANDS):
        if isinstance(step, int) and step > commands:
            continue
        result = await run_cell(bed, part, step)
        if result is None:
            commands = int(step)  # the edit has come to its end
            continue
        results.append(result)
        with capsys.disabled():
            print(result, flush=True)
    totals = [sum(it.sent for it in results), sum(it.clear for it in results), sum(len(it.lost) for it in results)]
    with capsys.disabled():
        text = "{}: {} cells, {} pings, {} in clear, {} lost on untouched tunnels"
        print(text.format(part, len(results), *totals), flush=True)
    assert len(results) > 5
    assert wrong(results) == []
