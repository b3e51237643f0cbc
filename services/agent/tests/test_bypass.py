"""What would cut a host off: its routes and name servers against the selectors of tunnels. Pure, and the agent with fakes."""

from collections.abc import AsyncIterator
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from warren_agent.bypass import HostSurroundings, LocalReach
from warren_agent.domain.surroundings import (
    MainRoute,
    Needs,
    Surroundings,
    needs,
    parse_resolvers,
    parse_routes,
    parse_routes6,
)
from warren_agent.drivers.strongswan.shunts import NAME as SHUNTS
from warren_agent.drivers.strongswan.shunts import build_shunts
from warren_contracts.guard import Bypass, EventKind, GuardEvent, LocalNetwork, ProtectRequest
from warren_contracts.protection import LocalBypass
from warren_contracts.status import ReasonCode, TunnelState
from warren_contracts.telemetry import Applied, Presence
from warren_contracts.tunnel import Tunnel
from warren_testkit.agent.fakes import FakeGuard
from warren_testkit.agent.running import SPOKES, Running, intent
from warren_testkit.intent import ipsec_tunnel
from warren_testkit.waiting import eventually

ROUTES = """\
Iface	Destination	Gateway 	Flags	RefCnt	Use	Metric	Mask		MTU	Window	IRTT
wan	00000000	FE0200C0	0003	0	0	0	00000000	0	0	0
lan	0001000A	00000000	0001	0	0	0	00FFFFFF	0	0	0
wan	000200C0	00000000	0001	0	0	0	00FFFFFF	0	0	0
wan	00640BC6	010200C0	0003	0	0	0	00FFFFFF	0	0	0
ipsec0	0002000A	00000000	0001	0	0	0	00FFFFFF	0	0	0
lan	0009000A	00000000	0201	0	0	0	00FFFFFF	0	0	0
garbage
wan	zz	00000000	0001	0	0	0	00FFFFFF	0	0	0
"""
NONE = "0" * 32
ROUTES6 = f"""\
fd000001000000000000000000000000 40 {NONE} 00 {NONE} 00000100 00000001 00000000 00000001 lan
fe800000000000000000000000000000 40 {NONE} 00 {NONE} 00000100 00000001 00000000 00000001 lan
fd000001000000000000000000000001 80 {NONE} 00 {NONE} 00000000 00000001 00000000 80200001 lan
{NONE} 00 {NONE} 00 fd0000020000000000000000000000fe 00000400 00000001 00000000 00000003 wan
"""
BUS = Bypass(address="198.51.100.10", port=4222)
SECOND_BUS = Bypass(address="fd00:9::10", port=4222)


def is_link(device: str) -> bool:
    return device in ("lan", "wan")


def addresses(*texts: str) -> tuple[Any, ...]:
    return tuple(ip_address(text) for text in texts)


AROUND = Surroundings(
    routes=(*parse_routes(ROUTES, is_link), *parse_routes6(ROUTES6, is_link)),
    own=addresses("10.0.1.1", "192.0.2.1", "fd00:1::1"),
    resolvers=addresses("10.0.1.53", "127.0.0.53"),
    servers=(BUS, SECOND_BUS, Bypass(address="127.0.0.1", port=4222)),
)


def tunnel(remote: list[str], local: list[str] | None = None, **changes: Any) -> Tunnel:
    return ipsec_tunnel(child={"local_ts": local or ["10.0.1.0/24"], "remote_ts": remote}, **changes)


def texts(found: Needs) -> tuple[set[str], set[str]]:
    return {str(it.network) for it in found.networks}, {
        f"{it.address}:{it.port}/{it.protocol}" for it in found.services
    }


def test_routes_of_links_are_read_and_what_is_no_link_is_left_out() -> None:
    assert [str(it) for it in AROUND.networks] == ["10.0.1.0/24", "192.0.2.0/24", "fd00:1::/64"]
    assert [str(it) for it in AROUND.gateways] == ["192.0.2.254", "fd00:2::fe"]
    assert MainRoute(ip_network("198.11.100.0/24"), "wan", ip_address("192.0.2.1")) in AROUND.routes


