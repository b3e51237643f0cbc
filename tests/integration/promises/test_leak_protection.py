"""Whatever happens to charon, the peer, the policy or the guard: no packet between the protected networks leaves in clear."""

import asyncio

import pytest

from warren_agent.adapters.guard import GuardClient
from warren_contracts.guard import FindingCode, InspectRequest
from warren_contracts.policy import Policy, PublishedPolicy
from warren_contracts.status import ReasonCode, TunnelState
from warren_contracts.telemetry import Applied, TunnelChange
from warren_testkit.intent import star
from warren_testkit.lab.promises import PromiseBed

pytestmark = [pytest.mark.root, pytest.mark.interop, pytest.mark.timeout(600)]


async def test_without_protection_the_same_traffic_is_seen_in_clear(bed: PromiseBed) -> None:
    """The check can fail: with `protect: off` everything is seen, with `always` nothing is from then on."""
    await bed.control.publish(star(protect="off"))
    for peer in ("hub", "spoke"):
        await bed.control.received(Applied, peer, lambda it: it.ok)
    await asyncio.gather(*(site.gateway.stop() for site in bed.sites))
    async with bed.traffic() as traffic:
        await traffic.answered()
        await traffic.clear(more_than=50)
    await bed.control.publish(star())
    await bed.guarded()
    async with bed.traffic() as traffic:
        await traffic.unanswered()
        traffic.assert_nothing_in_clear()


async def test_charons_may_stop_crash_and_lose_their_sas(bed: PromiseBed) -> None:
    await bed.control.publish(star())
    await bed.guarded()
    async with bed.traffic() as traffic:
        await traffic.answered()
        await bed.hub.gateway.stop()
        await traffic.unanswered()
        await bed.hub.gateway.start()
        await traffic.answered()
        await bed.spoke.gateway.crash()
        await traffic.unanswered()
        await bed.spoke.gateway.start()
        await traffic.answered()
        for sa in await bed.spoke.gateway.ike_sas():
            await asyncio.to_thread(bed.spoke.gateway.charon.swanctl, "--terminate", "--ike-id", str(sa.unique_id))
        await traffic.answered()
        traffic.assert_nothing_in_clear()


async def test_boot_without_bus_and_charon_protects_from_the_disk(bed: PromiseBed) -> None:
    await bed.control.publish(star())
    await bed.guarded()
    async with bed.traffic() as traffic:
        await traffic.answered()
    await bed.control.server.stop()
    await bed.boot()
    async with bed.traffic() as traffic:
        await traffic.unanswered()
        await asyncio.gather(*(agent.start() for agent in bed.agents))
        await traffic.more(50)
        await asyncio.gather(*(site.gateway.start() for site in bed.sites))
        await traffic.answered()
        traffic.assert_nothing_in_clear()
    await bed.control.server.start()


async def test_a_dead_peer(bed: PromiseBed) -> None:
    """The hub no longer receives IKE: the spoke's tunnel is gone, and comes back when the hub does."""
    await bed.control.publish(star())
    await bed.guarded()
    async with bed.traffic() as traffic:
        await traffic.answered()
        bed.hub.namespace.run("nft", "add table inet deaf")
        bed.hub.namespace.run("nft", "add chain inet deaf in { type filter hook input priority -300; }")
        bed.hub.namespace.run("nft", "add rule inet deaf in udp dport { 500, 4500 } drop")
        since = bed.control.count
        await bed.spoke.gateway.close_ike_sas()
        lost = (TunnelState.DOWN, TunnelState.ERROR, TunnelState.CONNECTING)
        await bed.control.received(TunnelChange, "spoke", lambda it: it.status.state in lost, since)
        await traffic.unanswered()
        bed.hub.namespace.run("nft", "delete table inet deaf")
        await traffic.answered()
        traffic.assert_nothing_in_clear()


async def test_a_peer_that_narrows_the_selectors(bed: PromiseBed) -> None:
    """The hub agrees to the spoke's gateway only: packets of the host behind it are dropped, and the tunnel is `narrowed`."""
    await bed.control.publish(star())
    await bed.guarded()
    async with bed.traffic() as traffic:
        await traffic.answered()
        since = bed.control.count
        async with bed.narrowed_hub(PublishedPolicy(revision=1, policy=star())):
            await bed.control.received(
                TunnelChange, "spoke", lambda it: it.status.reason is ReasonCode.NARROWED, since, within=90
            )
            await traffic.more(50)
            traffic.assert_nothing_in_clear()


async def test_a_source_translation_hides_no_packet(bed: PromiseBed) -> None:
    """What the WAN masquerades has another source when it leaves; it is dropped all the same, and the rule is named."""
    await bed.control.publish(star())
    await bed.guarded()
    for site in bed.sites:
        await site.guard.stop()
        await site.guard.start("--masquerade", "report")
    await asyncio.gather(*(site.gateway.stop() for site in bed.sites))
    for site in bed.sites:
        site.namespace.run("nft", "add table ip nat")
        site.namespace.run("nft", "add chain ip nat post { type nat hook postrouting priority 100; }")
        site.namespace.run("nft", "add rule ip nat post masquerade")
        reply = await GuardClient(site.guard.socket, lambda: 0.0).ask(InspectRequest())
        assert [(it.code, it.fixed) for it in reply.findings] == [(FindingCode.MASQUERADE, False)]
    async with bed.traffic() as traffic:
        await traffic.unanswered()
        traffic.assert_nothing_in_clear()
    for site in bed.sites:  # without the guard's table they leave
        await site.guard.kill()
        site.namespace.run("nft", "delete table inet warren")
    async with bed.traffic() as traffic:
        await traffic.answered()
        await traffic.clear()


async def test_networks_that_a_policy_adds_are_protected_before_they_are_carried(bed: PromiseBed) -> None:
    """Edits add and remove the host's part of the spoke's network: it is protected or carried while the policy states it."""

    def stating(network: str) -> Policy:
        ends = [{"peer": "hub"}, {"peer": "spoke", "subnets": [network]}]
        return Policy.model_validate({"id": "edited", "tunnels": [{"name": "edited", "ends": ends}]})

    await bed.control.publish(stating("10.2.0.0/28"))
    await bed.guarded("10.2.0.0/28")
    async with bed.traffic() as traffic:
        await traffic.answered()
        for network in ("10.2.0.0/24", "10.2.0.0/28", "10.2.0.0/24"):
            await bed.control.publish(stating(network))
            await traffic.more(25)
        await traffic.answered()
        traffic.assert_nothing_in_clear()
