"""Orders to a running tunnel: which end's agent gets one, and the call that sends it."""

from warren_api.ports import Bus
from warren_contracts.commands import GetTunnel, OrderTunnel, TunnelAction, TunnelOrdered
from warren_contracts.names import PeerId, SaReference, TunnelName, child_of
from warren_contracts.problems import ConflictError, NotFoundError
from warren_contracts.status import FleetTunnel


async def order_tunnel(
    bus: Bus, name: TunnelName, peer: PeerId | None, action: TunnelAction, sa: SaReference | None = None, *,
    actor: str, client: str,
) -> TunnelOrdered:  # fmt: skip
    """Order a tunnel, or one of its SAs, to rekey or restart.

    Raises:
        NotFoundError: the tunnel, the end or the SA is unknown.
        ConflictError: no agent can receive it.
    """
    tunnel = await bus.call("metrics", "tunnel", GetTunnel(name=name), FleetTunnel)
    end = executing_end(tunnel, peer)
    if sa is not None:
        check_sa(tunnel, end, sa)
    command = OrderTunnel(peer=end, tunnel=name, action=action, sa=sa, actor=actor, client=client)
    return await bus.call("registry", "order_tunnel", command, TunnelOrdered)


def check_sa(tunnel: FleetTunnel, end: PeerId, sa: SaReference) -> None:
    """NotFoundError unless the last report of an end has CHILD_SAs of the child that is named."""
    reported = sorted({child.child for child in tunnel.ends[end].link.children})
    wanted = child_of(sa)
    if wanted is not None and wanted not in reported:
        known = f"it has those of {', '.join(reported)}" if reported else "it has none at the moment"
        raise NotFoundError(f"{tunnel.name} has no CHILD_SA of {wanted} at {end}: {known}")


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
