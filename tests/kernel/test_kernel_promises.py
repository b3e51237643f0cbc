"""Leak protection where ESP is the kernel's: whatever happens to charons, policies, peers and rules, no frame of protected
traffic is in clear on the wire between two gateways.

One bed for all rows, since its start takes most of the time on an emulated machine. Every row is tried; all failures are reported.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import pytest

from warren_agent.adapters.guard import GuardClient
from warren_contracts.guard import FindingCode, HeldState, InspectRequest
from warren_contracts.policy import Policy, PublishedPolicy
from warren_contracts.status import ReasonCode, TunnelState
from warren_contracts.telemetry import Applied, TunnelChange
from warren_lab.charon_conf import IpsecBackend
from warren_lab.xfrm import charon_routes, kernel_policies, kernel_sas
from warren_testkit.agent.control import Control
from warren_testkit.bus import GrantingCallout, RealServer
from warren_testkit.lab.promises import PromiseBed, Site, Traffic, open_bed
from warren_testkit.waiting import eventually

pytestmark = [pytest.mark.root, pytest.mark.interop, pytest.mark.kernel, pytest.mark.timeout(2000)]

STAR = {
    "id": "star",
    "topology": {"kind": "hub-spoke", "hubs": ["tag=hub"], "spokes": ["tag=branch"]},
    "options": {"ike": {"dpd_delay": 2}},
    "protect_after_delete": "keep",
}
# As on most gateways: what leaves by the WAN gets its address.
MASQUERADE = "table ip nat { chain post { type nat hook postrouting priority 100; oifname wan masquerade; }; }"
DEBIAN = """\
#!/usr/sbin/nft -f

flush ruleset

table inet filter {
	chain input {
		type filter hook input priority filter;
	}
	chain forward {
		type filter hook forward priority filter;
	}
	chain output {
		type filter hook output priority filter;
	}
}
"""  # Debian's /etc/nftables.conf
WAIT_S = 90.0


def star(**changes: object) -> Policy:
    return Policy.model_validate(STAR | changes)


class Rows:
    """Runs the rows, and notes what failed and what was seen."""

    def __init__(self, bed: PromiseBed, say: Callable[[str], None]) -> None:
        self.bed, self.say = bed, say
        self.failures: list[str] = []

    @contextlib.asynccontextmanager
    async def row(self, name: str) -> AsyncIterator[Traffic]:
        """Traffic through the star's tunnel, and what was seen of it."""
        async with self.bed.traffic() as traffic:
            await traffic.answered()
            try:
                yield traffic
            finally:
                seen = traffic.seen()
                self.say(f"{name}: {len(seen.clear)} in clear of {seen.sent} sent, {seen.answered} answered")
            traffic.assert_nothing_in_clear()

    async def again(self) -> None:
        """Both charons run, and the star is published."""
        for site in self.bed.sites:
            if not site.gateway.charon.is_running:
                await site.gateway.start()
        await self.bed.control.publish(star())


@pytest.fixture
async def rows(tmp_path: Path, wired: object, say: Callable[[str], None]) -> AsyncIterator[Rows]:
    """The bed, after a row that shows that the check can fail."""
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(RealServer(tmp_path))
        callout = await stack.enter_async_context(GrantingCallout(server))
        control = await stack.enter_async_context(Control(server, callout))
        bed = await open_bed(stack, control, IpsecBackend.KERNEL)
        yield Rows(bed, say)


def in_kernel(site: Site) -> set[str]:
    """The SPIs of the kernel's SAs."""
    return {it.spi for it in kernel_sas(site.namespace)}


async def in_charon(site: Site) -> set[str]:
    """The SPIs of charon's."""
    found = [child for sa in await site.gateway.ike_sas() for child in sa.children]
    return {spi for child in found for spi in (child.spi_in, child.spi_out)}


async def holds_nothing_else(site: Site) -> bool:
    """Whether the kernel holds exactly the SAs that charon has, and charon has some."""
    known = await in_charon(site)
    return bool(known) and in_kernel(site) == known


