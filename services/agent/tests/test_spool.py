"""The spool: in order, bounded, one id for all tries, newest report only while the bus is unavailable."""

import asyncio
import errno
import json
import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from warren_agent.errors import NotDeliveredError
from warren_agent.telemetry.disk_spool import DiskSpool
from warren_agent.telemetry.message import TelemetryMessage
from warren_agent.telemetry.messages import telemetry_message
from warren_agent.telemetry.spool import MAX_WAITING, STORED_REPORT_INTERVAL, Spool
from warren_contracts.status import ReasonCode
from warren_contracts.telemetry import AgentState, AttemptFailure, Presence, Report
from warren_testkit.agent.fakes import FakeOutlet
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
    assert await spool.flush(60)
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


def report(number: int, part: int = 0) -> TelemetryMessage:
    return telemetry_message("gw1", Report(at=NOW, part=part, parts=part + 1, tunnels=(), dpd_failures=number))


async def drained(disk: DiskSpool) -> list[TelemetryMessage]:
    """What an agent that starts with this disk delivers."""
    outlet = FakeOutlet()
    spool = Spool(outlet.send, (NotDeliveredError,), disk)
    task = asyncio.create_task(spool.run())
    assert await spool.flush(60)
    task.cancel()
    return outlet.messages


async def test_changes_of_a_long_disconnection_survive_the_agent_and_are_delivered_in_order(tmp_path: Path) -> None:
    outlet = FakeOutlet(unavailable=True)
    spool = Spool(outlet.send, (NotDeliveredError,), DiskSpool(tmp_path, 1 << 20))
    task = asyncio.create_task(spool.run())
    spool.put(message(0))
    await eventually(lambda: outlet.tried)
    sent = [message(n) for n in range(1, MAX_WAITING + 50)]
    for it in sent:
        spool.put(it)
        spool.put(heartbeat())
    task.cancel()  # as by SIGKILL: nothing is flushed
    found = await drained(DiskSpool(tmp_path, 1 << 20))
    assert [it.headers["ce-id"] for it in found[1:]] == [it.headers["ce-id"] for it in sent]
    assert [it.payload for it in found[1:]] == [it.payload for it in sent]
    assert not list(tmp_path.glob("*.log"))
    assert DiskSpool(tmp_path, 1 << 20).first() is None


async def test_a_restart_in_the_middle_goes_on_where_the_last_run_ended(tmp_path: Path) -> None:
    disk = DiskSpool(tmp_path, 1 << 20)
    for n in range(10):
        disk.put(message(n))
    for _ in range(4):
        stored = disk.first()
        assert stored is not None
        disk.delivered(stored.number)
    found = await drained(DiskSpool(tmp_path, 1 << 20))
    assert [AttemptFailure.model_validate_json(it.payload).detail for it in found] == ["4", "5", "6", "7", "8", "9"]


def test_reports_are_dropped_before_changes(tmp_path: Path) -> None:
    limit = 64 * 1024
    disk = DiskSpool(tmp_path, limit)
    for n in range(1_000):
        disk.put(report(n))
        if n % 20 == 0:
            disk.put(message(n))
        assert disk.size_bytes <= limit
    kept = everything(tmp_path)
    assert sum(it.subject.endswith(".reason") for it in kept) == 50  # all of them
    assert 0 < sum(it.subject.endswith(".report") for it in kept) < 200
    for n in range(2_000):
        disk.put(message(n))
    kept = everything(tmp_path)
    assert not [it for it in kept if it.subject.endswith(".report")]
    assert AttemptFailure.model_validate_json(kept[-1].payload).detail == "1999"  # of changes alone, the newest stay


def everything(folder: Path) -> list[TelemetryMessage]:
    """All messages that a folder holds, without delivering them here."""
    with tempfile.TemporaryDirectory() as name:
        copy = DiskSpool(Path(shutil.copytree(folder, Path(name) / "copy")), 1 << 30)
        found = []
        while (stored := copy.first()) is not None:
            found.append(stored.message)
            copy.delivered(stored.number)
        return found


def test_reports_are_stored_once_a_minute_with_all_their_parts(tmp_path: Path) -> None:
    disk, now = DiskSpool(tmp_path, 1 << 20), 0.0
    disk.put(message(0))
    spool = Spool(FakeOutlet(unavailable=True).send, (NotDeliveredError,), disk, clock=lambda: now)
    for n in range(13):
        now = n * 10.0
        spool.put(report(n, part=0))
        spool.put(report(n, part=1))
    stored = [it for it in everything(tmp_path) if it.subject.endswith(".report")]
    assert [Report.model_validate_json(it.payload).dpd_failures for it in stored] == [0, 0, 6, 6, 12, 12]
    assert STORED_REPORT_INTERVAL == 60.0


def test_a_line_that_a_power_failure_cut_off_is_skipped(tmp_path: Path) -> None:
    disk = DiskSpool(tmp_path, 1 << 20)
    for n in range(3):
        disk.put(message(n))
    (segment,) = tmp_path.glob("changes-*.log")
    data = segment.read_bytes()
    segment.write_bytes(data[: data.index(b"\n", data.index(b"\n") + 1) + 40])
    again = DiskSpool(tmp_path, 1 << 20)
    again.put(message(3))
    details = [AttemptFailure.model_validate_json(it.payload).detail for it in everything(tmp_path)]
    assert details == ["0", "1", "3"]


async def test_full_disk_keeps_what_waits_in_memory_and_is_reported_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = DiskSpool(tmp_path, 1 << 20)
    disk.put(message(0))

    def refuse(message: TelemetryMessage) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(disk, "put", refuse)
    spool = Spool(FakeOutlet(unavailable=True).send, (NotDeliveredError,), disk)
    with capture_logs() as logs:
        for n in range(1, 4):
            spool.put(message(n))
    assert [it["event"] for it in logs] == ["telemetry.not_stored"]
    assert len(spool) == 3


@given(st.lists(st.sampled_from(["change", "report", "deliver", "restart"]), max_size=60))
def test_whatever_happens_changes_are_delivered_once_and_in_order(steps: list[str]) -> None:
    with tempfile.TemporaryDirectory() as name:
        disk, number, delivered = DiskSpool(Path(name), 1 << 20), 0, []
        for step in [*steps, *["deliver"] * (len(steps) + 1)]:
            if step == "restart":
                disk = DiskSpool(Path(name), 1 << 20)
            elif step == "deliver":
                if (stored := disk.first()) is not None:
                    delivered.append(stored.message)
                    disk.delivered(stored.number)
            else:
                number += 1
                disk.put(message(number) if step == "change" else report(number))
        assert disk.first() is None
        assert len(delivered) == number
        details = [
            int(json.loads(it.payload).get("detail") or json.loads(it.payload)["dpd_failures"]) for it in delivered
        ]
        assert details == list(range(1, number + 1))
