"""`cut_off_return`: how long an agent whose bus a change has cut off stays away, with the default time to confirm a change.

The whole path: a policy sends everything into a tunnel, a rule of routing that somebody has made leads the bus there too, the agent
takes the change back by itself, and its next heartbeat arrives.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Iterable

from harness import Bench, Row, absolute

from warren_contracts.telemetry import Presence
from warren_lab.charon_conf import IpsecBackend
from warren_lab.runtime import make_runtime_folder
from warren_testkit.lab.bus_bed import bus_bed, wide
from warren_testkit.waiting import eventually

CONFIRM_WITHIN = 120  # s, the default of --confirm-within
LIMIT_S = 240.0
TARGET_S = 150.0


async def _measured() -> float:
    """Seconds from the route into the tunnel to the first heartbeat after the rollback."""
    folder = make_runtime_folder("warren-bench-")
    try:
        async with bus_bed(folder, IpsecBackend.LIBIPSEC, CONFIRM_WITHIN) as bed:
            agent, spoke = bed.agents[1], bed.spoke.namespace
            await bed.bus_is_reached()
            bed.cut_off()
            await bed.control.publish(wide("0.0.0.0/0"))

            def is_cut() -> bool:
                return "default" in spoke.run("ip", "route", "show", "table", "220", check=False)

            await eventually(is_cut, LIMIT_S, "a route into the tunnel")
            cut = time.monotonic()
            await eventually(lambda: "intent.rolled_back" in agent.log, LIMIT_S, "the rollback", pause_s=0.5)
            await bed.control.received(Presence, "spoke", lambda it: True, since=bed.control.count, within=LIMIT_S)
            return time.monotonic() - cut
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run() -> Iterable[Row]:
    """One row, of one run: it takes two minutes."""
    yield absolute(
        "cut_off_return", [asyncio.run(_measured())], "s", better="lower", target=TARGET_S,
        note=f"from the cut to the next heartbeat, --confirm-within {CONFIRM_WITHIN}",
    )  # fmt: skip


BENCHES = [Bench(("cut_off_return",), run)]
