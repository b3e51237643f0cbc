"""One peer floods its own telemetry subjects: the others and the services notice nothing."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from warren_contracts.peers import PresenceState
from warren_contracts.telemetry import KINDS, MAX_TELEMETRY, PRESENCE, REPORT
from warren_testkit.registry.stack import LIMIT, Agent, Stack, until

MESSAGES = 400
AS_LARGE_AS_THE_SERVER_TAKES = 500_000  # bytes


@asynccontextmanager
async def talking(
    agent: Agent, kind: str, size: int, count: int, pause: float
) -> AsyncIterator[asyncio.subprocess.Process]:
    """The agent in a process of its own."""
    words = (
        *agent.settings.servers,
        str(agent.settings.nkey_file),
        agent.name,
        kind,
        str(size),
        str(count),
        str(pause),
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "warren_testkit.bus.chatter", *words)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def finished(process: asyncio.subprocess.Process) -> None:
    assert await asyncio.wait_for(process.wait(), 120) == 0


async def test_a_flood_neither_cuts_the_registry_off_nor_hides_an_honest_heartbeat(stack: Stack) -> None:
    honest, evil = await stack.agent("honest"), await stack.agent("evil")
    await honest.leave()
    await evil.leave()
    registry: Any = stack.registry
    async with talking(honest, PRESENCE, 0, 2_000, 0.2):

        async def seen() -> bool:
            peer = await stack.peer("honest")
            return peer.presence is PresenceState.ONLINE and peer.last_seen is not None and peer.last_seen > since

        since = datetime.now(UTC)
        await until(seen, what="the first heartbeat")
        for kind in (PRESENCE, REPORT):
            async with talking(evil, kind, AS_LARGE_AS_THE_SERVER_TAKES, MESSAGES, 0) as flood:
                registry.send(signal.SIGSTOP)  # busy with something else: messages meanwhile wait for it
                try:
                    await finished(flood)
                finally:
                    registry.send(signal.SIGCONT)
            since = datetime.now(UTC)
            await until(seen, what=f"a heartbeat after the flood of {kind}", limit_s=LIMIT)
    assert "Slow Consumer" not in stack.bus.log()
    assert registry.text().count('"bus.disconnected"') == 0
    stored = sum(file.stat().st_size for file in (stack.bus.folder / "store").rglob("*") if file.is_file())
    assert stored < 10_000_000


async def test_a_flood_within_all_limits_takes_its_own_part_of_the_store_and_no_more(stack: Stack) -> None:
    evil = await stack.agent("evil")
    await evil.leave()
    for kind in KINDS:
        async with talking(evil, kind, 60_000, 600, 0) as flood:
            await finished(flood)
    metrics = await stack.service("metrics")
    js = metrics.client.jetstream()
    telemetry = (await js.stream_info("TELEMETRY")).state
    assert telemetry.messages == 4 * 512
    assert telemetry.bytes < 4 * 512 * MAX_TELEMETRY
    assert (await js.stream_info("PRESENCE")).state.messages == 0  # each was too large
