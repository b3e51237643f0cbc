"""Several CHILD_SAs in one tunnel, selectors with protocols and ports, and virtual addresses, on two real charons."""

import asyncio
from functools import partial
from typing import Any

import pytest

from warren_agent.drivers.port import ApplyEffect, DaemonTunnelChanged
from warren_contracts.status import ReasonCode, TunnelState
from warren_testkit.lab.gateways import Ends, Watched
from warren_testkit.waiting import eventually

pytestmark = [pytest.mark.root, pytest.mark.interop, pytest.mark.strongswans]

NAME = "hub+spoke"
SIP = 5060


def children(own: str, peer: str, *, at_hub: bool, **voice: Any) -> dict[str, Any]:
    """ICMP, and UDP to the hub's port 5060."""
    ports = (f"[udp/{SIP}]", "[udp]") if at_hub else ("[udp]", f"[udp/{SIP}]")
    return {
        "children": [
            {"name": "ping", "local_ts": [f"{own}[icmp]"], "remote_ts": [f"{peer}[icmp]"]},
            {"name": "voice", "local_ts": [own + ports[0]], "remote_ts": [peer + ports[1]], **voice},
        ]
    }


async def put(hub: Watched, spoke: Watched, **voice: Any) -> tuple[ApplyEffect, ApplyEffect]:
    networks = hub.gateway.network, spoke.gateway.network
    at_hub = hub.tunnel(spoke, initiator=False, **children(*networks, at_hub=True, **voice))
    at_spoke = spoke.tunnel(hub, initiator=True, **children(*networks[::-1], at_hub=False, **voice))
    return await hub.driver.create_tunnel(at_hub), await spoke.driver.create_tunnel(at_spoke)


async def bring_up(hub: Watched, spoke: Watched, **voice: Any) -> tuple[DaemonTunnelChanged, DaemonTunnelChanged]:
    since = len(hub.events), len(spoke.events)
    await put(hub, spoke, **voice)
    await spoke.driver.start_tunnel(NAME)
    return await asyncio.gather(hub.converged(since[0]), spoke.converged(since[1]))


async def counters(end: Watched) -> dict[str, tuple[int, int]]:
    """Packets in and out of each child."""
    (status,) = await end.driver.list_tunnels()
    return {sa.child: (sa.traffic.packets_in, sa.traffic.packets_out) for sa in status.link.children}


async def has_counted(end: Watched, child: str, counts: tuple[int, int]) -> bool:
    return (await counters(end))[child] == counts


async def send_udp(end: Watched, target: str, port: int) -> None:
    program = f"import socket; s = socket.socket(type=2); s.bind(({end.gateway.protected!r}, 0)); s.sendto(b'x', ({target!r}, {port}))"
    await asyncio.to_thread(end.gateway.namespace.run, "python3", "-c", program)


async def test_each_child_carries_the_traffic_of_its_selectors(ends: Ends) -> None:
    hub, spoke = ends
    at_hub, at_spoke = await bring_up(hub, spoke)
    assert at_spoke.status.state is at_hub.status.state is TunnelState.UP
    await asyncio.gather(hub.gateway.has(1, children=2), spoke.gateway.has(1, children=2))
    assert await spoke.gateway.ping(hub.gateway.protected)
    assert await counters(spoke) == await counters(hub) == {"ping": (3, 3), "voice": (0, 0)}
    await send_udp(spoke, hub.gateway.protected, SIP)
    for end, counts in ((spoke, (0, 1)), (hub, (1, 0))):
        await eventually(partial(has_counted, end, "voice", counts), what=f"{counts} at the {end.gateway.name}")
    voice = next(sa for sa in at_spoke.status.link.children if sa.child == "voice")
    assert [str(it) for it in voice.remote_ts] == [f"{hub.gateway.network}[udp/{SIP}]"]
    assert [str(it) for it in voice.local_ts] == [f"{spoke.gateway.network}[udp]"]


async def test_an_edit_of_one_child_leaves_the_other_and_the_ike_sa(ends: Ends) -> None:
    hub, spoke = ends
    await bring_up(hub, spoke)
    (old,) = await spoke.gateway.ike_sas()
    spis = {sa.child: sa.spi_in for sa in await spoke.driver.sa_info(NAME)}
    assert await put(hub, spoke, replay_window=128) == (ApplyEffect.UPDATED_CHILD, ApplyEffect.UPDATED_CHILD)
    since = len(hub.events), len(spoke.events)
    await spoke.driver.start_tunnel(NAME)
    await asyncio.gather(hub.converged(since[0]), spoke.converged(since[1]))
    await asyncio.gather(hub.gateway.has(1, children=2), spoke.gateway.has(1, children=2))
    (new,) = await spoke.gateway.ike_sas()
    assert new.unique_id == old.unique_id
    after = {sa.child: sa.spi_in for sa in await spoke.driver.sa_info(NAME)}
    assert after["ping"] == spis["ping"]
    assert after["voice"] != spis["voice"]
    for end in ends:
        states = [event.status.state for event in end.events if isinstance(event, DaemonTunnelChanged)]
        assert TunnelState.DOWN not in states[states.index(TunnelState.UP) :]


