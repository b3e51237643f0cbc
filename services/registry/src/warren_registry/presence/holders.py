"""Whose announcements are a peer's, when several hosts use its identity: those of the host that announced before.

    holder's connection          another host's announcement
    open                         refused
    closed, nobody shared        accepted: the disk was moved, or the host restarted
    closed, the key was shared   refused for RETURN, so that a clone does not take over while the holder restarts

The holder itself is recognized by its process, and after a restart by its machine. After a restart of the registry it is the host
whose connection is the oldest.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from warren_contracts.names import PeerId
from warren_registry.presence.connections import ConnectionHost, ConnectionTable

RETURN = timedelta(minutes=10)  # for the holder of a shared identity to come back


@dataclass(slots=True)
class _Holder:
    host: ConnectionHost
    shared: bool = False  # another host was refused
    gone_at: datetime | None = None  # when it was first seen without a connection


class IdentityHolders:
    """The host of each peer whose announcements are accepted."""

    def __init__(self, connections: ConnectionTable, clock: Callable[[], datetime]) -> None:
        self._connections = connections
        self._clock = clock
        self._holders: dict[PeerId, _Holder] = {}

    def holder(self, peer: PeerId) -> ConnectionHost | None:
        """The host that has the record, while it is connected or expected back; None: the next one that announces."""
        connected = self._connections.hosts(peer)
        held = self._holders.get(peer)
        if held is None:
            return connected[0] if connected else None
        if any(host.instance == held.host.instance for host in connected):
            held.gone_at = None
            return held.host
        held.gone_at = held.gone_at or self._clock()
        if held.shared and self._clock() - held.gone_at < RETURN:
            return held.host
        return None

    def other_holder(self, peer: PeerId, caller: ConnectionHost) -> ConnectionHost | None:
        """The host that has the record, if it is not the caller. A caller that does not say which process it is is not compared."""
        held = self.holder(peer) if caller.instance else None
        if held is None or not held.instance or held.instance == caller.instance:
            return None
        is_back = held.host_id == caller.host_id and not self._is_connected(peer, held)
        return None if is_back else held

    def accept(self, peer: PeerId, caller: ConnectionHost) -> None:
        """The caller has announced; `other_holder` was None."""
        if caller.instance:
            others = any(it.instance != caller.instance for it in self._connections.hosts(peer))
            shared = others and peer in self._holders and self._holders[peer].shared
            self._holders[peer] = _Holder(caller, shared)

    def refused(self, peer: PeerId) -> None:
        """Another host has announced, and was refused."""
        held = self.holder(peer)
        if held is not None:
            self._holders.setdefault(peer, _Holder(held)).shared = True

    def is_other(self, peer: PeerId, instance: str) -> bool:
        """Whether a message of this process comes from another host than the one that has the record."""
        if not instance or self._connections.count(peer) < 2:
            return False
        held = self.holder(peer)
        return held is not None and bool(held.instance) and held.instance != instance and self._is_connected(peer, held)

    def forget(self, peer: PeerId) -> None:
        """The peer was revoked."""
        self._holders.pop(peer, None)

    def _is_connected(self, peer: PeerId, host: ConnectionHost) -> bool:
        return any(it.instance == host.instance for it in self._connections.hosts(peer))
