"""What charon's own data plane cannot do and the kernel's can: transit, ESN, transport mode, interface ids, marks."""

import asyncio
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from warren_contracts.addresses import Endpoint
from warren_contracts.status import ChildSaStatus
from warren_intent.expand import expand
from warren_lab.xfrm import KernelPolicy, KernelSa, kernel_policies, kernel_sas
from warren_testkit.intent import directory, published, record
from warren_testkit.lab.gateways import Watched, ike_key
from warren_testkit.lab.kernel import KernelFleet

pytestmark = [pytest.mark.root, pytest.mark.interop, pytest.mark.kernel]

NAME = "hub+spoke-1"


async def bring_up(hub: Watched, spoke: Watched, at_hub: dict[str, Any] | None = None, **changes: Any) -> ChildSaStatus:
    """The tunnel with these changes at both ends, and `at_hub` at the hub's alone; the spoke's SA."""
    await hub.driver.create_tunnel(hub.tunnel(spoke, False, name=NAME, **changes | (at_hub or {})))
    await spoke.driver.create_tunnel(spoke.tunnel(hub, True, name=NAME, **changes))
    await spoke.driver.start_tunnel(NAME)
    await asyncio.gather(hub.converged(), spoke.converged())
    (sa,) = await spoke.driver.sa_info(NAME)
    return sa


async def test_esn(fleet: KernelFleet) -> None:
    hub, spoke, _ = fleet.drivers
    sa = await bring_up(hub, spoke, child={"proposals": ["aes256gcm16-x25519-esn"]})
    assert sa.esn
    assert await spoke.gateway.ping(hub.gateway.protected)
    for end in (hub, spoke):
        assert [it.esn for it in kernel_sas(end.gateway.namespace)] == [True, True]


async def test_transport_mode_between_two_hosts(fleet: KernelFleet) -> None:
    hub, spoke, _ = fleet.drivers
    ends = hub.gateway.address, spoke.gateway.address
    children: list[dict[str, Any]] = [
        {"child": {"mode": "transport", "local_ts": [f"{own}/32"], "remote_ts": [f"{other}/32"]}}
        for own, other in (ends, ends[::-1])
    ]
    await bring_up(hub, spoke, at_hub=children[0], **children[1])
    # the source of the ping is the outer address itself
    assert await spoke.gateway.ping(hub.gateway.address, source=spoke.gateway.address)
    assert {it.mode for it in kernel_sas(spoke.gateway.namespace)} == {"transport"}
    assert (await hub.driver.statistics(NAME)).packets_in == 3


async def test_xfrm_interface_carries_what_is_routed_to_it(fleet: KernelFleet) -> None:
    hub, spoke, _ = fleet.drivers
    wires = (hub, spoke.gateway.network), (spoke, hub.gateway.network)
    for end, beyond in wires:
        run = end.gateway.namespace.run
        run("ip", "link", "add", "xfrm7", "type", "xfrm", "dev", "wan", "if_id", "7")
        run("ip", "link", "set", "xfrm7", "up")
        run("ip", "route", "add", beyond, "dev", "xfrm7", "src", end.gateway.protected)
    try:
        await bring_up(hub, spoke, link={"xfrm": {"if_id_in": 7, "if_id_out": 7}})
        assert await spoke.gateway.ping(hub.gateway.protected)
        found: list[KernelSa | KernelPolicy] = [
            *kernel_sas(spoke.gateway.namespace),
            *kernel_policies(spoke.gateway.namespace),
        ]
        assert {it.if_id for it in found} == {7}
        assert (await hub.driver.statistics(NAME)).packets_in == 3
    finally:
        for end, _ in wires:
            end.gateway.namespace.run("ip", "link", "del", "xfrm7")


async def test_mark_chooses_what_goes_into_the_tunnel(fleet: KernelFleet) -> None:
    """The spoke's packets without the mark stay outside, and the hub's policy refuses them in clear."""
    hub, spoke, _ = fleet.drivers
    await hub.driver.create_tunnel(hub.tunnel(spoke, False, name=NAME))
    await spoke.driver.create_tunnel(
        spoke.tunnel(hub, True, name=NAME, link={"xfrm": {"mark_out": 0x10, "mark_out_mask": 0xFF}})
    )
    await spoke.driver.start_tunnel(NAME)
    await asyncio.gather(hub.converged(), spoke.converged())
    assert await spoke.gateway.ping(hub.gateway.protected, 3, "-m", "16")
    assert not await spoke.gateway.ping(hub.gateway.protected, 1, "-W", "3")
    (out,) = [it for it in kernel_policies(spoke.gateway.namespace) if it.direction == "out"]
    assert out.mark == "0x10/0xff"
    assert (await hub.driver.statistics(NAME)).packets_in == 3


async def test_spokes_reach_each_other_through_a_hub_in_transit(fleet: KernelFleet) -> None:
    """From the policy to the packets: what `expand` makes of it on each of the three is given to their drivers."""
    hub, first, second = fleet.drivers
    peers = directory(
        *(
            record(
                end.gateway.name, end.gateway.number, "hub" if end is hub else "branch",
                public_key=ike_key(end.gateway.number)[1], endpoints=(Endpoint(ip_address(end.gateway.address)),),
                subnets=(ip_network(end.gateway.network),),
            )
            for end in fleet.drivers
        )
    )  # fmt: skip
    policy = published("star", hubs=["tag=hub"], spokes=["tag=branch"], transit=True)
    for end in fleet.drivers:
        for config in expand([policy], peers, end.gateway.name):
            await end.driver.create_tunnel(config)
    hub.gateway.namespace.enable_forwarding()
    await asyncio.gather(first.driver.start_tunnel("hub+spoke-1"), second.driver.start_tunnel("hub+spoke-2"))
    await asyncio.gather(
        first.converged(), second.converged(), *(hub.converged(name=name) for name in ("hub+spoke-1", "hub+spoke-2"))
    )
    assert await first.gateway.ping(second.gateway.protected)
    assert await second.gateway.ping(first.gateway.protected)
    through = await hub.driver.statistics("hub+spoke-1"), await hub.driver.statistics("hub+spoke-2")
    assert [(it.packets_in, it.packets_out) for it in through] == [(6, 6), (6, 6)]
    assert await first.gateway.ping(hub.gateway.protected)
