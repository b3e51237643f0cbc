"""A default route into a tunnel where ESP is the kernel's: pass shunts keep the gateway's own network and the bus in reach."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from warren_contracts.status import ReasonCode
from warren_contracts.telemetry import Applied
from warren_lab.charon_conf import IpsecBackend
from warren_lab.xfrm import kernel_policies
from warren_testkit.lab.bus_bed import BusBed, bus_bed, wide
from warren_testkit.lab.promises import Site, Traffic
from warren_testkit.waiting import eventually

pytestmark = [pytest.mark.root, pytest.mark.interop, pytest.mark.kernel, pytest.mark.timeout(1500)]

WAIT_S = 300.0
PAUSE_S = 3.0  # between two looks: each takes the emulated machine a second


@pytest.fixture
async def bed(tmp_path: Path, wired: object) -> AsyncIterator[BusBed]:
    async with bus_bed(tmp_path, IpsecBackend.KERNEL) as made:
        yield made


def shunted(site: Site) -> set[str]:
    """The networks and hosts that policies without a template keep out of the tunnels, for packets that leave."""
    listed = site.namespace.run("ip", "xfrm", "policy", "list", "dir", "out")
    entries = ["src " + it for it in listed.split("src ") if it.strip()]
    return {it.split()[3] for it in entries if it.startswith("src ") and "tmpl" not in it and "socket" not in it}


async def test_own_network_and_bus_stay_in_reach_by_pass_shunts_also_after_charons_restart_and_without_a_guard(
    bed: BusBed, say: Callable[[str], None]
) -> None:
    spoke = bed.spoke
    await bed.control.publish(wide("0.0.0.0/0"))
    await bed.up()

    async def all_is_reached(traffic: Traffic, when: str) -> None:
        await traffic.answered()
        await bed.bus_is_reached()
        await bed.network_is_reached()
        seen = traffic.seen()
        say(f"{when}: {len(seen.clear)} in clear of {seen.sent} sent, {seen.answered} answered")
        traffic.assert_nothing_in_clear()

    async with bed.traffic() as traffic:
        await all_is_reached(traffic, "0.0.0.0/0")
        assert {"10.2.0.0/24", "198.51.100.0/24"} <= shunted(spoke)
        assert any(it.destination.prefixlen == 0 for it in kernel_policies(spoke.namespace))
        await spoke.gateway.crash()
        await bed.network_is_reached()
        await bed.bus_is_reached()
        await spoke.gateway.start()
        await all_is_reached(traffic, "charon killed and restarted")
        await spoke.gateway.stop()
        await traffic.unanswered()
        await bed.network_is_reached()
        await bed.bus_is_reached()
        await spoke.gateway.start()
        await all_is_reached(traffic, "charon stopped and started")
    assert "bus.disconnected" not in bed.agents[1].log
    # Without a guard, its table and its rules of routing: the shunts alone.
    agent = bed.agents[1]
    await agent.stop()
    await spoke.guard.stop()
    spoke.namespace.run("nft", "flush", "ruleset")
    spoke.namespace.run("ip", "rule", "flush", "protocol", "87", check=False)
    agent.settings["WARREN_GUARD"] = "off"
    since = bed.control.count
    await agent.start()
    await bed.up(since)
    async with bed.traffic() as traffic:
        await all_is_reached(traffic, "without a guard")
    assert {"10.2.0.0/24", "198.51.100.0/24"} <= shunted(spoke)
    since = bed.control.count  # an edit that is refused leaves what runs, and what would be cut off, as it is
    await bed.control.publish(wide("0.0.0.0/0", bypass="forbid"))
    refused = await bed.control.received(Applied, "spoke", lambda it: not it.ok, since, within=WAIT_S)
    assert [it.reason for it in refused.tunnels] == [ReasonCode.BYPASS_FORBIDDEN]
    await bed.bus_is_reached()
    await bed.network_is_reached()
    await bed.control.publish()
    await eventually(lambda: not shunted(spoke), WAIT_S, "no shunt", pause_s=PAUSE_S)
    await bed.bus_is_reached()
