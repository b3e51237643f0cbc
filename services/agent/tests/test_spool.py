"""The spool: in order, bounded, one id for all tries, newest report only while the bus is unavailable."""

import asyncio
from datetime import UTC, datetime

from warren_agent.errors import NotDeliveredError
from warren_agent.telemetry.messages import telemetry_message
from warren_agent.telemetry.spool import MAX_WAITING, Spool, TelemetryMessage
from warren_agent.testing import FakeOutlet
from warren_contracts.status import ReasonCode
from warren_contracts.telemetry import AgentState, AttemptFailure, Presence
from warren_testkit.waiting import eventually

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def message(number: int) -> TelemetryMessage:
    return telemetry_message("gw1", AttemptFailure(at=NOW, tunnel="a+b", code=ReasonCode.OTHER, detail=str(number)))


def heartbeat() -> TelemetryMessage:
    return telemetry_message("gw1", Presence(state="online", at=NOW, agent=AgentState.WATCH, started_at=NOW))


async def test_messages_go_in_order_and_a_retry_keeps_its_id() -> None:
    outlet = FakeOutlet(unavailable=True)
    spool = Spool(outlet.send, (NotDeliveredError,))
    messages = [message(n) for n in range(3)]
    for it in messages:
        spool.put(it)
    task = asyncio.create_task(spool.run())
    await eventually(lambda: bool(outlet.tried))
    outlet.unavailable = False
    assert await spool.flush(5)
    task.cancel()
    assert outlet.messages == messages
    assert outlet.tried[0] is outlet.tried[1]
    assert len({it.headers["ce-id"] for it in messages}) == 3


async def test_heartbeats_supersede_each_other_while_the_bus_is_unavailable() -> None:
    spool = Spool(FakeOutlet().send, (NotDeliveredError,))
    spool.put(message(1))
    for _ in range(5):
        spool.put(heartbeat())
    assert len(spool) == 2


async def test_spool_is_bounded_and_counts_what_it_drops() -> None:
    spool = Spool(FakeOutlet().send, (NotDeliveredError,))
    for number in range(MAX_WAITING + 7):
        spool.put(message(number))
    assert (len(spool), spool.dropped) == (MAX_WAITING, 7)


async def test_flush_gives_up_after_its_time() -> None:
    spool = Spool(FakeOutlet(unavailable=True).send, (NotDeliveredError,))
    spool.put(message(1))
    assert not await spool.flush(0.01)


def test_letter_carries_the_trace_of_its_change() -> None:
    trace = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    made = telemetry_message("gw1", AttemptFailure(at=NOW, tunnel="a+b", code=ReasonCode.OTHER), trace)
    assert made.subject == "warren.v1.telemetry.gw1.reason"
    assert made.headers["traceparent"].split("-")[1] == "a" * 32
