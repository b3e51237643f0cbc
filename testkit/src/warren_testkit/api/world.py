"""Small fleets on the bus in memory."""

from datetime import timedelta

from warren_contracts.commands import Role
from warren_contracts.status import ReasonCode, TunnelState, TunnelStatus
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


TOKENS_OF = {role: f"token-of-a-{role.value}" for role in Role}
"""Bearer tokens for the peers of customer A."""


def two_customers() -> FakeBus:
    """A hub, and the gateways of two customers, which say much about each other."""
    bus = FakeBus()
    bus.add_peer("hub", "hub")
    for customer in ("a", "b"):
        for number in (1, 2):
            peer = f"{customer}-{number}"
            summary = bus.add_peer(peer, f"customer-{customer}")
            bus.peers[peer] = summary.model_copy(update={"refused": "a network of it overlaps with one of b-1"})
            name = f"{peer}+hub"
            bus.add_tunnel(name, TunnelState.DOWN)
            ends = {
                peer: TunnelStatus(name=name, state=TunnelState.DOWN, policy="branches", peer="hub", detail="no answer"),
                "hub": TunnelStatus(
                    name=name, state=TunnelState.DOWN, policy="branches", peer=peer, reason=ReasonCode.RIVAL_CONNECTION,
                    detail="the same selectors as b-2+hub of customer-b",
                ),
            }  # fmt: skip
            bus.tunnels[name] = bus.tunnels[name].model_copy(
                update={"ends": ends, "reported_at": dict.fromkeys(ends, NOW - timedelta(seconds=1))}
            )
    bus.add_tunnel("b-link")
    bus.tunnels["b-link"] = bus.tunnels["b-link"].model_copy(update={"peers": ("b-1", "hub")})
    bus.remarks = {"ipsec": "b-1 needs an operator"}
    for role, text in TOKENS_OF.items():
        bus.add_token(text, role, "customer-a")
    return bus
