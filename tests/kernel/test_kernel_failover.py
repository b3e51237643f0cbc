"""A standby gateway takes over where ESP is the kernel's. Frames are counted here; times mean nothing on an emulated machine."""

from collections.abc import Callable
from ipaddress import ip_network
from typing import Any

import pytest

from warren_contracts.status import ReasonCode, TunnelState
from warren_lab.charon_conf import IpsecBackend
from warren_lab.lab import Lab
from warren_lab.namespace import Namespace
from warren_testkit.lab.agents import gateway_record
from warren_testkit.lab.failover import FailoverBed
from warren_testkit.lab.gateways import Gateway
from warren_testkit.lab.kernel import join, make_wire
from warren_testkit.lab.promises import EMULATED_INTERVAL_S

pytestmark = [pytest.mark.root, pytest.mark.interop, pytest.mark.kernel, pytest.mark.timeout(1500)]

WAIT_S = 180.0


async def test_a_standby_gateway_takes_over_when_only_esp_is_dropped_and_no_frame_is_in_clear(
    wired: tuple[Lab, Namespace], say: Callable[[str], None]
) -> None:
    with Lab("wf") as lab:
        first, spoke, second = (
            Gateway(lab, name, number, plane=IpsecBackend.KERNEL)
            for name, number in (("hub-1", 1), ("spoke", 2), ("hub-2", 3))
        )
        second.address, second.network, second.protected = "198.51.100.3", first.network, first.protected
        second.add_address(f"{first.protected}/24")
        watched = []
        for number, (hub, own) in enumerate(((first, "192.0.2.2"), (second, "198.51.100.2")), 1):
            wire = lab.namespace(f"wire-{number}")
            make_wire(wire)
            join(wire, hub.namespace, hub.name, hub.address)
            join(wire, spoke.namespace, "spoke", own, f"wan{number}")
            hub.namespace.run("ip", "route", "add", spoke.network, "via", own, "dev", "wan")
            watched.append((wire, "spoke"))
        spoke.namespace.run("ip", "route", "add", first.network, "via", first.address, "dev", "wan1")
        changed: dict[str, Any] = {"priority": 100, "subnets": (ip_network(first.network),)}
        records = [
            gateway_record(first, "hub").model_copy(update={"priority": 200}),
            gateway_record(spoke, "branch").model_copy(update={"endpoints": ()}),
            gateway_record(second, "hub").model_copy(update=changed),
        ]
        gateways = [first, spoke, second]
        bed = FailoverBed(gateways, records, watched, interval_s=EMULATED_INTERVAL_S, limit_s=WAIT_S)
        async with bed.running() as traffic:
            await bed.only("hub-1+spoke", first.address)
            await traffic.answered()
            first.drop_esp("wan")
            await bed.only("hub-2+spoke", second.address)
            await traffic.answered()
            say(f"to the standby gateway: {traffic.summary()}")
            await bed.shows("hub-1+spoke", TunnelState.DOWN, ReasonCode.PATH_PROBE_FAILED)
            first.pass_esp()
            await bed.only("hub-1+spoke", first.address)
            await traffic.answered()
            say(f"and back: {traffic.summary()}")
            traffic.assert_nothing_in_clear()
            bed.assert_never_two_tunnels()
