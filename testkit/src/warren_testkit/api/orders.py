"""Orders to tunnels, as the registry accepts them."""

from datetime import UTC, datetime

from warren_contracts.commands import OrderTunnel, TunnelOrdered


class FakeOrders:
    """The part of a FakeBus that is the registry's orders; `FakeBus.calls` has what was asked."""

    def _registry_order_tunnel(self, command: OrderTunnel) -> TunnelOrdered:
        at = datetime(2026, 1, 1, tzinfo=UTC)
        return TunnelOrdered(peer=command.peer, tunnel=command.tunnel, action=command.action, sa=command.sa, at=at)