async def clear_without_protection(rows: Rows) -> None:
    bed = rows.bed
    await bed.control.publish(star(protect="off"))
    for peer in ("hub", "spoke"):
        await bed.control.received(Applied, peer, lambda it: it.ok, within=WAIT_S)
    await asyncio.gather(*(site.gateway.stop() for site in bed.sites))
    async with bed.traffic() as traffic:
        await traffic.answered()
        await traffic.clear(more_than=50)
        seen = traffic.seen()
        rows.say(f"protect: off, no charon: {len(seen.clear)} in clear of {seen.sent} sent")
    await bed.control.publish(star())
    await bed.guarded()
    await asyncio.gather(*(site.gateway.start() for site in bed.sites))


async def peer_charon_stopped(rows: Rows) -> None:
    bed = rows.bed
    async with rows.row("the peer's charon stopped") as traffic:
        await bed.hub.gateway.stop()
        await traffic.unanswered()
        await bed.hub.gateway.start()
        await traffic.answered()


async def sas_closed_by_swanctl(rows: Rows) -> None:
    bed = rows.bed
    async with rows.row("swanctl --terminate") as traffic:
        for sa in await bed.spoke.gateway.ike_sas():
            await asyncio.to_thread(bed.spoke.gateway.charon.swanctl, "--terminate", "--ike-id", str(sa.unique_id))
        await traffic.answered()


async def charon_crashes(rows: Rows) -> None:
    """Its SAs stay in the kernel and carry on; when it is back, they are replaced and removed."""
    spoke = rows.bed.spoke
    async with rows.row("own charon killed and restarted") as traffic:
        before = in_kernel(spoke)
        await spoke.gateway.crash()
        await traffic.answered()
        await spoke.gateway.start()
        rows.say(f"after its start charon left {len(in_kernel(spoke) & before)} of {len(before)} states in the kernel")
        await eventually(partial(holds_nothing_else, spoke), WAIT_S, "no state but charon's")
        assert not in_kernel(spoke) & before
        await traffic.answered()


async def charon_crashes_and_its_tunnel_is_gone(rows: Rows) -> None:
    """What is left of it goes; a state and a policy of somebody else stay."""
    bed, spoke = rows.bed, rows.bed.spoke
    foreign = ["src", "192.0.2.2", "dst", "192.0.2.77", "proto", "esp", "spi", "0x77777"]
    key = ["aead", "rfc4106(gcm(aes))", f"0x{'00' * 36}", "128"]
    selector = ["src", "10.88.0.0/24", "dst", "10.99.0.0/24", "dir", "out"]
    template = ["tmpl", "src", "192.0.2.2", "dst", "192.0.2.77", "proto", "esp", "spi", "0x77777", "mode", "tunnel"]
    spoke.namespace.run("ip", "xfrm", "state", "add", *foreign, "mode", "tunnel", *key)
    spoke.namespace.run("ip", "xfrm", "policy", "add", *selector, *template)
    async with rows.row("own charon killed, its policy disabled meanwhile") as traffic:
        await spoke.gateway.crash()
        await bed.control.publish(star(enabled=False))
        await bed.has_states({HeldState.RETAINED})
        await spoke.gateway.start()
        await eventually(lambda: in_kernel(spoke) == {"00077777"}, WAIT_S, "no state but the foreign one")
        await traffic.unanswered()
        assert [it.spi for it in kernel_policies(spoke.namespace)] == ["00077777"]
        assert charon_routes(spoke.namespace) == []
    spoke.namespace.run("ip", "xfrm", "policy", "delete", *selector)
    spoke.namespace.run("ip", "xfrm", "state", "delete", *foreign)


async def dead_peer(rows: Rows) -> None:
    bed = rows.bed
    async with rows.row("a dead peer after DPD") as traffic:
        since = bed.control.count
        bed.hub.namespace.run("nft", "add table inet deaf")
        bed.hub.namespace.run("nft", "add chain inet deaf in { type filter hook prerouting priority -500; }")
        bed.hub.namespace.run("nft", "add rule inet deaf in iifname wan udp dport { 500, 4500 } drop")
        bed.hub.namespace.run("nft", "add rule inet deaf in iifname wan meta l4proto esp drop")
        lost = (TunnelState.DOWN, TunnelState.ERROR, TunnelState.CONNECTING)
        await bed.control.received(TunnelChange, "spoke", lambda it: it.status.state in lost, since, within=WAIT_S)
        await eventually(lambda: not in_kernel(bed.spoke), WAIT_S, "no state of the dead tunnel")
        await traffic.unanswered()
        bed.hub.namespace.run("nft", "delete table inet deaf")
        await traffic.answered()