def test_name_servers_are_read_from_resolv_conf() -> None:
    text = "# comment\nnameserver 10.0.1.53\nsearch example\nnameserver fe80::1%wan\nnameserver\nnameserver x\n"
    assert [str(it) for it in parse_resolvers(text)] == ["10.0.1.53", "fe80::1"]


EVERYTHING = (
    {"10.0.1.0/24", "192.0.2.0/24"},
    {"198.51.100.10:4222/6", "10.0.1.53:53/17", "10.0.1.53:53/6"},
)
EVERYTHING6 = ({"fd00:1::/64", "fd00:2::fe/128"}, {"fd00:9::10:4222/6"})


@pytest.mark.parametrize(
    ("remote", "found"),
    [
        (["0.0.0.0/0"], EVERYTHING),
        (["0.0.0.0/1", "128.0.0.0/1"], EVERYTHING),
        (["0.0.0.0-255.255.255.255"], EVERYTHING),
        (["::/0"], EVERYTHING6),
        (["10.0.0.0/8"], ({"10.0.1.0/24"}, {"10.0.1.53:53/17", "10.0.1.53:53/6"})),
        (["10.0.1.0/24"], ({"10.0.1.0/24"}, {"10.0.1.53:53/17", "10.0.1.53:53/6"})),
        (["198.51.100.0/24"], (set(), {"198.51.100.10:4222/6"})),
        (["198.51.100.10/32[tcp/4222]"], (set(), {"198.51.100.10:4222/6"})),
        (["198.51.100.10/32[tcp/443]"], (set(), set())),
        (["0.0.0.0/0[udp]"], ({"10.0.1.0/24", "192.0.2.0/24"}, {"10.0.1.53:53/17"})),
        (["10.0.1.128/25"], (set(), set())),  # a part of the local network: on purpose
        (["10.0.2.0/24"], (set(), set())),
        (["192.0.2.254/32"], ({"192.0.2.254/32"}, set())),
    ],
)
def test_what_a_tunnel_would_cut_off(remote: list[str], found: tuple[set[str], set[str]]) -> None:
    assert texts(needs(tunnel(remote, ["0.0.0.0/0", "::/0"]), AROUND)) == found


def test_network_behind_the_gateway_differs_from_the_one_of_its_uplink() -> None:
    found = needs(tunnel(["0.0.0.0/0"]), AROUND)
    assert {str(it.network): it.behind for it in found.networks} == {"10.0.1.0/24": True, "192.0.2.0/24": False}
    assert all(it.routed for it in found.services)


def test_xfrm_interface_cuts_nothing_off() -> None:
    everything = {"local_ts": ["0.0.0.0/0"], "remote_ts": ["0.0.0.0/0"]}
    assert not needs(ipsec_tunnel(child=everything, link={"xfrm": {"if_id_out": 7}}), AROUND)


def test_packets_to_a_service_have_an_address_of_the_link_of_its_route() -> None:
    assert [str(it) for it in AROUND.source_of(BUS.address)] == ["192.0.2.1"]
    assert [str(it) for it in AROUND.source_of(ip_address("10.0.1.53"))] == ["10.0.1.1"]
    assert [str(it) for it in AROUND.source_of(ip_address("fd00:9::10"))] == [
        "fd00:1::1"
    ]  # wan has none of this family


async def reach(*tunnels: Tunnel) -> LocalReach:
    async def look() -> Surroundings:
        return AROUND

    made = LocalReach(look)
    await made.update(tunnels)
    return made


async def test_bus_may_be_reached_always_and_the_rest_where_a_tunnel_takes_it() -> None:
    quiet = await reach(tunnel(["10.0.2.0/24"]))
    assert {it.address for it in quiet.services} == {it.address for it in AROUND.servers}
    assert not any(it.routed for it in quiet.services)
    assert not quiet.bypassed()
    wide = await reach(tunnel(["0.0.0.0/0"]))
    assert {str(it.address) for it in wide.services if it.routed} == {"198.51.100.10", "10.0.1.53"}
    assert [str(it) for it in wide.bypassed().networks] == ["10.0.1.0/24", "192.0.2.0/24"]
    assert (addresses("192.0.2.1"), BUS.address) in wide.bypassed().hosts


