"""Peers that the other end of a tunnel names and that do not report it themselves: by them, too, a tunnel is found. Pure."""

from collections.abc import Collection, Mapping
from typing import Protocol


class NamingEnd(Protocol):
    """What one end reports of a tunnel: which peer is the other end."""

    @property
    def peer(self) -> str | None: ...


class UnreportedEnds:
    """The tunnels of such peers. Mostly empty: both ends report."""

    def __init__(self) -> None:
        self._names: dict[str, set[str]] = {}  # by peer
        self._peers: dict[str, frozenset[str]] = {}  # by tunnel

    def of(self, peer: str) -> Collection[str]:
        """The tunnels whose other end names this peer, and which it does not report."""
        return self._names.get(peer, ())

    def update(self, tunnel: str, ends: Mapping[str, NamingEnd]) -> None:
        """An end of a tunnel was added or removed, or names another peer."""
        now = frozenset(end.peer for end in ends.values() if end.peer is not None and end.peer not in ends)
        before = self._peers.get(tunnel, frozenset())
        if now == before:
            return
        for peer in before - now:
            names = self._names[peer]
            names.remove(tunnel)
            if not names:
                del self._names[peer]
        for peer in now - before:
            self._names.setdefault(peer, set()).add(tunnel)
        if now:
            self._peers[tunnel] = now
        else:
            del self._peers[tunnel]
