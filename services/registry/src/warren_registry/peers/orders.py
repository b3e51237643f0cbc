"""Orders to the agent of a peer: rekey or restart one of its tunnels.

An order is a field of the peer's record: signed, ordered by its revision, and seen by nobody who does not see the record anyway. It is
never republished as newer than it is: its time is the registry's, and an agent ignores an old one.
"""

from dataclasses import replace
from datetime import datetime, timedelta

from warren_contracts.commands import OrderTunnel
from warren_contracts.peers import TunnelOrder
from warren_contracts.problems import ConflictError
from warren_registry.errors import TunnelOrderRateError
from warren_registry.peers.membership import find
from warren_registry.peers.model import Peer
from warren_registry.ports import Tables

ORDER_INTERVAL = timedelta(seconds=5)  # each order is a new revision of the record, for all of its readers


async def order_tunnel(tables: Tables, command: OrderTunnel, now: datetime) -> Peer:
    """Put an order into a peer's record. Raises NotFoundError, ConflictError (revoked), TunnelOrderRateError."""
    version = await tables.fleet.next_revision()
    held = await find(tables, command.peer)
    if held.revoked:
        raise ConflictError(f"the peer {held.id} is revoked: it has no tunnels any more")
    last = held.tunnel_order
    if last is not None and last.at <= now < last.at + ORDER_INTERVAL:
        raise TunnelOrderRateError
    order = TunnelOrder(id=version, tunnel=command.tunnel, action=command.action.value, at=now, sa=command.sa or "")
    changed = replace(held, tunnel_order=order, version=version)
    await tables.peers.save(changed)
    return changed
