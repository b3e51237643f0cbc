"""Leak protection on the kernel's data plane (XFRM): `rt ipsec missing`, and source NAT in front of the tunnel."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from warren_agent.adapters.guard import GuardClient
from warren_contracts.guard import FindingCode, InspectRequest
from warren_contracts.policy import Policy
from warren_contracts.status import ReasonCode
from warren_contracts.telemetry import Report
from warren_lab.charon_conf import DataPlane
from warren_testkit.agent.control import Control
from warren_testkit.bus import GrantingCallout, RealServer
from warren_testkit.lab.promises import PromiseBed, open_bed

pytestmark = [pytest.mark.root, pytest.mark.interop, pytest.mark.kernel, pytest.mark.timeout(600)]

STAR = {"id": "star", "topology": {"kind": "hub-spoke", "hubs": ["tag=hub"], "spokes": ["tag=branch"]}}
# As on most gateways: what leaves by the WAN gets its address.
MASQUERADE = "table ip nat { chain post { type nat hook postrouting priority 100; oifname wan masquerade; }; }"


@pytest.fixture
async def bed(tmp_path: Path) -> AsyncIterator[PromiseBed]:
    """Both sites at work; no policy is published."""
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(RealServer(tmp_path))
        callout = await stack.enter_async_context(GrantingCallout(server))
        control = await stack.enter_async_context(Control(server, callout))
        yield await open_bed(stack, control, DataPlane.KERNEL)


async def test_charons_may_stop_and_crash(bed: PromiseBed) -> None:
    await bed.control.publish(Policy.model_validate(STAR))
    await bed.guarded()
    async with bed.traffic() as traffic:
        await traffic.answered()
        await bed.hub.gateway.stop()
        await traffic.unanswered()
        await bed.hub.gateway.start()
        await traffic.answered()
        await bed.spoke.gateway.crash()
        bed.spoke.namespace.run("ip", "xfrm", "state", "flush")  # the kernel keeps what a crashed charon had installed
        bed.spoke.namespace.run("ip", "xfrm", "policy", "flush")
        await traffic.unanswered()
        await bed.spoke.gateway.start()
        await traffic.answered()
        traffic.assert_nothing_in_clear()


async def test_masquerading_in_front_of_the_tunnel_is_excepted_or_named(bed: PromiseBed) -> None:
    """With `fix` the packets keep their source and are carried; with `report` they are dropped, and the reason is shown."""
    for site in bed.sites:
        site.namespace.run("nft", MASQUERADE)
    await bed.control.publish(Policy.model_validate(STAR))
    await bed.guarded()
    async with bed.traffic() as traffic:
        await traffic.answered()
        traffic.assert_nothing_in_clear()
    await bed.spoke.guard.stop()
    await bed.spoke.guard.start("--masquerade", "report")
    reply = await GuardClient(bed.spoke.guard.socket, lambda: 0.0).ask(InspectRequest())
    assert [(it.code, it.fixed) for it in reply.findings] == [(FindingCode.MASQUERADE, False)]
    since = bed.control.count
    async with bed.traffic() as traffic:
        await traffic.more(50)
        traffic.assert_nothing_in_clear()  # neither with their own addresses nor with the gateway's
    await bed.control.received(
        Report,
        "spoke",
        lambda it: any(status.reason is ReasonCode.MASQUERADE for status in it.tunnels),
        since,
        within=90,
    )
