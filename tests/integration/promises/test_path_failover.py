"""A filter drops ESP and lets IKE pass: the path probe finds it, and another gateway or address carries the traffic.

Frames are counted on the spoke's links meanwhile: none is in clear, although each gateway has a route in clear to the other site.
"""

import time
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from warren_contracts.addresses import Endpoint
from warren_contracts.status import ReasonCode, TunnelState
from warren_lab.lab import Lab
from warren_testkit.lab.agents import LocalAgent, gateway_record
from warren_testkit.lab.failover import FailoverBed
from warren_testkit.lab.gateways import Gateway
from warren_testkit.lab.userspace_gateways import LocalUserspaceAgent

pytestmark = [pytest.mark.root, pytest.mark.interop, pytest.mark.timeout(600)]


def route(gateway: Gateway, network: str, via: str, device: str) -> None:
    """A way in clear, which whatever is not protected would take. A driver's route for the same network comes before it."""
    gateway.namespace.run("ip", "route", "replace", network, "via", via, "dev", device, "metric", "100")


def links_of(spoke: Gateway) -> list[tuple[Any, str]]:
    """Both links of the spoke."""
    return [(spoke.namespace, device) for device in ("wan1", "wan2")]


@pytest.mark.parametrize("agent", [LocalAgent, LocalUserspaceAgent], ids=["kernel-libipsec", "userspace"])
async def test_a_standby_gateway_takes_over_when_only_esp_is_dropped_and_gives_back_after_the_hold_down(
    lab: Lab, agent: type[LocalAgent]
) -> None:
    first, spoke, second = Gateway(lab, "hub-1", 1), Gateway(lab, "spoke", 2), Gateway(lab, "hub-2", 3)
    second.address, second.network, second.protected = "198.51.100.3", first.network, first.protected
    second.add_address(f"{first.protected}/24")
    lab.link(first.namespace, "wan", "192.0.2.1/24", spoke.namespace, "wan1", "192.0.2.2/24")
    lab.link(second.namespace, "wan", "198.51.100.3/24", spoke.namespace, "wan2", "198.51.100.2/24")
    route(spoke, first.network, first.address, "wan1")
    route(first, spoke.network, "192.0.2.2", "wan")
    route(second, spoke.network, "198.51.100.2", "wan")
    no_address: dict[str, Any] = {"endpoints": ()}
    records = [
        gateway_record(first, "hub").model_copy(update={"priority": 200}),
        gateway_record(spoke, "branch").model_copy(update=no_address),
        gateway_record(second, "hub").model_copy(update={"priority": 100, "subnets": (ip_network(first.network),)}),
    ]
    bed = FailoverBed([first, spoke, second], records, links_of(spoke), agent=agent)
    async with bed.running() as traffic:
        await bed.only("hub-1+spoke", first.address)
        await traffic.answered()
        await bed.shows("hub-2+spoke", TunnelState.STANDBY)
        await bed.shows("hub-2+spoke", TunnelState.STANDBY, at="hub-2")
        since = time.time()
        first.drop_esp("wan")
        await bed.only("hub-2+spoke", second.address)
        await traffic.answered()
        print(f"to the standby gateway in {traffic.longest_gap(since):.2f} s")
        await bed.shows("hub-1+spoke", TunnelState.DOWN, ReasonCode.PATH_PROBE_FAILED)
        first.pass_esp()
        await bed.only("hub-1+spoke", first.address)
        await traffic.answered()
        await bed.shows("hub-2+spoke", TunnelState.STANDBY)
        traffic.assert_nothing_in_clear()
        bed.assert_never_two_tunnels()


async def test_the_second_address_of_a_peer_is_used_when_only_esp_to_the_first_is_dropped(lab: Lab) -> None:
    hub, spoke = Gateway(lab, "hub", 1), Gateway(lab, "spoke", 2)
    lab.link(hub.namespace, "wan1", "192.0.2.1/24", spoke.namespace, "wan1", "192.0.2.2/24")
    lab.link(hub.namespace, "wan2", "198.51.100.1/24", spoke.namespace, "wan2", "198.51.100.2/24")
    hub.more_addresses = ("198.51.100.1",)
    route(spoke, hub.network, "192.0.2.1", "wan1")
    route(hub, spoke.network, "192.0.2.2", "wan1")
    addresses = tuple(Endpoint(ip_address(it)) for it in ("192.0.2.1", "198.51.100.1"))
    no_address: dict[str, Any] = {"endpoints": ()}
    records = [
        gateway_record(hub, "hub").model_copy(update={"endpoints": addresses}),
        gateway_record(spoke, "branch").model_copy(update=no_address),
    ]
    bed = FailoverBed([hub, spoke], records, links_of(spoke))
    async with bed.running() as traffic:
        await bed.only("hub+spoke", "192.0.2.1")
        await traffic.answered()
        since = time.time()
        hub.drop_esp("wan1")
        await bed.only("hub+spoke", "198.51.100.1")
        await traffic.answered()
        print(f"to the second address in {traffic.longest_gap(since):.2f} s")
        hub.pass_esp()
        await bed.only("hub+spoke", "192.0.2.1")
        await traffic.answered()
        traffic.assert_nothing_in_clear()
