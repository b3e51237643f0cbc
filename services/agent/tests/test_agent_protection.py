"""The agent and its guard: traffic is protected before a tunnel is applied, and what is not protected is not applied."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from warren_agent.adapters.bus_addresses import BusAddresses
from warren_agent.adapters.guard import GuardClient
from warren_agent.drivers.port import ApplyEffect
from warren_agent.errors import GuardRefusedError, GuardUnavailableError
from warren_agent.protection import Protection
from warren_contracts.guard import (
    EventKind,
    FindingCode,
    GuardEvent,
    GuardReply,
    HeldRequest,
    HeldState,
    HostFinding,
    InterfaceError,
    ProtectRequest,
    ReleaseRequest,
    Request,
)
from warren_contracts.status import GuardFacts, GuardState, ReasonCode, TunnelState
from warren_contracts.telemetry import Applied, Report
from warren_contracts.tunnel import Tunnel
from warren_intent.expand import explain
from warren_testkit.agent.fakes import FakeGuard
from warren_testkit.agent.running import SPOKES, Running, intent
from warren_testkit.intent import ipsec_tunnel
from warren_testkit.waiting import eventually

NAME = "hub+s1"
MASQUERADE = HostFinding(code=FindingCode.MASQUERADE, detail="chain ip nat POSTROUTING")


@pytest.fixture
async def guard() -> FakeGuard:
    return FakeGuard()


@pytest.fixture
async def guarded(tmp_path: Path, guard: FakeGuard) -> AsyncIterator[Running]:
    made = Running(tmp_path / "state", guard=guard)
    yield made
    await made.stop()


async def test_traffic_is_protected_before_its_tunnel_is_created(
    guarded: Running, guard: FakeGuard, monkeypatch: pytest.MonkeyPatch
) -> None:
    protected: list[set[str]] = []
    create = guarded.driver.create_tunnel

    async def note(config: Tunnel) -> ApplyEffect:
        protected.append(guard.protected())
        return await create(config)

    monkeypatch.setattr(guarded.driver, "create_tunnel", note)
    guarded.source.give(intent(1, *SPOKES))
    await guarded.tunnel(TunnelState.UP)
    assert protected == [{NAME}]
    (request,) = [it for it in guard.requests if isinstance(it, ProtectRequest)][:1]
    assert request.devices == ("ipsec0",)


async def test_traffic_is_protected_without_any_daemon(tmp_path: Path, guard: FakeGuard) -> None:
    made = Running(tmp_path / "state", daemon=False, guard=guard)
    made.source.give(intent(1, *SPOKES))
    await made.tunnel(TunnelState.ERROR)
    assert guard.protected() == {NAME}
    await made.stop()


async def test_without_the_guard_no_tunnel_is_created_or_edited_until_it_answers(
    guarded: Running, guard: FakeGuard
) -> None:
    guard.is_running = False
    guarded.source.give(intent(1, *SPOKES))
    change = await guarded.tunnel(TunnelState.ERROR)
    assert change.status.reason is ReasonCode.GUARD_UNAVAILABLE
    assert "protect: always: the fake guard is stopped" in change.status.detail
    (applied,) = await guarded.received(Applied, "applied")
    assert (applied.ok, applied.tunnels[0].reason) == (False, ReasonCode.GUARD_UNAVAILABLE)
    assert guarded.driver.tunnels == {}
    guard.is_running = True
    guard.send(None)
    await guarded.tunnel(TunnelState.UP)
    guard.refusal = "nft: Error: busy"
    guarded.source.give(intent(2, *SPOKES, options={"ike": {"dpd_delay": 44}}))
    *_, refused = await guarded.received(Applied, "applied", 3)
    assert "nft: Error: busy" in refused.error
    assert guarded.driver.tunnels[NAME].config.link.ike.dpd_delay == 30
    guarded.source.give(intent(3, *SPOKES, enabled=False))  # a removal needs no guard: the table stands
    await eventually(lambda: not guarded.driver.tunnels)


async def test_tunnels_without_protection_need_no_guard(guarded: Running, guard: FakeGuard) -> None:
    guard.is_running = False
    guarded.source.give(intent(1, *SPOKES, protect="off"))
    await guarded.tunnel(TunnelState.UP)


async def test_a_disabled_policy_stays_protected_and_one_that_is_off_is_released(
    guarded: Running, guard: FakeGuard
) -> None:
    guarded.source.give(intent(1, *SPOKES))
    await guarded.tunnel(TunnelState.UP)
    guarded.source.give(intent(2, *SPOKES, enabled=False))
    await eventually(lambda: [it.state for it in guard.held] == [HeldState.RETAINED])
    guarded.source.give(intent(3, *SPOKES, protect="off", protect_after_delete="keep"))
    await eventually(lambda: guard.held == ())


async def test_what_a_policy_turns_off_is_released_from_the_guard(
    guarded: Running, guard: FakeGuard, monkeypatch: pytest.MonkeyPatch
) -> None:
    guarded.source.give(intent(1, *SPOKES))
    await guarded.tunnel(TunnelState.UP)
    kept = guard.held[0].model_copy(update={"state": HeldState.KEPT})
    ask = guard.ask

    async def keeps(request: Request) -> GuardReply:
        reply = await ask(request)
        return GuardReply(held=(kept,)) if isinstance(request, ProtectRequest) else reply

    monkeypatch.setattr(guard, "ask", keeps)
    guarded.source.give(intent(2, *SPOKES, protect="off"))
    await eventually(lambda: ReleaseRequest(policy="star") in guard.requests)


async def test_when_applied_begins_with_the_first_sa_and_outlives_it(guarded: Running, guard: FakeGuard) -> None:
    guarded.driver.refusals[NAME] = ReasonCode.PROPOSAL_MISMATCH_IKE
    guarded.source.give(intent(1, *SPOKES, protect="when-applied"))
    await guarded.received(Applied, "applied")
    assert guard.protected() == set()
    guarded.driver.refusals.clear()
    await guarded.tunnel(TunnelState.UP)
    await eventually(lambda: guard.protected() == {NAME})
    guarded.driver.lose(NAME)
    await guarded.tunnel(TunnelState.DOWN)
    guarded.source.give(intent(2, *SPOKES, protect="when-applied", options={"ike": {"dpd_delay": 44}}))
    await guarded.received(Applied, "applied", 3)
    assert guard.protected() == {NAME}


async def test_a_finding_of_the_guard_degrades_the_tunnels_unless_it_is_fixed(
    guarded: Running, guard: FakeGuard
) -> None:
    guarded.source.give(intent(1, *SPOKES))
    await guarded.tunnel(TunnelState.UP)
    guard.findings = (MASQUERADE,)
    guard.send(None)
    await eventually(lambda: _last(guarded) is ReasonCode.MASQUERADE)
    fixed = MASQUERADE.model_copy(update={"fixed": True})
    guard.send(GuardEvent(event=EventKind.FINDINGS_CHANGED, findings=(fixed,)))
    await eventually(lambda: _last(guarded) is ReasonCode.NONE)


async def test_a_change_of_the_hosts_network_starts_at_once_what_is_down(guarded: Running, guard: FakeGuard) -> None:
    guarded.driver.refusals[NAME] = ReasonCode.PEER_UNREACHABLE  # so the next attempt would be 30 s later
    guarded.source.give(intent(1, *SPOKES))
    await guarded.tunnel(TunnelState.ERROR)
    assert guarded.driver.calls.count(("start", NAME)) == 1
    guarded.driver.refusals.clear()
    guard.send(GuardEvent(event=EventKind.ROUTES_CHANGED))
    await guarded.tunnel(TunnelState.UP)
    assert guarded.driver.calls.count(("start", NAME)) == 2
    guard.send(GuardEvent(event=EventKind.ADDRESSES_CHANGED))  # nothing for what is up
    guard.send(GuardEvent(event=EventKind.FINDINGS_CHANGED))
    await eventually(guard.is_read)
    assert guarded.driver.calls.count(("start", NAME)) == 2


@pytest.mark.parametrize(
    "kind", [EventKind.ADDRESSES_CHANGED, EventKind.ROUTES_CHANGED, EventKind.TUNNEL_ROUTES_CHANGED]
)
async def test_drivers_see_after_a_change_of_routes_whether_packets_reach_their_tunnels(
    guarded: Running, guard: FakeGuard, kind: EventKind
) -> None:
    guarded.source.give(intent(1, *SPOKES))
    await guarded.tunnel(TunnelState.UP)
    before = guarded.driver.route_looks
    guard.send(GuardEvent(event=kind))
    await eventually(lambda: guarded.driver.route_looks == before + 1)
    guard.send(GuardEvent(event=EventKind.FINDINGS_CHANGED))
    await eventually(guard.is_read)
    assert guarded.driver.route_looks == before + 1


async def test_a_network_that_changes_all_the_time_starts_what_is_down_three_times_a_minute(
    guarded: Running, guard: FakeGuard
) -> None:
    guarded.driver.refusals[NAME] = ReasonCode.PEER_UNREACHABLE  # so the next attempt would be 30 s later
    guarded.source.give(intent(1, *SPOKES))
    await guarded.tunnel(TunnelState.ERROR)
    for starts in (2, 3, 4, 4, 4):
        guard.send(GuardEvent(event=EventKind.ROUTES_CHANGED))
        await eventually(lambda: guard.is_read() and guarded.driver.calls.count(("start", NAME)) >= starts)  # noqa: B023
    guard.send(None)
    await eventually(guard.is_read)
    assert guarded.driver.calls.count(("start", NAME)) == 4


async def test_a_tunnel_whose_interface_cannot_be_made_is_refused_alone(guard: FakeGuard) -> None:
    protection = Protection(guard)
    state = intent(1, *SPOKES).state
    guard.interface_errors = (InterfaceError(if_id=7, detail="ip: Error: Unknown device type."),)
    await protection.secure(explain(state.published, state.directory, "s1"), state)
    routed = ipsec_tunnel(
        child={"local_ts": ["0.0.0.0/0"], "remote_ts": ["0.0.0.0/0"]}, link={"xfrm": {"if_id_out": 7, "if_id_in": 8}}
    )
    refused = protection.refusal(routed)
    assert refused is not None
    assert refused[0] is ReasonCode.CONFIG_REFUSED
    assert refused[1].endswith("xfrm.if_id_out: ip: Error: Unknown device type.")
    assert protection.refusal(ipsec_tunnel(link={"xfrm": {"if_id_out": 8, "if_id_in": 8}})) is None
    assert protection.refusal(ipsec_tunnel()) is None


async def test_what_the_guard_does_is_a_fact_of_its_host(guarded: Running, guard: FakeGuard) -> None:
    protection = Protection(guard)
    assert Protection().guard_facts() is None
    state = intent(1, *SPOKES).state
    desired = explain(state.published, state.directory, "s1")
    await protection.secure(desired, state)
    assert protection.guard_facts() == GuardFacts(state=GuardState.LOADED, tunnels=1)
    guard.refusal = "nft: Error: busy"
    await protection.secure(desired, state)
    assert protection.guard_facts() == GuardFacts(state=GuardState.REFUSED, detail="nft: Error: busy", tunnels=1)
    guard.is_running = False
    await protection.secure(desired, state)
    found = protection.guard_facts()
    assert found is not None
    assert found.state is GuardState.UNREACHABLE
    events = protection.events()
    at = datetime(2026, 1, 2, tzinfo=UTC)
    for event in (
        GuardEvent(event=EventKind.TABLE_RESTORED, failed=True, detail="removed: nft: Error: busy"),
        GuardEvent(event=EventKind.TABLE_RESTORED, at=at, detail="another program had removed it"),
    ):
        guard.send(event)
        await anext(events)
        found = protection.guard_facts()
        assert found is not None
        assert found.state is (GuardState.REFUSED if event.failed else GuardState.LOADED)
    assert found.restored_at == at


def _last(running: Running) -> ReasonCode | None:
    reports = [
        Report.model_validate_json(it.payload) for it in running.outlet.messages if it.subject.endswith(".report")
    ]
    return reports[-1].tunnels[0].reason if reports and reports[-1].tunnels else None


# the socket


async def serve(path: Path, *replies: bytes) -> asyncio.Server:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.readline():
            for reply in replies:
                writer.write(reply)
        writer.close()

    return await asyncio.start_unix_server(answer, str(path))


@pytest.mark.parametrize(
    ("replies", "error", "message"),
    [
        ((b'{"error":"nft: no"}\n',), GuardRefusedError, "nft: no"),
        ((), GuardUnavailableError, "--agent-user"),
        ((b"nonsense\n",), GuardUnavailableError, "start warren-guard"),
    ],
)
async def test_what_a_guard_replies_is_the_error(
    tmp_path: Path, replies: tuple[bytes, ...], error: type[Exception], message: str
) -> None:
    path = tmp_path / "guard.sock"
    async with await serve(path, *replies):
        with pytest.raises(error, match=message):
            await GuardClient(path, lambda: 0.0).ask(HeldRequest())


async def test_a_guard_that_is_missing_is_an_error_with_its_remedy(tmp_path: Path) -> None:
    with pytest.raises(GuardUnavailableError, match=r"guard.sock: No such file or directory: start warren-guard"):
        await GuardClient(tmp_path / "guard.sock", lambda: 0.0).ask(HeldRequest())


async def test_events_begin_again_whenever_the_guard_returns(tmp_path: Path) -> None:
    path = tmp_path / "guard.sock"
    event = GuardEvent(event=EventKind.TABLE_RESTORED)
    found: list[GuardEvent | None] = []

    async def follow() -> None:
        async for it in GuardClient(path, lambda: 0.0).events():
            found.append(it)

    following = asyncio.create_task(follow())
    async with await serve(path, b"{}\n", event.model_dump_json().encode() + b"\n"):
        await eventually(lambda: found[:4] == [None, event, None, event])
    following.cancel()


async def test_addresses_of_the_bus_are_literal_or_resolved() -> None:
    found = await BusAddresses(["tls://192.0.2.7:4333", "localhost", "nats://[2001:db8::1]"])()
    assert ("192.0.2.7", 4333) in [(str(it.address), it.port) for it in found]
    assert ("2001:db8::1", 4222) in [(str(it.address), it.port) for it in found]
    assert any(it.address.is_loopback and it.port == 4222 for it in found)
    assert await BusAddresses(["no-such-host.invalid"])() == ()
