"""On real charons: SAs are installed at both ends, and what contradicts that packets pass is named with its evidence."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from functools import partial
from ipaddress import IPv4Address
from typing import Any

import pytest

from warren_agent.clocks import Clocks
from warren_agent.drivers.strongswan.connections import HandleName, build_connection
from warren_agent.health import TunnelHealth
from warren_contracts.status import EvidenceKind, ReasonCode, TunnelState, TunnelStatus
from warren_contracts.telemetry import Report, TunnelChange
from warren_lab.lab import Lab
from warren_lab.ping import Ping
from warren_testkit.intent import STAR
from warren_testkit.lab.agents import LocalAgent, gateway_record
from warren_testkit.lab.gateways import Gateway
from warren_testkit.lab.vici_control import Vici
from warren_testkit.waiting import eventually

pytestmark = [pytest.mark.root, pytest.mark.interop]

NAME = "hub+spoke"
LIMIT = 90.0  # s


@contextlib.asynccontextmanager
async def at_work(both: tuple[Gateway, Gateway], **changes: Any) -> AsyncIterator[tuple[LocalAgent, LocalAgent]]:
    """Both agents with the star, each with these settings; both ends are up."""
    records = [gateway_record(both[0], "hub"), gateway_record(both[1], "branch")]
    agents = LocalAgent(both[0], records, **changes), LocalAgent(both[1], records, **changes)
    await asyncio.gather(*(agent.start() for agent in agents))
    try:
        for agent in agents:
            agent.give(STAR)
        for agent in agents:
            await shows(agent, TunnelState.UP)
        yield agents
    finally:
        await asyncio.gather(*(agent.stop() for agent in agents))


def last_status(agent: LocalAgent) -> TunnelStatus | None:
    return next((it.status for it in reversed(agent.all(TunnelChange)) if it.status.name == NAME), None)


async def shows(agent: LocalAgent, state: TunnelState, reason: ReasonCode = ReasonCode.NONE) -> TunnelStatus:
    """Wait until the last change of the tunnel is this."""

    def is_shown() -> TunnelStatus | None:
        status = last_status(agent)
        return status if status is not None and (status.state, status.reason) == (state, reason) else None

    found: TunnelStatus = await eventually(is_shown, LIMIT, f"{state.value}, {reason.value}")
    return found


async def test_packets_that_leave_and_never_arrive_degrade_the_end_that_sends_them(
    both: tuple[Gateway, Gateway],
) -> None:
    hub, spoke = both
    async with at_work(both, health=lambda: TunnelHealth(Clocks(), one_way_after=2.0)) as (at_hub, at_spoke):
        ping = Ping(spoke.namespace, IPv4Address(spoke.protected), IPv4Address(hub.protected), 0.1)
        with ping:
            await eventually(lambda: ping.counts().received > 3, LIMIT)
            spoke.drop_esp("wan")
            status = await shows(at_spoke, TunnelState.DEGRADED, ReasonCode.ONE_WAY_TRAFFIC)
            assert "packets leave and none arrive for" in status.detail
            assert status.evidence.kind is EvidenceKind.TRAFFIC  # of before, with its time
            assert status.evidence.at is not None
            seen = len(at_hub.all(Report))
            await eventually(lambda: len(at_hub.all(Report)) > seen + 2, LIMIT)
            hub_status = next(it for it in at_hub.last(Report).tunnels if it.name == NAME)
            assert (hub_status.state, hub_status.reason) == (
                TunnelState.UP,
                ReasonCode.NONE,
            )  # it receives, and answers
            spoke.pass_esp()
            await shows(at_spoke, TunnelState.UP)


def a_minute_ahead() -> datetime:
    return datetime.now(UTC) + timedelta(minutes=1)


async def test_several_child_sas_of_one_child_degrade_the_tunnel_until_they_are_closed(
    both: tuple[Gateway, Gateway],
) -> None:
    """Older than a rekeying takes, by a clock that is a minute ahead. The other end would close them; its agent is stopped."""
    spoke = both[1]
    async with at_work(both, health=lambda: TunnelHealth(Clocks(now=a_minute_ahead))) as (at_hub, at_spoke):
        record = at_spoke.driver._records[NAME]
        assert record.config is not None
        other = HandleName("by-hand", record.desired.connection.generation + 5)
        child = HandleName("by-hand", other.generation, record.config.link.children[0].name)
        built = build_connection(record.config, other, [child], await at_spoke.driver._charon.abilities())
        await at_spoke.stop()
        await at_spoke.driver._charon.load_connection(built)
        Vici(spoke.charon).initiate(str(other), str(child))
        status = await shows(at_hub, TunnelState.DEGRADED, ReasonCode.DUPLICATE_SAS)
        assert "2 of" in status.detail
        assert len(status.link.children) == 2
        Vici(spoke.charon).terminate(str(other))
        await shows(at_hub, TunnelState.UP)
        await at_spoke.driver._charon.close()


async def test_requests_without_an_answer_are_named_with_the_time_of_the_first(both: tuple[Gateway, Gateway]) -> None:
    async with at_work(both) as (_, at_spoke):
        at_spoke.give({**STAR, "options": {"ike": {"dpd_delay": 1}}})
        await eventually(partial(has_dpd, at_spoke), LIMIT)
        await shows(at_spoke, TunnelState.UP)
        since = len(at_spoke.all(TunnelChange))
        await both[0].crash()

        def is_found() -> TunnelStatus | None:  # it lasts until charon gives the peer up
            changes = [it.status for it in at_spoke.all(TunnelChange)[since:]]
            return next((it for it in changes if it.reason is ReasonCode.PEER_NOT_ANSWERING), None)

        status: TunnelStatus = await eventually(is_found, LIMIT, "requests without an answer")
        assert status.state is TunnelState.DEGRADED
        assert "not answered since 20" in status.detail


async def has_dpd(agent: LocalAgent) -> bool:
    listed = await agent.driver._charon.list_connections()
    return (
        len(listed) == 1
        and all(it["dpd_delay"] == b"1" for it in listed.values())
        and agent.driver._records[NAME].converged
    )


async def test_refused_ike_sa_init_names_both_of_its_causes(both: tuple[Gateway, Gateway]) -> None:
    """The hub has no connection for the spoke; a peer with other proposals gives the same answer."""
    hub, spoke = both
    at_spoke = LocalAgent(spoke, [gateway_record(hub, "hub"), gateway_record(spoke, "branch")])
    await at_spoke.start()
    try:
        at_spoke.give(STAR)
        status = await shows(at_spoke, TunnelState.ERROR, ReasonCode.PROPOSAL_MISMATCH_IKE)
        assert "it has no connection that matches these addresses" in status.detail
        assert "or none of these proposals" in status.detail
    finally:
        await at_spoke.stop()


def test_kernel_switches_of_a_namespace_are_read_without_privileges(lab: Lab) -> None:
    namespace = lab.namespace("switches")
    namespace.run("ip", "tuntap", "add", "ipsec0", "mode", "tun")

    def found() -> list[str]:
        no_capabilities = ("setpriv", "--bounding-set", "-all", "--inh-caps", "-all")
        return namespace.run(*no_capabilities, sys.executable, "-c", LOOK).split()

    def set_switches(forwarding: int, rp_filter: int) -> None:
        script = f"echo {forwarding} > /proc/sys/net/ipv4/ip_forward; echo {rp_filter} > /proc/sys/net/ipv4/conf/ipsec0/rp_filter"
        namespace.run("sh", "-c", f"echo 0 > /proc/sys/net/ipv4/conf/all/rp_filter; {script}")

    set_switches(forwarding=0, rp_filter=1)
    assert found() == ["forwarding-off", "rp-filter"]
    set_switches(forwarding=1, rp_filter=2)
    assert found() == []


LOOK = """
from warren_agent.switches import HostSwitches
from warren_contracts.status import TunnelState, TunnelStatus
from warren_testkit.intent import ipsec_tunnel
status = TunnelStatus(name="hub+spoke", state=TunnelState.UP)
print(*(it.code.value for it in HostSwitches(["ipsec0", "missing0"], lambda: 0.0).findings(ipsec_tunnel(), status)))
"""
