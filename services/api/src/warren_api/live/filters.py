"""Which rows a reader wants."""

from dataclasses import dataclass

from warren_contracts.live import LivePeer, LivePolicy, LiveTunnel
from warren_contracts.status import TunnelState

MAX_VALUES = 32  # of one field of a filter


@dataclass(frozen=True, slots=True)
class LiveFilter:
    """Values of one field are alternatives; each field with values must match. A field that a row does not have does not matter to it."""

    peers: frozenset[str] = frozenset()
    tags: frozenset[str] = frozenset()
    policies: frozenset[str] = frozenset()
    states: frozenset[TunnelState] = frozenset()

    def matches(self, row: LiveTunnel | LivePeer | LivePolicy) -> bool:
        """Whether a reader wants this row."""
        match row:
            case LiveTunnel():
                return (
                    (not self.states or row.state in self.states)
                    and (not self.policies or row.policy in self.policies)
                    and (not self.peers or not self.peers.isdisjoint(row.peers))
                    and (not self.tags or not self.tags.isdisjoint(row.tags))
                )
            case LivePeer():
                return (not self.peers or row.peer in self.peers) and (
                    not self.tags or not self.tags.isdisjoint(row.tags)
                )
            case LivePolicy():
                return not self.policies or row.id in self.policies
