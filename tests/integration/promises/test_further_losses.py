"""Further ways to lose a tunnel than those of `test_leak_protection.py`: by a hung daemon, the link, the device, routes, hands, rekeying,
a lost state folder, and with IPv6. No packet of its traffic leaves in clear, and the tunnel comes back by itself.

One bed for all rows. Every row is tried, and prints what was counted; all failures are reported.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from ipaddress import IPv6Address, ip_interface

import pytest

from warren_contracts.policy import Policy
from warren_contracts.status import ReasonCode, TunnelState
from warren_contracts.telemetry import AttemptFailure, TunnelChange
from warren_lab.capture import Capture
from warren_testkit.lab.promises import REPLY_LIMIT_S, PromiseBed, Site
from warren_testkit.waiting import eventually

pytestmark = [pytest.mark.root, pytest.mark.interop, pytest.mark.promises, pytest.mark.timeout(1200)]

STAR = {
    "id": "star",
    "topology": {"kind": "hub-spoke", "hubs": ["tag=hub"], "spokes": ["tag=branch"]},
    "options": {"ike": {"dpd_delay": 2}},
}
SIX = {"hub": "fd00:1::/64", "spoke": "fd00:2::/64"}


@contextlib.contextmanager
def hanging(site: Site) -> Iterator[None]:
    """Its charon hangs."""
    process = site.gateway.charon.process_id
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


async def _swanctl(site: Site, *arguments: str) -> None:
    await asyncio.to_thread(site.gateway.charon.swanctl, *arguments)


async def _close(site: Site) -> None:
    for sa in await site.gateway.ike_sas():
        await _swanctl(site, "--terminate", "--force", "--ike-id", str(sa.unique_id))


async def charon_of_either_end_hangs(bed: PromiseBed) -> None:
    for site in bed.sites:
        with hanging(site):
            async with bed.traffic() as traffic:
                await traffic.unanswered()
                traffic.assert_nothing_in_clear()


async def link_fails(bed: PromiseBed) -> None:
    for site in bed.sites:
        site.namespace.run("ip", "link", "set", "wan", "down")
        site.namespace.run("ip", "link", "set", "wan", "up")
        bed.route()  # the ways in clear are gone with the link


async def device_of_the_tunnels_goes_down(bed: PromiseBed) -> None:
    """The kernel removes the routes that lead into it: packets take the way in clear. The guard sets it up again."""
    await _lose_routes(bed, bed.spoke, "ip", "link", "set", "ipsec0", "down")


async def routes_are_flushed(bed: PromiseBed) -> None:
    """At either end: the initiator makes new SAs, the other one closes what it has, so that the initiator does."""
    for site in bed.sites:
        await _lose_routes(bed, site, "ip", "route", "flush", "table", "220")


async def _lose_routes(bed: PromiseBed, site: Site, *command: str) -> None:
    """The agent says so, and has charon install them again."""
    since = bed.control.count
    site.namespace.run(*command)
    found = await bed.control.received(
        AttemptFailure, site.gateway.name, lambda it: it.code is ReasonCode.CONFIG_DRIFT, since=since
    )
    assert "missing in table 220" in found.detail
    async with bed.traffic() as traffic:
        await traffic.answered()
        traffic.assert_nothing_in_clear()
    assert "ipsec0" in site.namespace.run("ip", "route", "show", "table", "220")


async def everything_is_unloaded_by_hand(bed: PromiseBed) -> None:
    """Connections, keys and SAs at both ends."""
    for site in bed.sites:
        await _swanctl(site, "--load-all", "--clear")
        await _close(site)


async def both_levels_are_rekeyed(bed: PromiseBed) -> None:
    for sa in await bed.spoke.gateway.ike_sas():
        await _swanctl(bed.spoke, "--rekey", "--ike-id", str(sa.unique_id))
        for child in sa.children:
            await _swanctl(bed.hub, "--rekey", "--child-id", str(child.unique_id))


async def what_the_agent_knows_of_charon_is_lost(bed: PromiseBed) -> None:
    """Its ledger and its last intent, as after a restored disk; its keys are there."""
    agent = bed.agents[1]
    await agent.kill()
    for name in ("strongswan.json", "intent.json", "capabilities.json", "paths.json", "changes.json"):
        (agent.state / name).unlink(missing_ok=True)
    await agent.start()


ROWS: tuple[Callable[[PromiseBed], Awaitable[None]], ...] = (
    charon_of_either_end_hangs, link_fails, device_of_the_tunnels_goes_down, routes_are_flushed, everything_is_unloaded_by_hand,
    both_levels_are_rekeyed, what_the_agent_knows_of_charon_is_lost,
)  # fmt: skip


async def test_no_further_loss_lets_a_packet_out_in_clear_and_the_tunnel_returns(
    bed: PromiseBed, capsys: pytest.CaptureFixture[str]
) -> None:
    await bed.control.publish(Policy.model_validate(STAR))
    await bed.guarded()
    failures = []
    for row in ROWS:
        try:
            async with bed.traffic() as traffic:
                await traffic.answered()
                await row(bed)
                await traffic.answered()
            seen = traffic.seen()
            with capsys.disabled():
                print(
                    f"{row.__name__}: {len(seen.clear)} in clear of {seen.sent} sent, {seen.answered} answered",
                    flush=True,
                )
            traffic.assert_nothing_in_clear()
        except (AssertionError, OSError, TimeoutError) as error:
            failures.append(f"{row.__name__}: {error}")
    assert failures == []


@contextlib.asynccontextmanager
async def echoes(site: Site, target: str) -> AsyncIterator[None]:
    """50 echo requests a second from a gateway to an address of IPv6."""
    command = site.namespace.argv(["ping", "-6", "-q", "-i", "0.02", "-I", _inner(site), target])
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        await process.wait()


def _inner(site: Site) -> str:
    return SIX[site.gateway.name].replace("/64", "1")


async def _echoed(site: Site, target: str) -> bool:
    command = site.namespace.argv(["ping", "-6", "-q", "-c", "1", "-W", "2", "-I", _inner(site), target])
    return await (await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL)).wait() == 0


def _is_guarded(bed: PromiseBed) -> bool:
    return all(SIX["spoke"] in site.guard.table() for site in bed.sites)


async def test_traffic_of_ipv6_is_protected_as_well(bed: PromiseBed, capsys: pytest.CaptureFixture[str]) -> None:
    """The check can fail: with `protect: off` its packets are seen."""
    hub, spoke = bed.sites
    for site, peer in ((hub, spoke), (spoke, hub)):
        site.namespace.add_address("lan", ip_interface(f"{_inner(site)}/64"))
        site.namespace.add_address("wan", ip_interface(f"fd00:99::{site.gateway.number}/64"))
        way = ["via", f"fd00:99::{peer.gateway.number}", "dev", "wan"]
        site.namespace.run("ip", "-6", "route", "add", SIX[peer.gateway.name], *way)
    ends = [{"peer": name, "subnets": [network]} for name, network in SIX.items()]
    policy = {"id": "six", "tunnels": [{"name": "six", "ends": ends}]}
    inner = frozenset(IPv6Address(_inner(site)) for site in bed.sites)

    async def answered() -> bool:
        return await _echoed(spoke, _inner(hub))

    async def unanswered() -> bool:
        return not await answered()

    for protect, is_seen in (("always", False), ("off", True)):
        await bed.control.publish(Policy.model_validate({**policy, "protect": protect}))
        await eventually(lambda: _is_guarded(bed) is not is_seen, REPLY_LIMIT_S, f"the guards with protect: {protect}")  # noqa: B023
        await bed.control.received(TunnelChange, "spoke", lambda it: it.status.state is TunnelState.UP)
        await eventually(answered, REPLY_LIMIT_S, "a reply through the tunnel")
        with Capture(hub.namespace, "wan", inner) as at_hub, Capture(spoke.namespace, "wan", inner) as at_spoke:
            async with echoes(spoke, _inner(hub)), echoes(hub, _inner(spoke)):
                await asyncio.gather(*(site.gateway.stop() for site in bed.sites))
                await eventually(
                    unanswered if protect == "always" else answered, REPLY_LIMIT_S, "the end of the tunnel"
                )
                await asyncio.gather(*(site.gateway.start() for site in bed.sites))
                await eventually(answered, REPLY_LIMIT_S, "a reply")
        clear = [*at_hub.clear_packets(), *at_spoke.clear_packets()]
        with capsys.disabled():
            print(
                f"IPv6, protect: {protect}: {len(clear)} in clear, {at_hub.frames + at_spoke.frames} frames", flush=True
            )
        assert bool(clear) is is_seen