async def test_policy_that_forbids_it_has_its_tunnel_refused_with_what_it_would_cut_off() -> None:
    config = tunnel(["0.0.0.0/0"]).model_copy(update={"bypass": LocalBypass.FORBID})
    made = await reach(config)
    refused = made.refusal(config, "")
    assert refused is not None
    assert refused[0] is ReasonCode.BYPASS_FORBIDDEN
    assert "10.0.1.0/24" in refused[1]
    assert "198.51.100.10:4222" in refused[1]
    assert not made.needed
    assert made.refusal(tunnel(["10.0.2.0/24"]), "") is None


async def test_tunnel_is_refused_where_nothing_can_pass_it_by() -> None:
    made = await reach(tunnel(["0.0.0.0/0"]))
    refused = made.refusal(tunnel(["0.0.0.0/0"]), "no guard is here")
    assert refused is not None
    assert refused[0] is ReasonCode.BYPASS_UNAVAILABLE
    assert "no guard is here" in refused[1]
    assert made.refusal(tunnel(["0.0.0.0/0"]), "") is None


async def test_local_network_of_which_another_tunnel_takes_a_part_does_not_pass_by() -> None:
    wide, part = tunnel(["0.0.0.0/0"]), tunnel(["10.0.1.128/25"], name="part")
    made = await reach(wide, part)
    refused = made.refusal(wide, "")
    assert refused is not None
    assert "of which part takes a part" in refused[1]
    assert made.refusal(part, "") is None


async def test_without_knowledge_nothing_is_refused() -> None:
    made = LocalReach()
    await made.update([tunnel(["0.0.0.0/0"])])
    assert made.refusal(tunnel(["0.0.0.0/0"]), "no guard") is None


async def test_this_host_can_be_looked_at() -> None:
    async def servers() -> tuple[Bypass, ...]:
        return (BUS,)

    around = await HostSurroundings(servers)()
    assert around.servers == (BUS,)
    assert not any(it.is_loopback for it in around.own)
    assert all(isinstance(it, MainRoute) for it in around.routes)


async def test_shunts_are_children_that_pass() -> None:
    made = await reach(tunnel(["0.0.0.0/0"]))
    loaded: Any = build_shunts(made.bypassed())
    children = loaded[SHUNTS]["children"]
    assert {(tuple(it["local_ts"]), tuple(it["remote_ts"])) for it in children.values()} == {
        (("10.0.1.0/24",), ("10.0.1.0/24",)), (("192.0.2.0/24",), ("192.0.2.0/24",)),
        (("192.0.2.1",), ("198.51.100.10",)), (("10.0.1.1",), ("10.0.1.53",)),
    }  # fmt: skip
    assert {it["mode"] for it in children.values()} == {"pass"}


# the agent

SPOKES_NETWORK = ip_network("10.0.2.0/24")
WIDE = {"children": [{"name": "net"}]}


class Bed:
    """An agent of the spoke `s1`, whose hub has the network 10.0.1.0/24, next to networks that the test gives."""

    def __init__(self, folder: Path, guard: FakeGuard | None) -> None:
        self.around = Surroundings(routes=(MainRoute(ip_network("10.0.1.0/24"), "lan", None),), servers=(BUS,))
        self.run = Running(folder, guard=guard, reach=LocalReach(self.look))

    async def look(self) -> Surroundings:
        return self.around


@pytest.fixture
async def guard() -> FakeGuard:
    return FakeGuard()


@pytest.fixture
async def bed(tmp_path: Path, guard: FakeGuard) -> AsyncIterator[Bed]:
    made = Bed(tmp_path / "state", guard)
    yield made
    await made.run.stop()


