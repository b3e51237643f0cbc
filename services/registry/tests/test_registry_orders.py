"""Orders to a peer's tunnels: in its record, not too often, and never of a revoked peer. On the fake and on PostgreSQL."""

from datetime import UTC, datetime, timedelta

import pytest

from warren_contracts.commands import OrderTunnel, TunnelAction
from warren_contracts.problems import ConflictError, NotFoundError
from warren_registry.errors import TunnelOrderRateError
from warren_registry.peers import membership
from warren_registry.peers.model import Peer, record_of
from warren_registry.peers.orders import ORDER_INTERVAL, order_tunnel
from warren_registry.ports import Database

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def command(action: TunnelAction, peer: str = "s1", sa: str | None = None) -> OrderTunnel:
    return OrderTunnel(peer=peer, tunnel="hub+s1", action=action, sa=sa, actor="ann", client="192.0.2.7")


async def test_an_order_is_the_last_one_of_the_record_until_the_next(database: Database) -> None:
    async with database.transaction() as tables:
        version = await tables.fleet.next_revision()
        await tables.peers.save(Peer("s1", "U" + "A" * 55, ("branch",), version, "t", NOW))
    async with database.transaction() as tables:
        with pytest.raises(NotFoundError):
            await order_tunnel(tables, command(TunnelAction.REKEY, "nobody"), NOW)
    async with database.transaction() as tables:
        await order_tunnel(tables, command(TunnelAction.REKEY), NOW)
    async with database.transaction() as tables:
        with pytest.raises(TunnelOrderRateError):
            await order_tunnel(tables, command(TunnelAction.RESTART), NOW + timedelta(seconds=1))
    later = NOW + ORDER_INTERVAL
    async with database.transaction() as tables:
        (first,) = await tables.peers.changed_since(version)
        await order_tunnel(tables, command(TunnelAction.RESTART, sa="child=net"), later)
    async with database.transaction() as tables:
        held = await membership.find(tables, "s1")
        order = record_of(held, 1, 1).order
        assert order is not None
        assert first.tunnel_order is not None
        assert (first.tunnel_order.action, first.tunnel_order.sa) == ("rekey", "")
        assert (order.action, order.tunnel, order.sa, order.at) == ("restart", "hub+s1", "child=net", later)
        assert order.id == held.version > first.tunnel_order.id
        await membership.revoke(tables, "s1", "ann", later)
    async with database.transaction() as tables:
        with pytest.raises(ConflictError, match="revoked"):
            await order_tunnel(tables, command(TunnelAction.REKEY), later + ORDER_INTERVAL)
