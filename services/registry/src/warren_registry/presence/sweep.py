"""Follow the connections of agents and operators by events and CONNZ, and close those that no row allows.

A registry that crashed between a revocation's commit and its KICK, or a callout that decided from an old row, leaves a connection
that must be closed: after every connect of the registry, and every minute, CONNZ is compared with the rows.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Protocol

import structlog

from warren_contracts.names import PeerId, is_name
from warren_contracts.tokens import bus_user
from warren_process.background import BackgroundTasks
from warren_registry.peers.model import Peer
from warren_registry.presence.connections import ConnectionEvent, PeerConnection
from warren_registry.presence.tracker import PresenceTracker
from warren_service.callers import AGENTS, OPS

INTERVAL = 60.0  # s between two sweeps
GRACE = 10.0  # s before a second connection of a user is checked: the server detects a dead first one within these
MAX_CONNECTIONS = 64  # of one user: the callout's rate limit admits 32 at once and 30 within a minute

log = structlog.get_logger(__name__)


def revoked_users(users: Iterable[str], peers: Mapping[PeerId, Peer]) -> tuple[str, ...]:
    """Users with a connection that no row allows: revoked peers, and keys of revoked peers that are enrolling."""
    revoked = {peer.id for peer in peers.values() if peer.revoked}
    revoked |= {peer.nkey for peer in peers.values() if peer.revoked}
    return tuple(sorted(user for user in users if user in revoked or (is_name(user) and user not in peers)))


def expired_operators(users: Iterable[str], operators: Collection[str]) -> tuple[str, ...]:
    """Users of OPS whose token was removed or has expired; `operators` are those with a valid one."""
    valid = set(map(bus_user, operators))
    return tuple(sorted(user for user in set(users) if user not in valid))


def over_limit(connections: Iterable[PeerConnection], limit: int = MAX_CONNECTIONS) -> tuple[str, ...]:
    """Users with more than `limit` connections."""
    counts = Counter(connection.user for connection in connections)
    return tuple(sorted(user for user, count in counts.items() if count > limit))


class ServerConnections(Protocol):
    """The connections of agents and operators, as the servers report them."""

    async def follow(self, received: Callable[[ConnectionEvent], None]) -> None: ...
    async def connections(self, user: str = "", account: str = AGENTS) -> tuple[PeerConnection, ...]: ...
    async def kick(self, user: str) -> int: ...


class ConnectionSweep:
    """Keeps the table of connections in agreement with the servers."""

    def __init__(
        self, system: ServerConnections, presence: PresenceTracker,
        peers: Callable[[], Mapping[PeerId, Peer]], operators: Callable[[], Awaitable[Collection[str]]],
    ) -> None:  # fmt: skip
        self._system = system
        self._presence = presence
        self._peers = peers
        self._operators = operators
        self._confirmations = BackgroundTasks()
        self._meanwhile: list[ConnectionEvent] = []  # since the last sweep started

    async def follow(self) -> None:
        """Subscribe to the events of connections; call it after every connect."""
        await self._system.follow(self._event)

    async def sweep(self) -> None:
        """Compare all connections with the rows, and close those that are not allowed.

        Raises UnavailableError, or what nats-py raises.
        """
        self._meanwhile = []
        found = await self._system.connections()
        self._presence.confirmed(found, self._meanwhile)
        peers = self._peers()
        if peers:  # else the rows have not been read yet
            await self._close(revoked_users({connection.user for connection in found}, peers))
        # Connections first, then the rows: so a token that is created in between is known.
        operating = await self._system.connections(account=OPS)
        if operating:
            await self._close(expired_operators((connection.user for connection in operating), await self._operators()))
        await self._close(over_limit((*found, *operating)))

    async def _close(self, users: Iterable[str]) -> None:
        for user in users:
            closed = await self._system.kick(user)
            log.warning("sweep.closed", user=user, connections=closed)

    def _event(self, event: ConnectionEvent) -> None:
        self._meanwhile.append(event)
        if self._presence.connection(event) > 1 and event.opened:
            self._confirmations.spawn(self._confirm_later(event.connection.user))

    async def _confirm_later(self, user: str) -> None:
        """After GRACE, check whether this user really is connected from several hosts."""
        await asyncio.sleep(GRACE)
        await self.confirm(user)
        self._presence.alert_if_shared(user)

    async def confirm(self, user: str) -> None:
        """Read the connections of one user from the servers, if they answer."""
        try:
            found = await self._system.connections(user)
        except Exception as error:  # noqa: BLE001 - the next sweep checks again
            log.debug("connections.unconfirmed", user=user, error=type(error).__name__)
            return
        self._presence.connections.replace(user, found)
