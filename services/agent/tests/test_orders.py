"""Orders of operators to a tunnel, which come in the agent's own record: executed once, and only when they are meant for now."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from warren_agent.domain.orders import ORDER_SECONDS, due_order
from warren_agent.ports import Intent
from warren_contracts.peers import PeerRecord, TunnelOrder
from warren_contracts.status import TunnelState
from warren_contracts.telemetry import Applied
from warren_testkit.agent.running import SPOKES, Running, intent
from warren_testkit.waiting import eventually

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
SOON = timedelta(seconds=ORDER_SECONDS / 2)
LATE = timedelta(seconds=ORDER_SECONDS + 1)
TUNNEL = "hub+s1"


def order(
    number: int, action: str = "restart", tunnel: str = TUNNEL, at: datetime | None = None, sa: str = ""
) -> TunnelOrder:
    return TunnelOrder(id=number, tunnel=tunnel, action=action, at=at or datetime.now(UTC), sa=sa)


def ordered(revision: int, given: TunnelOrder | None) -> Intent:
    own: PeerRecord = SPOKES[0].model_copy(update={"revision": 100 + revision, "order": given})
    return intent(1, own, *SPOKES[1:])


@pytest.mark.parametrize(
    ("given", "last", "is_due"),
    [
        (order(7, at=NOW), 0, True),
        (order(7, at=NOW), 6, True),
        (order(7, at=NOW), 7, False),
        (order(7, at=NOW - SOON), 0, True),
        (order(7, at=NOW + SOON), 0, True),
        (order(7, at=NOW - LATE), 0, False),
        (order(7, at=NOW + LATE), 0, False),
        (None, 0, False),
    ],
)
def test_an_order_is_due_once_and_for_two_minutes(given: TunnelOrder | None, last: int, is_due: bool) -> None:
    record = SPOKES[0].model_copy(update={"order": given})
    assert due_order(record, last, NOW) == (given if is_due else None)
    assert due_order(None, last, NOW) is None


async def calls_after(running: Running, given: TunnelOrder, count: int) -> list[tuple[str, str]]:
    """The driver's calls by an intent with this order, which is the agent's intent number `count`."""
    running.driver.calls.clear()
    running.source.give(ordered(count, given))
    await running.received(Applied, "applied", count)
    return list(running.driver.calls)


async def test_a_restart_closes_the_tunnel_and_starts_it_again(running: Running) -> None:
    running.source.give(ordered(1, None))
    await running.tunnel(TunnelState.UP)
    before = running.driver.tunnels[TUNNEL].spi
    assert ("stop", TUNNEL) in await calls_after(running, order(7), 2)
    await eventually(lambda: running.driver.tunnels[TUNNEL].spi > before)
    assert ("stop", TUNNEL) not in await calls_after(running, order(7), 3)  # the record came again, for another reason


async def test_a_rekeying_closes_nothing(running: Running) -> None:
    running.source.give(ordered(1, None))
    await running.tunnel(TunnelState.UP)
    calls = await calls_after(running, order(7, "rekey"), 2)
    assert ("rekey", TUNNEL) in calls
    assert ("stop", TUNNEL) not in calls


async def test_an_order_may_mean_one_sa(running: Running) -> None:
    running.source.give(ordered(1, None))
    await running.tunnel(TunnelState.UP)
    assert ("rekey net", TUNNEL) in await calls_after(running, order(7, "rekey", sa="child=net"), 2)
    assert ("rekey ike", TUNNEL) in await calls_after(running, order(8, "rekey", sa="ike"), 3)
    before = running.driver.tunnels[TUNNEL].spi
    assert ("stop net", TUNNEL) in await calls_after(running, order(9, sa="child=net"), 4)
    await eventually(lambda: running.driver.tunnels[TUNNEL].spi > before)
    assert ("stop", TUNNEL) in await calls_after(running, order(10, sa="ike"), 5)


@pytest.mark.parametrize(
    "given",
    [{"action": "erase"}, {"tunnel": "hub+s2"}, {"at": NOW}, {"sa": "child=a b"}, {"sa": "esp=net"}],
    ids=["unknown action", "tunnel of another peer", "of another time", "invalid child", "unknown SA"],
)
async def test_what_is_not_for_this_agent_now_is_left_alone(running: Running, given: dict[str, Any]) -> None:
    running.source.give(ordered(1, None))
    await running.tunnel(TunnelState.UP)
    assert not {"stop", "rekey"} & {call.split()[0] for call, _ in await calls_after(running, order(7, **given), 2)}
    assert running.driver.tunnels[TUNNEL].running is not None


async def test_an_order_is_not_executed_again_after_a_restart_of_the_agent(running: Running, tmp_path: Path) -> None:
    running.source.give(ordered(1, order(7)))
    await running.tunnel(TunnelState.UP)
    await running.received(Applied, "applied", 1)
    await eventually(lambda: running.store.intent() is not None)
    saved = running.store.intent()
    await running.stop()
    assert saved is not None
    folder = tmp_path / "again"
    again = Running(folder)
    try:
        again.store.save_intent(saved)
        again.source.give(replace(ordered(1, order(7)), traceparent=""))
        await again.tunnel(TunnelState.UP)
        assert "stop" not in {call for call, _ in again.driver.calls}
    finally:
        await again.stop()
