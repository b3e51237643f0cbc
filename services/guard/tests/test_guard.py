"""The guard with a firewall in memory: what is refused changes nothing, and what another program removes returns."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from warren_contracts.guard import EventKind, HeldRequest, HeldState, InspectRequest, ProtectRequest, ReleaseRequest
from warren_contracts.protection import ProtectedTraffic
from warren_guard.adapters.state_file import StateFile
from warren_guard.guard import Guard
from warren_testkit.guard import FINDING, FakeFirewall, FakeInspector, FakeKernel
from warren_testkit.waiting import eventually


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


class Bed:
    def __init__(self, folder: Path) -> None:
        self.firewall, self.clock, self.folder = FakeFirewall(), Clock(), folder
        self.guard = self.started()

    def started(self) -> Guard:
        file = StateFile(self.folder)
        file.prepare()
        return Guard(self.firewall, FakeInspector(), FakeKernel(), file, keep_sources=True, monotonic=self.clock)

    async def after_reboot(self) -> Guard:
        """A new process on a kernel without any table, whose monotonic clock starts at 0."""
        self.firewall, self.clock.now = FakeFirewall(), 0.0
        guard = self.started()
        await guard.load()
        return guard


def traffic(policy: str = "p", network: str = "10.2.0.0/24", **changes: Any) -> ProtectedTraffic:
    pairs = [{"local": ["10.1.0.0/24"], "remote": [network]}]
    return ProtectedTraffic.model_validate({"policy": policy, "tunnel": "t", "pairs": pairs, **changes})


def request(*entries: ProtectedTraffic, **changes: Any) -> ProtectRequest:
    return ProtectRequest(traffic=entries, devices=("ipsec0",), **changes)


@pytest.fixture
def bed(tmp_path: Path) -> Bed:
    return Bed(tmp_path / "state")


async def test_the_same_request_again_changes_nothing(bed: Bed) -> None:
    first = await bed.guard.handle(request(traffic()))
    assert (first.error, first.changed, [it.state for it in first.held]) == ("", True, [HeldState.WANTED])
    again = await bed.guard.handle(request(traffic()))
    assert (again.changed, bed.firewall.applied) == (False, 1)


async def test_what_nft_refuses_leaves_everything_as_it_was(bed: Bed) -> None:
    await bed.guard.handle(request(traffic()))
    before = bed.firewall.table
    bed.firewall.refusal = "nft: Error: Operation not permitted"
    reply = await bed.guard.handle(request(traffic(network="10.3.0.0/24")))
    assert reply.error == "nft: Error: Operation not permitted"
    assert bed.firewall.table == before
    bed.firewall.refusal = ""
    held = await bed.guard.handle(HeldRequest())
    assert [it.policy for it in held.held] == ["p"]
    await bed.after_reboot()
    assert "10.2.0.0/24" in (bed.firewall.table or "")
    assert "10.3.0.0/24" not in (bed.firewall.table or "")


async def test_a_full_disk_is_an_error_and_the_next_request_writes_again(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("warren_guard.adapters.state_file.write_draft", full)
        reply = await bed.guard.handle(request(traffic()))
        assert "No space left on device" in reply.error
        assert "10.2.0.0/24" in (bed.firewall.table or "")
    assert (await bed.guard.handle(request(traffic()))).error == ""
    await bed.after_reboot()
    assert "10.2.0.0/24" in (bed.firewall.table or "")


async def test_the_table_and_the_time_that_is_left_survive_a_reboot(bed: Bed) -> None:
    await bed.guard.handle(request(traffic("p", after_delete=60), traffic("k", "10.4.0.0/24", after_delete="keep")))
    await bed.guard.handle(request())
    bed.clock.now += 20
    guard = await bed.after_reboot()
    assert "10.2.0.0/24" in (bed.firewall.table or "")
    expiring = asyncio.create_task(guard.expire())
    await asyncio.sleep(0)
    bed.clock.now = 60.0
    reply = await guard.handle(request())  # wakes it
    await eventually(lambda: "10.2.0.0/24" not in (bed.firewall.table or ""))
    expiring.cancel()
    assert reply.error == ""
    assert "10.4.0.0/24" in (bed.firewall.table or "")
    released = await guard.handle(ReleaseRequest())
    assert (released.released, released.held) == (1, ())
    assert "10.4.0.0/24" not in (bed.firewall.table or "")


async def test_a_damaged_state_loads_the_last_table_as_it_is(bed: Bed) -> None:
    await bed.guard.handle(request(traffic()))
    table = bed.firewall.table
    (bed.folder / "state.json").write_text('{"entries": [{"traffic": {}}]}')
    guard = await bed.after_reboot()
    assert bed.firewall.table == table
    assert (await guard.handle(HeldRequest())).held == ()
    assert (await guard.handle(request(traffic("q", "10.9.0.0/24")))).error == ""
    assert "10.9.0.0/24" in (bed.firewall.table or "")


@pytest.mark.parametrize("left", [None, "table inet warren {\n}\n"])
async def test_a_table_that_another_program_removed_or_changed_returns_and_is_reported(
    bed: Bed, left: str | None
) -> None:
    await bed.guard.handle(request(traffic()))
    table, applied = bed.firewall.table, bed.firewall.applied
    with bed.guard.watching() as events:
        await bed.guard.nftables_changed(None)
        assert (bed.firewall.applied, events.empty()) == (applied, True)
        bed.firewall.table = left
        await bed.guard.nftables_changed(None)
        assert bed.firewall.table == table
        event = events.get_nowait()
    assert event.event is EventKind.TABLE_RESTORED
    assert ("removed" if left is None else "changed") in event.detail


async def test_a_table_that_was_changed_before_it_was_looked_at_is_installed_again(bed: Bed) -> None:
    await bed.guard.handle(request(traffic()))
    table, bed.firewall.table = bed.firewall.table, "table inet warren {\n}\n"
    await bed.guard.nftables_changed(None)
    assert bed.firewall.table == table
    await bed.guard.nftables_changed(None)  # of the transaction that has installed it
    assert bed.firewall.applied == 2
    bed.firewall.table = "table inet warren {\n}\n"
    await bed.guard.nftables_changed(None)
    assert (bed.firewall.table, bed.firewall.applied) == (table, 3)


async def test_a_table_that_cannot_be_restored_is_reported_and_tried_again(bed: Bed) -> None:
    await bed.guard.handle(request(traffic()))
    table, bed.firewall.table = bed.firewall.table, None
    bed.firewall.refusal = "nft: Error: busy"
    with bed.guard.watching() as events:
        await bed.guard.nftables_changed(None)
        event = events.get_nowait()
        assert (event.failed, event.detail) == (True, "removed: nft: Error: busy")
    bed.firewall.refusal = ""
    working = asyncio.create_task(bed.guard.expire())
    await eventually(lambda: bed.firewall.table == table)
    working.cancel()


async def test_inspection_is_the_inspectors(bed: Bed) -> None:
    assert (await bed.guard.handle(InspectRequest())).findings == (FINDING,)
