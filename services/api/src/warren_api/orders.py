"""Orders to a running tunnel: which end's agent gets one, and the call that sends it."""

from warren_api.ports import Bus
from warren_contracts.commands import GetTunnel, OrderTunnel, TunnelAction, TunnelOrdered
from warren_contracts.names import PeerId, TunnelName
from warren_contracts.problems import ConflictError, NotFoundError
from warren_contracts.status import FleetTunnel


async def order_tunnel(
    bus: Bus, name: TunnelName, peer: PeerId | None, action: TunnelAction, *, actor: str, client: str
) -> TunnelOrdered:
    """Order a tunnel to rekey or restart. Raises NotFoundError for an unknown tunnel or end, ConflictError if no agent can receive it."""
    tunnel = await bus.call("metrics", "tunnel", GetTunnel(name=name), FleetTunnel)
    command = OrderTunnel(peer=executing_end(tunnel, peer), tunnel=name, action=action, actor=actor, client=client)
    return await bus.call("registry", "order_tunnel", command, TunnelOrdered)


def executing_end(tunnel: FleetTunnel, peer: PeerId | None) -> PeerId:
    """The end that is asked for; else the initiator, if its agent is online, or the other end: of a hub's tunnels the branch's."""
    online = [end for end in sorted(tunnel.ends) if end not in tunnel.stale]
    if peer is not None and peer not in tunnel.peers:
        raise NotFoundError(f"{peer} is not an end of {tunnel.name}: its ends are {', '.join(tunnel.peers)}")
    if peer is not None and peer not in online:
        raise ConflictError(
            f"the agent of {peer} does not report {tunnel.name}: it cannot be reached, or has no such tunnel"
        )
    if not online:
        raise ConflictError(f"no agent reports {tunnel.name} at the moment: nobody can execute it")
    return peer or next((end for end in online if tunnel.ends[end].initiator), online[0])
