"""The connections of each peer. Those of more than one host at a time indicate that its key was copied (a cloned disk).

The server's events are hints: a server that dies sends no DISCONNECT, and a reconnecting peer's CONNECT may come before
its old DISCONNECT. So the table is keyed by (server id, connection id), and an alert is raised only on a count that CONNZ
confirms.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

CLIENT_CLOSED = "Client Closed"  # nats-server's text


class ConnectionKey(NamedTuple):
    """One connection of the bus: unique while its server runs."""

    server: str
    cid: int


class ConnectionHost(NamedTuple):
    """Who has opened a connection, as the server reports it. All but the address is what the client says of itself."""

    address: str = ""
    name: str = ""
    host_id: str = ""  # of the machine: the same after a restart, another one on a clone with network cards of its own
    instance: str = ""  # of the process
    since: datetime | None = None


UNKNOWN_HOST = ConnectionHost()

# The name of an agent's connection (`warren_agent.host.connection_name`).
_NAME = re.compile(r"agent:[^:]{0,64}:(?P<host_id>[0-9a-f]{16}):(?P<instance>[0-9a-f]{16}):(?P<name>[!-~]{0,64})")


def parse_host(entry: Mapping[str, Any], address: str) -> ConnectionHost:
    """The host of a connection in CONNZ, in an event, or in `Nats-Request-Info`. What cannot be read stays empty."""
    found = _NAME.fullmatch(str(entry.get("name", "")))
    try:
        since = datetime.fromisoformat(str(entry.get("start", "")))
    except ValueError:
        since = None
    return ConnectionHost(address[:64], since=since, **(found.groupdict() if found else {}))


class PeerConnection(NamedTuple):
    """A connection and its user."""

    user: str
    key: ConnectionKey
    host: ConnectionHost = UNKNOWN_HOST


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
        self._open: defaultdict[str, dict[ConnectionKey, ConnectionHost]] = defaultdict(dict)
        self._alerted: set[str] = set()

    def opened(self, connection: PeerConnection) -> int:
        """Add a connection; returns how many this user has now."""
        self._open[connection.user][connection.key] = connection.host
        return len(self._open[connection.user])

    def closed(self, connection: PeerConnection) -> int:
        """Remove a connection; returns how many are left."""
        left = self._open.get(connection.user, {})
        left.pop(connection.key, None)
        if not left:
            self._open.pop(connection.user, None)
        self._clear_alert(connection.user)
        return len(left)

    def replace(self, user: str, connections: Iterable[PeerConnection]) -> int:
        """Replace the connections of one user by those of CONNZ; returns their number."""
        found = {connection.key: connection.host for connection in connections}
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

    def hosts(self, user: str) -> tuple[ConnectionHost, ...]:
        """The hosts that a user is connected from, the one that was first at the front.

        A process that reconnects has two connections until the server detects that one is dead: it is one host. Of a client that
        does not say which process it is, each connection counts.
        """
        first: dict[object, ConnectionHost] = {}
        for key, host in sorted(self._open.get(user, {}).items(), key=_opened_at):
            first.setdefault(host.instance or key, host)
        return tuple(first.values())

    def shared(self) -> tuple[str, ...]:
        """The users with an alert: those that are connected from several hosts for longer than a reconnect takes."""
        return tuple(sorted(self._alerted))

    def raise_alert(self, user: str) -> bool:
        """Whether an alert is due: once for each time that a user is connected from more than one host."""
        if self.count(user) < 2 or user in self._alerted or len(self.hosts(user)) < 2:
            return False
        self._alerted.add(user)
        return True

    def _clear_alert(self, user: str) -> None:
        if user in self._alerted and len(self.hosts(user)) < 2:
            self._alerted.discard(user)


def _opened_at(entry: tuple[ConnectionKey, ConnectionHost]) -> tuple[float, ConnectionKey]:
    key, host = entry
    return host.since.timestamp() if host.since is not None else 0.0, key
