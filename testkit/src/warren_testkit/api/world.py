"""A small fleet on the bus in memory."""

from datetime import timedelta

from warren_contracts.status import TunnelState, TunnelStatus
from warren_testkit.api.bus import FakeBus
from warren_testkit.api.tokens import NOW


def live_world() -> FakeBus:
    """A hub and two spokes, both tunnels up."""
    bus = FakeBus()
    for peer, tag in (("hub", "hub"), ("spoke-1", "branch"), ("spoke-2", "branch")):
        bus.add_peer(peer, tag)
    for spoke in ("spoke-1", "spoke-2"):
        name = f"hub+{spoke}"
        ends = {
            peer: TunnelStatus(name=name, state=TunnelState.UP, policy="branches", peer=other)
            for peer, other in ((spoke, "hub"), ("hub", spoke))
        }
        bus.add_tunnel(name)
        bus.tunnels[name] = bus.tunnels[name].model_copy(
            update={"ends": ends, "reported_at": dict.fromkeys(ends, NOW - timedelta(seconds=1))}
        )
    return bus
