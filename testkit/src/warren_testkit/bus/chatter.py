"""A peer that talks, as a process of its own: `python -m warren_testkit.bus.chatter URL SEED_FILE PEER KIND SIZE COUNT PAUSE`.

It publishes COUNT messages of SIZE bytes on its own subject of KIND, PAUSE seconds apart, and ends (0: as fast as the server
takes them). An honest peer of a test must not share a process, and so its CPU time, with one that floods.
"""

import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path

from warren_bus.client_subjects import inbox
from warren_bus.connection import Connection
from warren_bus.settings import BusSettings
from warren_contracts import subjects
from warren_contracts.telemetry import AgentState, Presence

FLUSH_EVERY = 10  # messages
FLUSH_TIMEOUT = 60  # s


async def chatter(settings: BusSettings, peer: str, kind: str, size: int, count: int, pause: float) -> None:
    """Talk; every message is a heartbeat, filled up with white space."""
    async with Connection(settings, name=peer, inbox_prefix=inbox(peer)) as connection:
        client = await connection.wait_connected()
        for number in range(count):
            now = datetime.now(UTC)
            said = Presence(state="online", at=now, agent=AgentState.WATCH, started_at=now)
            await client.publish(subjects.telemetry(peer, kind), said.model_dump_json().encode().ljust(size))
            if pause:
                await asyncio.sleep(pause)
            elif number % FLUSH_EVERY == 0:
                await client.flush(FLUSH_TIMEOUT)
        await client.flush(FLUSH_TIMEOUT)


if __name__ == "__main__":
    url, seed, peer, kind, size, count, pause = sys.argv[1:]
    asyncio.run(chatter(BusSettings((url,), Path(seed)), peer, kind, int(size), int(count), float(pause)))
