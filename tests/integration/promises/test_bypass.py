"""Selectors that contain a gateway's own network, or the way to the bus: both stay in reach, or the tunnel is refused or rolled back.

The spoke's agent runs in its gateway's namespace and reaches the bus over a network of its own.
"""

import time
from collections.abc import AsyncIterator
from ipaddress import ip_interface
from pathlib import Path

import pytest

from warren_contracts.status import ReasonCode, TunnelState
from warren_contracts.telemetry import Applied, AttemptFailure
from warren_lab.charon_conf import IpsecBackend
from warren_lab.ping import ping_command
from warren_testkit.intent import record
from warren_testkit.lab.bus_bed import BUS, LIMIT, NAME, BusBed, bus_bed, wide
from warren_testkit.lab.relay import PORT
from warren_testkit.waiting import eventually

pytestmark = [pytest.mark.root, pytest.mark.interop, pytest.mark.timeout(600)]


@pytest.fixture
async def bed(namespaces: None, tmp_path: Path) -> AsyncIterator[BusBed]:
    """Both sites at work; no policy is published."""
    async with bus_bed(tmp_path, IpsecBackend.LIBIPSEC) as made:
        yield made


@pytest.fixture
async def hasty_bed(namespaces: None, tmp_path: Path) -> AsyncIterator[BusBed]:
    """The spoke takes a change back after a time that a test can wait for, and that a busy machine does not exceed."""
    async with bus_bed(tmp_path, IpsecBackend.LIBIPSEC, confirm_within=20) as made:
        yield made


@pytest.mark.parametrize(
    "subnets",
    [["0.0.0.0/0"], ["0.0.0.0/1", "128.0.0.0/1"], ["10.0.0.0/8"], ["10.1.0.0/24", "198.51.100.0/24"]],
    ids=["everything", "two halves", "own network", "the bus"],
)
async def test_own_network_and_bus_stay_in_reach_and_the_rest_is_carried(bed: BusBed, subnets: list[str]) -> None:
    await bed.control.publish(wide(*subnets))
    await bed.up()
    async with bed.traffic() as traffic:
        await traffic.answered()
        await bed.bus_is_reached()
        await bed.network_is_reached()
        traffic.assert_nothing_in_clear()
    assert "bus.disconnected" not in bed.agents[1].log
    since = bed.control.count
    await bed.agents[1].restart()  # and new connections, to either server
    await bed.control.received(Applied, "spoke", lambda it: it.ok, since=since, within=LIMIT)
    await bed.control.publish()
    await eventually(lambda: "priority" not in bed.rules() and "190:" not in bed.rules(), LIMIT, "no rule of the guard")


async def test_default_route_of_ipv6_leaves_own_network_and_bus_in_reach(bed: BusBed) -> None:
    for address, namespace in (("fd00:2::1/64", bed.spoke.namespace), ("fd00:2::10/64", bed.spoke.host)):
        namespace.add_address("lan", ip_interface(address))
    await bed.control.publish(wide("10.1.0.0/24", "::/0", bypass="allow", protect="when-applied"))
    await eventually(lambda: "fd00:2::/64" in bed.rules(6), LIMIT, "a rule for the local network")
    await bed.bus_is_reached()
    bed.spoke.host.run(*ping_command("fd00:2::1", "fd00:2::10"))


async def test_forbidden_bypass_is_refused_and_nothing_leaves_in_clear_until_the_policy_is_corrected(
    bed: BusBed,
) -> None:
    async with bed.traffic() as traffic:
        await bed.control.publish(wide("0.0.0.0/0", bypass="forbid"))
        change = await bed.state_is(ReasonCode.BYPASS_FORBIDDEN)
        assert change.status.state is TunnelState.ERROR
        assert "10.2.0.0/24" in change.status.detail
        assert f"{BUS}:{PORT}" in change.status.detail
        await bed.guarded("10.2.0.0/24")
        known = time.time()  # before, either end may have sent in clear
        await traffic.unanswered()
        await traffic.more(25)
        await bed.bus_is_reached()
        await bed.network_is_reached()
        since = bed.control.count
        await bed.control.publish(wide("0.0.0.0/0"))
        await bed.up(since)
        await traffic.answered()
    assert traffic.seen(since=known).clear == []


async def test_rules_and_networks_that_others_change_are_followed_by_the_kernels_events(bed: BusBed) -> None:
    await bed.control.publish(wide("0.0.0.0/0"))
    await bed.up()
    await eventually(lambda: "10.2.0.0/24" in bed.rules(), LIMIT, "a rule for the local network")
    bed.spoke.namespace.run("ip", "rule", "flush", "protocol", "87")
    await eventually(lambda: "10.2.0.0/24" in bed.rules(), LIMIT, "the rule again")
    await eventually(lambda: "guard.rules_restored" in bed.spoke.guard.log, LIMIT, "the guard's line about it")
    bed.spoke.namespace.add_address("mgmt", ip_interface("203.0.113.2/24"))  # a network that appears now
    await eventually(lambda: "203.0.113.0/24" in bed.rules(), LIMIT, "a rule for the new network")
    await bed.bus_is_reached()


async def test_change_that_cuts_the_bus_off_is_rolled_back_until_it_is_superseded(hasty_bed: BusBed) -> None:
    """A rule of routing that somebody has made leads the bus into whatever tunnel takes it, before the guard's."""
    bed, agent = hasty_bed, hasty_bed.agents[1]
    await bed.control.publish(wide("10.1.0.0/24"))
    await bed.up()
    await eventually(lambda: not (agent.state / "changes.json").exists(), LIMIT, "the confirmation")
    rule = bed.cut_off()
    try:
        since = bed.control.count
        await bed.control.publish(wide("0.0.0.0/0"))
        await eventually(lambda: "intent.rolled_back" in agent.log, LIMIT, "a rollback")
        reason = await bed.control.received(
            AttemptFailure, "spoke", lambda it: it.code is ReasonCode.ROLLED_BACK, since=since, within=LIMIT
        )
        assert reason.tunnel == NAME
        await bed.bus_is_reached()
        await bed.network_is_reached()
        await _remote_is(bed, "10.1.0.0/24")
        since = bed.control.count  # the same revision is not applied again, whatever else changes
        await bed.control.put_records([record("other", 99, "branch")])
        again = await bed.control.received(Applied, "spoke", lambda it: True, since=since, within=LIMIT)
        assert not again.ok
        await bed.bus_is_reached()
    finally:
        bed.spoke.namespace.run("ip", "rule", "del", *rule)
    since = bed.control.count
    await bed.control.publish(wide("10.1.0.0/24", bypass="forbid"))
    await bed.control.received(Applied, "spoke", lambda it: it.ok, since=since, within=LIMIT)
    await bed.bus_is_reached()


async def _remote_is(bed: BusBed, network: str) -> None:
    """Wait until charon's routes lead this network, and not everything, into the tunnel."""

    def is_so() -> bool:
        routes = bed.spoke.namespace.run("ip", "route", "show", "table", "220", check=False)
        return network in routes and "default" not in routes

    await eventually(is_so, LIMIT, network)
