"""Whatever happens to the policy, the peer's membership, the agent or the guard: no packet leaves in clear."""

import asyncio
from functools import partial

import pytest

from warren_contracts.guard import HeldState
from warren_contracts.status import ReasonCode, TunnelState
from warren_contracts.telemetry import TunnelChange
from warren_testkit.intent import star
from warren_testkit.lab.promises import REPLY_LIMIT_S, PromiseBed, Site
from warren_testkit.waiting import eventually

pytestmark = [pytest.mark.root, pytest.mark.interop, pytest.mark.timeout(600)]


async def _holds(bed: PromiseBed, state: HeldState) -> bool:
    return state in await bed.held_states()


def _has_logged(site: Site, event: str) -> bool:
    return event in site.guard.log


async def test_a_disabled_policy_protects_until_it_is_deleted_and_then_for_its_time(bed: PromiseBed) -> None:
    await bed.control.publish(star(protect_after_delete=600))
    await bed.guarded()
    async with bed.traffic() as traffic:
        await traffic.answered()
        await bed.control.publish(star(enabled=False, protect_after_delete=600))
        await traffic.unanswered()
        await bed.has_states({HeldState.RETAINED})
        await bed.control.publish()
        await bed.has_states({HeldState.EXPIRING})
        await traffic.more(50)
        traffic.assert_nothing_in_clear()


async def test_deleted_traffic_is_kept_until_it_is_released(bed: PromiseBed) -> None:
    await bed.control.publish(star(protect_after_delete="keep"))
    await bed.guarded()
    async with bed.traffic() as traffic:
        await traffic.answered()
        await bed.control.publish()
        await traffic.unanswered()
        await bed.has_states({HeldState.KEPT})
        traffic.assert_nothing_in_clear()
        for agent in bed.agents:
            assert await agent.run_to_end("release") == 0
        await traffic.answered()  # in clear: the operator wants it so
        await traffic.clear()
    await bed.has_states(set())


async def test_a_revoked_peer_is_not_sent_to_in_clear(bed: PromiseBed) -> None:
    await bed.control.publish(star())
    await bed.guarded()
    async with bed.traffic() as traffic:
        await traffic.answered()
        revoked = bed.control.records["spoke"].model_copy(
            update={"withdrawn": True, "tags": (), "subnets": (), "keys": (), "endpoints": ()}
        )
        await bed.control.put_records([revoked])
        await traffic.unanswered()
        await eventually(partial(_holds, bed, HeldState.RETAINED), REPLY_LIMIT_S, "retained traffic")
        traffic.assert_nothing_in_clear()


async def test_the_guard_and_the_agents_may_be_killed(bed: PromiseBed) -> None:
    await bed.control.publish(star())
    await bed.guarded()
    async with bed.traffic() as traffic:
        await traffic.answered()
        for site in bed.sites:
            await site.guard.kill()
        for agent in bed.agents:
            await agent.kill()
        await asyncio.gather(*(site.gateway.stop() for site in bed.sites))
        await traffic.unanswered()
        for agent in bed.agents:  # an agent whose guard is missing changes no protected tunnel
            await agent.start()
        await asyncio.gather(*(site.gateway.start() for site in bed.sites))
        since = bed.control.count
        change = await bed.control.received(
            TunnelChange, "spoke", lambda it: it.status.reason is ReasonCode.GUARD_UNAVAILABLE, since=0
        )
        assert change.status.state is TunnelState.ERROR
        await traffic.more(25)
        for site in bed.sites:
            await site.guard.start()
        await traffic.answered()
        traffic.assert_nothing_in_clear()
        assert bed.control.count > since


async def test_a_flushed_or_edited_ruleset_is_restored(bed: PromiseBed) -> None:
    """Packets may pass between another program's transaction and the guard's answer: docs/promises.md."""
    await bed.control.publish(star())
    await bed.guarded()
    await asyncio.gather(*(site.gateway.stop() for site in bed.sites))
    for site in bed.sites:
        table = site.guard.table()
        for command in ("flush ruleset", "delete table inet warren", "flush chain inet warren outgoing"):
            site.namespace.run("nft", command)
            await site.guard.has_table(table)
        await eventually(partial(_has_logged, site, "guard.table_restored"))
    async with bed.traffic() as traffic:
        await traffic.unanswered()
        traffic.assert_nothing_in_clear()