async def test_driver_and_guard_get_the_bypass_before_the_tunnel(bed: Bed, guard: FakeGuard) -> None:
    bed.run.source.give(intent(1, *SPOKES))
    await bed.run.tunnel(TunnelState.UP)
    assert [str(it) for it in bed.run.driver.bypassed.networks] == ["10.0.1.0/24"]
    request = [it for it in guard.requests if isinstance(it, ProtectRequest)][-1]
    assert request.networks == (LocalNetwork(network="10.0.1.0/24", behind=False),)
    assert [str(it.address) for it in request.bypass] == ["198.51.100.10"]


async def test_network_that_appears_is_kept_in_reach_at_the_event_of_the_guard(bed: Bed, guard: FakeGuard) -> None:
    bed.run.source.give(intent(1, *SPOKES))
    await bed.run.tunnel(TunnelState.UP)

    def networks() -> list[str]:
        request = [it for it in guard.requests if isinstance(it, ProtectRequest)][-1]
        return [str(it.network) for it in request.networks]

    route = MainRoute(ip_network("10.0.1.128/25"), "wan", None)
    bed.around = Surroundings(routes=(*bed.around.routes, route), servers=(BUS,))
    guard.send(GuardEvent(event=EventKind.ADDRESSES_CHANGED))
    await eventually(lambda: networks() == ["10.0.1.0/24", "10.0.1.128/25"])
    assert [str(it) for it in bed.run.driver.bypassed.networks] == ["10.0.1.0/24", "10.0.1.128/25"]
    before = len(guard.requests)
    guard.send(GuardEvent(event=EventKind.ROUTES_CHANGED))  # nothing has changed
    await eventually(guard.is_read)
    await bed.run.received(Presence, "presence", len(await bed.run.received(Presence, "presence")) + 2)
    assert len(guard.requests) == before


async def test_driver_that_cannot_and_a_guard_that_cannot_have_the_tunnel_refused(bed: Bed, guard: FakeGuard) -> None:
    bed.run.driver.passes = False
    guard.bypass_error = "ip: Operation not permitted"
    bed.run.source.give(intent(1, *SPOKES))
    change = await bed.run.tunnel(TunnelState.ERROR)
    assert change.status.reason is ReasonCode.BYPASS_UNAVAILABLE
    assert "Operation not permitted" in change.status.detail
    guard.bypass_error = ""
    guard.send(None)
    await bed.run.tunnel(TunnelState.UP)


async def test_forbidden_bypass_is_the_tunnels_reason_and_an_edit_of_the_policy_ends_it(bed: Bed) -> None:
    bed.run.source.give(intent(1, *SPOKES, bypass="forbid"))
    change = await bed.run.tunnel(TunnelState.ERROR)
    assert change.status.reason is ReasonCode.BYPASS_FORBIDDEN
    assert "10.0.1.0/24" in change.status.detail
    assert not bed.run.driver.tunnels
    bed.run.source.give(intent(2, *SPOKES))
    await bed.run.tunnel(TunnelState.UP)


async def test_bypass_stays_while_a_tunnel_runs_whose_edit_forbids_it(bed: Bed, guard: FakeGuard) -> None:
    bed.run.source.give(intent(1, *SPOKES))
    await bed.run.tunnel(TunnelState.UP)
    bed.run.source.give(intent(2, *SPOKES, bypass="forbid"))
    await bed.run.received(Applied, "applied", 2)
    assert bed.run.driver.tunnels  # what was refused leaves what runs as it is
    assert [str(it) for it in bed.run.driver.bypassed.networks] == ["10.0.1.0/24"]
    request = [it for it in guard.requests if isinstance(it, ProtectRequest)][-1]
    assert [str(it.network) for it in request.networks] == ["10.0.1.0/24"]


async def test_tunnel_whose_networks_are_elsewhere_needs_no_guard(tmp_path: Path) -> None:
    bed = Bed(tmp_path / "state", None)
    bed.around = Surroundings(servers=(BUS,))
    bed.run.driver.passes = False
    bed.run.source.give(intent(1, *SPOKES, bypass="forbid"))
    await bed.run.tunnel(TunnelState.UP)
    await eventually(lambda: not bed.run.driver.bypassed)
    await bed.run.stop()