async def narrowing_peer(rows: Rows) -> None:
    bed = rows.bed
    async with rows.row("the peer narrows the selectors") as traffic:
        since = bed.control.count
        async with bed.narrowed_hub(PublishedPolicy(revision=1, policy=star())):
            await bed.control.received(
                TunnelChange, "spoke", lambda it: it.status.reason is ReasonCode.NARROWED, since, within=WAIT_S
            )
            await traffic.more(25)


async def flush_of_debian(rows: Rows) -> None:
    bed = rows.bed
    async with rows.row("flush by Debian's nftables.conf") as traffic:
        for site in bed.sites:
            table, file = site.guard.table(), site.gateway.folder / "nftables.conf"
            file.write_text(DEBIAN)
            site.namespace.run("nft", "-f", str(file))
            await site.guard.has_table(table)
        await traffic.answered()
        await asyncio.gather(*(site.gateway.stop() for site in bed.sites))
        await traffic.unanswered()
        await asyncio.gather(*(site.gateway.start() for site in bed.sites))


async def masquerade(rows: Rows) -> None:
    bed, spoke = rows.bed, rows.bed.spoke
    async with rows.row("oifname wan masquerade") as traffic:
        spoke.namespace.run("nft", MASQUERADE)
        await traffic.more(25)
        await traffic.answered()
    await spoke.guard.stop()
    await spoke.guard.start("--masquerade", "report")
    found = (await GuardClient(spoke.guard.socket, lambda: 0.0).ask(InspectRequest())).findings
    assert (FindingCode.MASQUERADE, False) in [(it.code, it.fixed) for it in found]
    async with bed.traffic() as traffic:  # what was translated is dropped, since no SA carries it
        await traffic.more(50)
        seen = traffic.seen()
        rows.say(f"oifname wan masquerade, only reported: {len(seen.clear)} in clear of {seen.sent} sent")
        traffic.assert_nothing_in_clear()
    spoke.namespace.run("nft", "delete", "table", "ip", "nat")
    await spoke.guard.stop()
    await spoke.guard.start()


async def boot(rows: Rows) -> None:
    bed = rows.bed
    await bed.boot()
    async with bed.traffic() as traffic:
        await traffic.unanswered()
        await asyncio.gather(*(agent.start() for agent in bed.agents))
        await traffic.more(25)
        await asyncio.gather(*(site.gateway.start() for site in bed.sites))
        await traffic.answered()
        seen = traffic.seen()
        rows.say(f"boot: {len(seen.clear)} in clear of {seen.sent} sent, {seen.answered} answered")
        traffic.assert_nothing_in_clear()


async def policy_disabled_and_deleted(rows: Rows) -> None:
    bed = rows.bed
    async with rows.row("disabled, then deleted and kept") as traffic:
        await bed.control.publish(star(enabled=False))
        await traffic.unanswered()
        await bed.control.publish()
        await bed.has_states({HeldState.KEPT})
        await traffic.more(25)


async def peer_revoked(rows: Rows) -> None:
    bed = rows.bed
    before = bed.control.records["spoke"]
    async with rows.row("revoked") as traffic:
        gone: dict[str, object] = {"withdrawn": True, "tags": (), "subnets": (), "keys": (), "endpoints": ()}
        await bed.control.put_records([before.model_copy(update=gone)])
        await traffic.unanswered()
        await traffic.more(25)
    await bed.control.put_records([before])


ROWS = (
    peer_charon_stopped, sas_closed_by_swanctl, charon_crashes, charon_crashes_and_its_tunnel_is_gone, masquerade,
    flush_of_debian, boot, policy_disabled_and_deleted, peer_revoked, dead_peer, narrowing_peer,
)  # fmt: skip


async def test_no_frame_of_protected_traffic_is_in_clear_on_the_wire(rows: Rows) -> None:
    await clear_without_protection(rows)
    for part in ROWS:
        try:
            await rows.again()
            await part(rows)
        except Exception as error:  # noqa: BLE001 - the other rows are tried all the same
            rows.failures.append(f"{part.__name__}: {type(error).__name__}: {error}")
    assert rows.failures == []
