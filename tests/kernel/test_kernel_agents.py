"""Whole agents over NATS, and our own IKEv2 in user space, with charons whose data plane is the kernel's."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from warren_contracts.policy import Policy
from warren_contracts.status import TunnelState
from warren_contracts.telemetry import TunnelChange
from warren_ikev2.aio import Client, TunDevice
from warren_lab.loop import NamespaceLoop
from warren_lab.namespace import Namespace
from warren_lab.ping import ping_command
from warren_lab.xfrm import kernel_sas
from warren_testkit.agent.control import Control
from warren_testkit.agent.process import GatewayAgent
from warren_testkit.bus import GrantingCallout, RealServer
from warren_testkit.intent import STAR
from warren_testkit.lab.gateways import Gateway, ike_key
from warren_testkit.lab.kernel import KernelFleet

pytestmark = [pytest.mark.root, pytest.mark.interop, pytest.mark.kernel]

OUR_NUMBER = 9
OUR_ID, OUR_INNER = "ours.warren.test", "10.9.0.1"


@pytest.fixture
async def agents(
    gateways: tuple[Gateway, ...], empty_afterwards: None, tmp_path: Path
) -> AsyncIterator[tuple[Control, float]]:
    """A bus with a small control plane and two agents at work; how long that took, in seconds."""
    begun = time.monotonic()
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(RealServer(tmp_path))
        callout = await stack.enter_async_context(GrantingCallout(server))
        control = await stack.enter_async_context(Control(server, callout))
        made = [GatewayAgent(gateway, control, tmp_path / gateway.name) for gateway in gateways[:2]]
        for agent in made:
            stack.callback(agent.print_log)
            stack.push_async_callback(agent.stop)
        await asyncio.gather(*(agent.enrol() for agent in made))
        await asyncio.gather(*(agent.start() for agent in made))
        yield control, time.monotonic() - begun
        # an agent that stops leaves its tunnels; these go with their policy
        await control.publish(Policy.model_validate(STAR | {"enabled": False}))
        for gateway in gateways[:2]:
            await gateway.has(0)


async def test_agents_make_a_tunnel_of_a_policy(
    gateways: tuple[Gateway, ...], agents: tuple[Control, float], say: Callable[[str], None]
) -> None:
    control, taken = agents
    hub, spoke, _ = gateways
    begun = time.monotonic()
    await control.publish(Policy.model_validate(STAR))

    async def up(peer: str) -> TunnelChange:
        return await control.received(TunnelChange, peer, lambda it: it.status.state is TunnelState.UP)

    at_spoke, _ = await asyncio.gather(up("spoke-1"), up("hub"))
    say(f"two agents enrolled and started in {taken:.1f} s, policy to tunnel {time.monotonic() - begun:.1f} s")
    (sa,) = at_spoke.status.link.children
    assert {it.spi for it in kernel_sas(spoke.namespace)} == {sa.spi_in, sa.spi_out}
    assert await spoke.ping(hub.protected)


async def test_our_own_ikev2_in_user_space_with_the_kernel_of_a_gateway(
    fleet: KernelFleet, other_host: tuple[str, Namespace]
) -> None:
    hub = fleet.drivers[0]
    seed, public = ike_key(OUR_NUMBER)
    address, namespace = other_host
    config = hub.tunnel(
        fleet.drivers[1], initiator=False, name="hub+ours", peer=None, remote_endpoints=[address],
        link={"remote_auth": {"kind": "raw-key", "identity": f"fqdn:{OUR_ID}", "public_key": public}},
        child={"local_ts": [f"{hub.gateway.protected}/32"], "remote_ts": [f"{OUR_INNER}/32"]},
    )  # fmt: skip
    await hub.driver.create_tunnel(config)
    builder = Client.builder().with_local_id(OUR_ID).with_remote_id("hub")
    builder.with_raw_key(Ed25519PrivateKey.from_private_bytes(seed))
    hub_key = Ed25519PrivateKey.from_private_bytes(ike_key(hub.gateway.number)[0]).public_key()
    builder.with_peer_keys(hub_key).with_proposals(
        [it.names for it in config.link.ike.proposals], [("aes256gcm16", "x25519")]
    )
    client = builder.with_networks([f"{OUR_INNER}/32"], [f"{hub.gateway.protected}/32"]).build()
    loop = NamespaceLoop(namespace)
    loop.start()
    try:
        await asyncio.to_thread(loop.run, carry(client, hub.gateway, namespace))
        assert (await hub.driver.statistics("hub+ours")).packets_in == 3
        await asyncio.to_thread(loop.run, client.shutdown())
    finally:
        await asyncio.to_thread(loop.close)


async def carry(client: Client, gateway: Gateway, namespace: Namespace) -> None:
    """Connect, and ping three times through a TUN device."""
    tun = TunDevice("warren%d")
    try:
        for command in (
            ["ip", "address", "add", f"{OUR_INNER}/32", "dev", tun.name],
            ["ip", "link", "set", tun.name, "up", "mtu", "1400"],
            ["ip", "route", "add", gateway.network, "dev", tun.name, "src", OUR_INNER],
        ):
            await asyncio.to_thread(namespace.run, *command)
        tun.attach(await client.connect(gateway.address, timeout=60))
        assert {it.udp_encapsulated for it in kernel_sas(gateway.namespace)} == {True}
        said = await asyncio.to_thread(namespace.run, *ping_command(gateway.protected, OUR_INNER), check=False)
        assert " 3 received" in said, said
        tun.detach()
    finally:
        tun.close()
