"""XFRM interfaces exist as long as the guard holds their traffic; those of other programs are used and never touched."""

from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from warren_contracts.guard import GuardReply, ProtectRequest, ReleaseRequest
from warren_contracts.protection import ProtectedTraffic
from warren_contracts.tunnel_routes import TunnelRoutesRequest
from warren_guard.adapters.state_file import StateFile
from warren_guard.domain.interfaces import KernelLinks, XfrmInterface
from warren_guard.domain.leftovers import CharonRoute, KernelIpsec
from warren_guard.guard import Guard
from warren_testkit.guard import FakeFirewall, FakeInspector, FakeKernel

MADE = ["link add name xfrm7 type xfrm if_id 7", "link set dev xfrm7 alias warren", "link set dev xfrm7 up"]
OURS = XfrmInterface("xfrm7", 7, is_ours=True, is_up=True)
PAIRS = [{"local": ["10.1.0.0/24"], "remote": ["10.2.0.0/24", "10.3.0.1-10.3.0.2", "0.0.0.0/0"]}]


class Bed:
    def __init__(self, folder: Path) -> None:
        self.firewall, self.kernel = FakeFirewall(), FakeKernel()
        file = StateFile(folder)
        file.prepare()
        self.guard = Guard(self.firewall, FakeInspector(), self.kernel, file, keep_sources=False)

    async def protect(self, *entries: dict[str, Any], retained: bool = False) -> GuardReply:
        traffic = tuple(ProtectedTraffic.model_validate({"policy": "p", "tunnel": "t"} | it) for it in entries)
        keys = (("p", "t"),) if retained else ()
        return await self.guard.handle(ProtectRequest(traffic=traffic, retained=keys, devices=("ipsec0",)))

    def commands(self) -> list[str]:
        """Those since the last call."""
        lines, self.kernel.lines = self.kernel.lines, []
        return lines


@pytest.fixture
def bed(tmp_path: Path) -> Bed:
    return Bed(tmp_path / "state")


async def test_a_routed_tunnel_has_its_interface_until_it_is_released(bed: Bed) -> None:
    routed = {"if_id_out": 7, "after_delete": "keep"}
    assert (await bed.protect(routed)).interface_errors == ()
    assert bed.commands() == MADE
    bed.kernel.around = KernelLinks(links=(OURS,))
    await bed.protect(routed)
    await bed.protect(retained=True)  # its policy is disabled
    await bed.protect()  # and deleted
    assert bed.commands() == []
    await bed.guard.handle(ReleaseRequest())
    assert bed.commands() == ["link delete dev xfrm7"]


async def test_networks_are_routed_into_the_interface_and_its_traffic_is_protected(bed: Bed) -> None:
    bed.kernel.around = KernelLinks(addresses=(ip_address("192.0.2.1"), ip_address("10.1.0.1")))
    await bed.protect({"if_id_in": 6, "if_id_out": 7, "pairs": PAIRS})
    routes = [
        f"route replace {network} dev xfrm7 table 220 proto 87 src 10.1.0.1"
        for network in ("10.2.0.0/24", "10.3.0.1/32", "10.3.0.2/32")
    ]
    assert bed.commands() == [it.replace("7", "6") for it in MADE] + MADE + routes
    assert bed.firewall.table is not None
    assert '"ipsec0", "lo", "xfrm6", "xfrm7"' in bed.firewall.table
    assert " . 10.1.0.0/24" in bed.firewall.table
    made = (OURS, replace(OURS, name="xfrm6", if_id=6))
    stale = CharonRoute(ip_network("10.8.0.0/24"), "xfrm7")
    bed.kernel.around = KernelLinks(links=made, routes=(CharonRoute(ip_network("10.2.0.0/24"), "xfrm7"), stale))
    await bed.guard.links_changed()
    assert bed.commands() == [
        "route delete 10.8.0.0/24 dev xfrm7 table 220 proto 87",
        "route replace 10.3.0.1/32 dev xfrm7 table 220 proto 87",
        "route replace 10.3.0.2/32 dev xfrm7 table 220 proto 87",
    ]


async def test_an_interface_of_another_program_is_used_and_not_removed(bed: Bed) -> None:
    bed.kernel.around = KernelLinks(links=(XfrmInterface("ipsec-to-hub", 7, is_ours=False, is_up=False),))
    await bed.protect({"if_id_out": 7, "pairs": PAIRS[:1]})
    assert not [it for it in bed.commands() if it.startswith("link")]
    assert '"ipsec-to-hub"' in (bed.firewall.table or "")
    await bed.protect()
    assert bed.commands() == []


async def test_an_interface_that_another_program_removes_returns(bed: Bed) -> None:
    await bed.protect({"if_id_out": 7})
    bed.commands()
    await bed.guard.links_changed()
    assert bed.commands() == MADE


async def test_a_refused_interface_is_named_and_the_other_traffic_is_protected(bed: Bed) -> None:
    bed.kernel.refusal = "ip: Error: Unknown device type."
    reply = await bed.protect({"if_id_out": 7}, {"tunnel": "u", "pairs": PAIRS})
    assert [(it.if_id, it.detail) for it in reply.interface_errors] == [(7, "ip: Error: Unknown device type.")]
    assert "10.1.0.0/24" in (bed.firewall.table or "")


async def test_a_device_of_tunnels_that_somebody_sets_down_is_set_up_again(bed: Bed) -> None:
    bed.kernel.down = {"ipsec0", "wan"}
    await bed.guard.links_changed()  # nothing is protected yet, so no device is known
    assert bed.commands() == []
    await bed.protect({"pairs": PAIRS})
    bed.commands()
    await bed.guard.links_changed()
    assert bed.commands() == ["link set dev ipsec0 up"]


@pytest.mark.parametrize("has_rules", [True, False])
async def test_routes_into_tunnels_are_listed(bed: Bed, has_rules: bool) -> None:
    bed.kernel.has_rules = has_rules
    bed.kernel.ipsec = KernelIpsec(routes=(CharonRoute(ip_network("10.2.0.0/24"), "ipsec0"),))
    reply = await bed.guard.handle_routes(TunnelRoutesRequest())
    assert (reply.in_use, [(str(it.destination), it.device) for it in reply.routes]) == (
        has_rules, [("10.2.0.0/24", "ipsec0")],
    )  # fmt: skip
