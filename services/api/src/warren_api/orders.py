"""Orders to a running tunnel: which end's agent gets one, and the call that sends it."""

from collections.abc import Collection

from warren_api.ports import Bus
from warren_api.scope.lookups import read_tunnel
from warren_api.scope.view import ScopeView
from warren_contracts.commands import OperatorCommand, OrderTunnel, TunnelAction, TunnelOrdered
from warren_contracts.names import PeerId, SaReference, TunnelName, child_of
from warren_contracts.problems import ConflictError, ForbiddenError, NotFoundError
from warren_contracts.status import FleetTunnel


async def order_tunnel(
    bus: Bus, seen: ScopeView | None, name: TunnelName, peer: PeerId | None, action: TunnelAction, sa: SaReference | None,
    by: OperatorCommand,
) -> TunnelOrdered:  # fmt: skip
    """Order a tunnel, or one of its SAs, to rekey or restart. With a scope, the agents of its peers only can get the order.

    Raises:
        NotFoundError: the tunnel, the end or the SA is unknown.
        ForbiddenError: the end is not in the scope.
        ConflictError: no agent can receive it.
    """
    tunnel = await read_tunnel(bus, seen, name)
    end = executing_end(tunnel, peer, None if seen is None else frozenset(filter(seen.has_peer, tunnel.peers)))
    if sa is not None:
        check_sa(tunnel, end, sa)
    command = OrderTunnel(peer=end, tunnel=name, action=action, sa=sa, actor=by.actor, client=by.client)
    return await bus.call("registry", "order_tunnel", command, TunnelOrdered)


def check_sa(tunnel: FleetTunnel, end: PeerId, sa: SaReference) -> None:
    """NotFoundError unless the last report of an end has CHILD_SAs of the child that is named."""
    reported = sorted({child.child for child in tunnel.ends[end].link.children})
    wanted = child_of(sa)
    if wanted is not None and wanted not in reported:
        known = f"it has those of {', '.join(reported)}" if reported else "it has none at the moment"
        raise NotFoundError(f"{tunnel.name} has no CHILD_SA of {wanted} at {end}: {known}")


def executing_end(tunnel: FleetTunnel, peer: PeerId | None, own: Collection[PeerId] | None = None) -> PeerId:
    """The end that is asked for; else the initiator, if its agent is online, or the other end: of a hub's tunnels the branch's.

    `own`: the ends that may be asked; None: each.
    """
    offline = set(tunnel.stale) - set(tunnel.outdated)
    online = [end for end in sorted(tunnel.ends) if end not in offline and (own is None or end in own)]
    if peer is not None and peer not in tunnel.peers:
        raise NotFoundError(f"{peer} is not an end of {tunnel.name}: its ends are {', '.join(tunnel.peers)}")
    if peer is not None and own is not None and peer not in own:
        raise ForbiddenError(f"{peer} is the far end of {tunnel.name}: order it at {' or '.join(sorted(own))}")
    if peer is not None and peer not in online:
        raise ConflictError(
            f"the agent of {peer} does not report {tunnel.name}: it cannot be reached, or has no such tunnel"
        )
    if not online:
        raise ConflictError(f"no agent reports {tunnel.name} at the moment: nobody can execute it")
    return peer or next((end for end in online if tunnel.ends[end].initiator), online[0])
