"""The connections of each peer. More than one at a time indicates that its key was copied (a cloned disk).

The server's events are hints: a server that dies sends no DISCONNECT, and a reconnecting peer's CONNECT may come before
its old DISCONNECT. So the table is keyed by (server id, connection id), and an alert is raised only on a count that CONNZ
confirms.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

CLIENT_CLOSED = "Client Closed"  # nats-server's text


class ConnectionKey(NamedTuple):
    """One connection of the bus: unique while its server runs."""

    server: str
    cid: int


class PeerConnection(NamedTuple):
    """A connection and its user."""

    user: str
    key: ConnectionKey


class ConnectionEvent(NamedTuple):
    """A connection of an agent that was opened or closed; `reason` is the server's reason for its end."""

    connection: PeerConnection
    opened: bool
    reason: str = ""

    @property
    def closed_by_client(self) -> bool:
        """Whether the client itself closed it (not a stale, slow or kicked connection)."""
        return not self.opened and self.reason == CLIENT_CLOSED


class ConnectionTable:
    """Open connections by user."""

    def __init__(self) -> None:
        self._open: defaultdict[str, set[ConnectionKey]] = defaultdict(set)
        self._alerted: set[str] = set()

    def opened(self, connection: PeerConnection) -> int:
        """Add a connection; returns how many this user has now."""
        self._open[connection.user].add(connection.key)
        return len(self._open[connection.user])

    def closed(self, connection: PeerConnection) -> int:
        """Remove a connection; returns how many are left."""
        left = self._open.get(connection.user, set())
        left.discard(connection.key)
        if not left:
            self._open.pop(connection.user, None)
        self._clear_alert(connection.user)
        return len(left)

    def replace(self, user: str, keys: Iterable[ConnectionKey]) -> int:
        """Replace the connections of one user by those of CONNZ; returns their number."""
        found = set(keys)
        if found:
            self._open[user] = found
        else:
            self._open.pop(user, None)
        self._clear_alert(user)
        return len(found)

    def replace_all(self, connections: Iterable[PeerConnection]) -> None:
        """Replace all connections by those of CONNZ."""
        self._open.clear()
        for connection in connections:
            self.opened(connection)
        for user in tuple(self._alerted):
            self._clear_alert(user)

    def count(self, user: str) -> int:
        return len(self._open.get(user, ()))

    def counts(self) -> Mapping[str, int]:
        return {user: len(keys) for user, keys in self._open.items()}

    def raise_alert(self, user: str) -> bool:
        """Whether an alert is due: once for each time that a user has more than one connection."""
        if self.count(user) < 2 or user in self._alerted:
            return False
        self._alerted.add(user)
        return True

    def _clear_alert(self, user: str) -> None:
        if self.count(user) < 2:
            self._alerted.discard(user)