async def test_a_child_that_is_removed_is_closed_and_the_other_stays(ends: Ends) -> None:
    hub, spoke = ends
    await bring_up(hub, spoke)
    for end, peer, initiator in ((hub, spoke, False), (spoke, hub, True)):
        one = children(end.gateway.network, peer.gateway.network, at_hub=not initiator)["children"][:1]
        effect = await end.driver.update_tunnel(end.tunnel(peer, initiator=initiator, children=one))
        assert effect is ApplyEffect.UPDATED_CHILD
    await spoke.driver.start_tunnel(NAME)
    await asyncio.gather(hub.gateway.has(1, children=1), spoke.gateway.has(1, children=1))
    assert await spoke.gateway.ping(hub.gateway.protected)


async def test_a_child_that_the_peer_refuses_is_reported_while_the_other_carries(ends: Ends) -> None:
    hub, spoke = ends
    networks = hub.gateway.network, spoke.gateway.network
    await hub.driver.create_tunnel(hub.tunnel(spoke, initiator=False, **children(*networks, at_hub=True)))
    wrong = children(*networks[::-1], at_hub=False, remote_ts=["10.99.0.0/24[udp]"])
    await spoke.driver.create_tunnel(spoke.tunnel(hub, initiator=True, **wrong))
    await spoke.driver.start_tunnel(NAME)

    def is_partly_up(event: DaemonTunnelChanged) -> bool:
        children = [sa.child for sa in event.status.link.children]
        return event.status.reason is ReasonCode.TS_MISMATCH and children == ["ping"]

    event = await spoke.first(DaemonTunnelChanged, is_partly_up)
    assert event.status.state is TunnelState.DEGRADED
    assert not event.converged
    assert await spoke.gateway.ping(hub.gateway.protected)


async def test_alternatives_within_one_proposal_are_negotiated(ends: Ends) -> None:
    hub, spoke = ends
    wide = {"ike": {"proposals": ["aes256-aes128-sha384-sha256-prfsha256-x25519-ecp256"]}}
    narrow = {"ike": {"proposals": ["aes128-sha256-prfsha256-ecp256-x25519"]}}
    await hub.driver.create_tunnel(hub.tunnel(spoke, initiator=False, **narrow))
    await spoke.driver.create_tunnel(spoke.tunnel(hub, initiator=True, **wide))
    await spoke.driver.start_tunnel(NAME)
    changed = await spoke.converged()
    assert changed.status.link.ike_cipher == "aes128-sha256-prfsha256-ecp256"  # charon follows the responder's order


async def test_a_range_of_addresses_is_a_selector_at_both_ends(ends: Ends) -> None:
    hub, spoke = ends
    some = f"{hub.gateway.protected}-{hub.gateway.protected[:-1]}9"
    await hub.driver.create_tunnel(hub.tunnel(spoke, initiator=False, child={"local_ts": [some]}))
    await spoke.driver.create_tunnel(spoke.tunnel(hub, initiator=True, child={"remote_ts": [some]}))
    await spoke.driver.start_tunnel(NAME)
    changed = await spoke.converged()
    assert [str(it) for it in changed.status.link.children[0].remote_ts] == [some]
    assert await spoke.gateway.ping(hub.gateway.protected)


async def test_a_road_warrior_gets_a_virtual_address_from_the_hub_s_pool(ends: Ends) -> None:
    hub, spoke = ends
    at_hub = {"ike": {"pools": ["10.200.0.0/24"]}, "child": {"remote_ts": ["dynamic"]}}
    at_spoke = {"ike": {"vips": ["0.0.0.0"]}, "child": {"local_ts": ["dynamic"]}}  # noqa: S104 - requests any
    await hub.driver.create_tunnel(hub.tunnel(spoke, initiator=False, **at_hub))
    await spoke.driver.create_tunnel(spoke.tunnel(hub, initiator=True, **at_spoke))
    await spoke.driver.start_tunnel(NAME)
    changed, other = await asyncio.gather(spoke.converged(), hub.converged())
    assert [str(it) for it in changed.status.link.local_vips] == ["10.200.0.1"]
    assert [str(it) for it in other.status.link.remote_vips] == ["10.200.0.1"]
    assert [str(it) for it in changed.status.link.children[0].local_ts] == ["10.200.0.1/32"]
    assert await spoke.gateway.ping(hub.gateway.protected, source="10.200.0.1")
