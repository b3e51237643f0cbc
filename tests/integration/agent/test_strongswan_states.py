"""True states on two real charons: what contradicts that a tunnel works is named, and a tunnel that is `up` has nothing."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial
from ipaddress import ip_network

import pytest

from warren_contracts.peers import PeerRecord
from warren_contracts.status import EvidenceKind, ReasonCode, TunnelState
from warren_contracts.telemetry import Report, TunnelChange
from warren_testkit.intent import STAR
from warren_testkit.lab.agents import LocalAgent, gateway_record
from warren_testkit.lab.gateways import Gateway
from warren_testkit.waiting import eventually

pytestmark = [pytest.mark.root, pytest.mark.interop]

NAME = "hub+spoke"
LIMIT = 90.0  # s
SECOND = "10.77.0.0/24"


@contextlib.asynccontextmanager
async def at_work(*agents: LocalAgent) -> AsyncIterator[None]:
    await asyncio.gather(*(agent.start() for agent in agents))
    try:
        yield
    finally:
        await asyncio.gather(*(agent.stop() for agent in agents))


def with_second_network(record: PeerRecord) -> PeerRecord:
    return record.model_copy(update={"subnets": (*record.subnets, ip_network(SECOND))})


def last_change(agent: LocalAgent) -> TunnelChange | None:
    return next((it for it in reversed(agent.all(TunnelChange)) if it.status.name == NAME), None)


def is_now(agent: LocalAgent, state: TunnelState, reason: ReasonCode) -> bool:
    change = last_change(agent)
    return change is not None and (change.status.state, change.status.reason) == (state, reason)


def is_removed(agent: LocalAgent) -> bool:
    change = last_change(agent)
    return change is not None and change.removed


def has_evidence(agent: LocalAgent) -> bool:
    reports = agent.all(Report)
    return bool(reports) and any(it.evidence.kind is EvidenceKind.TRAFFIC for it in reports[-1].tunnels)


def was(agent: LocalAgent, state: TunnelState, reason: ReasonCode, since: int) -> bool:
    """Whether a change of the tunnel from this number on has said so; the next one may have come since."""
    return any((it.status.state, it.status.reason) == (state, reason) for it in agent.all(TunnelChange)[since:])


def has_clean_reports(agent: LocalAgent, since: int) -> bool:
    """Whether the last three reports from this number on have the tunnel up, and nothing against it."""
    last = agent.all(Report)[since:][-3:]
    found = [(it.state, it.reason) for report in last for it in report.tunnels]
    return len(last) == 3 and set(found) == {(TunnelState.UP, ReasonCode.NONE)}


def has_more_reports(agent: LocalAgent, count: int) -> bool:
    return len(agent.all(Report)) > count


async def test_peer_that_knows_one_of_two_networks_is_named_with_what_is_missing(both: tuple[Gateway, Gateway]) -> None:
    hub, spoke = both
    of_hub, of_spoke = gateway_record(hub, "hub"), gateway_record(spoke, "branch")
    at_hub = LocalAgent(hub, [of_hub, of_spoke])
    at_spoke = LocalAgent(spoke, [with_second_network(of_hub), of_spoke])
    async with at_work(at_hub, at_spoke):
        at_hub.give(STAR)
        at_spoke.give(STAR)
        await eventually(lambda: is_now(at_spoke, TunnelState.DEGRADED, ReasonCode.NARROWED), LIMIT)
        change = last_change(at_spoke)
        assert change is not None
        assert f"remote {SECOND}" in change.status.detail
        assert hub.network not in change.status.detail
        await eventually(lambda: is_now(at_hub, TunnelState.UP, ReasonCode.NONE), LIMIT)  # it has all that it wants
        await eventually(partial(has_more_reports, at_spoke, len(at_spoke.all(Report))), LIMIT)
        report = at_spoke.last(Report)
        assert [(it.state, it.reason) for it in report.tunnels if it.name == NAME] == [
            (TunnelState.DEGRADED, ReasonCode.NARROWED)
        ]


async def test_peer_that_is_dead_and_comes_back_leaves_no_reason_behind(both: tuple[Gateway, Gateway]) -> None:
    hub, spoke = both
    records = [gateway_record(hub, "hub"), gateway_record(spoke, "branch")]
    at_hub, at_spoke = LocalAgent(hub, records), LocalAgent(spoke, records)
    watched = {**STAR, "options": {"ike": {"dpd_delay": 1}}}
    async with at_work(at_hub, at_spoke):
        at_hub.give(watched)
        at_spoke.give(watched)
        await eventually(lambda: is_now(at_spoke, TunnelState.UP, ReasonCode.NONE), LIMIT)
        assert await spoke.ping(hub.protected)
        await eventually(partial(has_evidence, at_spoke), LIMIT)
        since = len(at_spoke.all(TunnelChange))
        await hub.crash()
        for state, reason in (
            (TunnelState.DEGRADED, ReasonCode.PEER_NOT_ANSWERING), (TunnelState.DOWN, ReasonCode.PEER_UNREACHABLE),
        ):  # fmt: skip
            await eventually(partial(was, at_spoke, state, reason, since), LIMIT, reason.value)
        await hub.start()
        await eventually(lambda: is_now(at_spoke, TunnelState.UP, ReasonCode.NONE), LIMIT)
        await eventually(lambda: is_now(at_hub, TunnelState.UP, ReasonCode.NONE), LIMIT)
        # And so it stays: the reports that follow have no reason of the IKE_SA that was given up. One of the new IKE_SA may be
        # late to be answered on a busy machine, and is over with the answer.
        await eventually(
            partial(has_clean_reports, at_spoke, len(at_spoke.all(Report))), LIMIT, "three reports without a reason"
        )


async def test_deleted_tunnel_is_reported_as_removed_and_in_no_later_report(both: tuple[Gateway, Gateway]) -> None:
    hub, spoke = both
    records = [gateway_record(hub, "hub"), gateway_record(spoke, "branch")]
    at_hub, at_spoke = LocalAgent(hub, records), LocalAgent(spoke, records)
    async with at_work(at_hub, at_spoke):
        at_hub.give(STAR)
        at_spoke.give(STAR)
        await eventually(lambda: is_now(at_spoke, TunnelState.UP, ReasonCode.NONE), LIMIT)
        at_hub.give()
        at_spoke.give()
        for agent in (at_hub, at_spoke):
            await eventually(partial(is_removed, agent), LIMIT)
            await eventually(partial(has_more_reports, agent, len(agent.all(Report))), LIMIT)
            assert agent.last(Report).tunnels == ()
