"""The presence of all peers, from their heartbeats and connections.

The state is in memory; a transition is stored, with its event, as soon as the database is available. While the registry could not
receive (the bus was unavailable), no peer becomes offline: the time-out starts when it receives again.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta

import structlog

from warren_contracts.events import KeySharedByConnections, PresenceChanged
from warren_contracts.names import PeerId, is_name
from warren_contracts.peers import PeerHost, PresenceState
from warren_contracts.status import DriverStatus
from warren_contracts.verdicts import intent_is_stale
from warren_registry.outbox import add_event
from warren_registry.ports import Database
from warren_registry.presence.connections import ConnectionEvent, ConnectionHost, ConnectionTable, PeerConnection
from warren_registry.presence.holders import IdentityHolders
from warren_registry.presence.model import Heartbeat, PeerPresence, Signal, after, is_silent, with_facts

HEARTBEATS_STORED = timedelta(seconds=60)  # between two writes of when peers were last seen, which are not transitions
MAX_HOSTS = 8  # in a summary; more connections are closed by the sweep
RECEIVING_TIMEOUT = timedelta(seconds=5)  # without even an empty batch the registry does not receive

log = structlog.get_logger(__name__)


class PresenceTracker:
    """The presence of every peer, and the transitions that are not stored yet."""

    def __init__(self, database: Database, clock: Callable[[], datetime], changed: Callable[[], None]) -> None:
        self._database = database
        self._clock = clock
        self._changed = changed
        self._states: dict[PeerId, PeerPresence] = {}
        self._unsaved: list[tuple[PeerId, PeerPresence]] = []
        self._alerts: list[KeySharedByConnections] = []
        self._seen: set[PeerId] = set()  # whose last heartbeat is not stored
        self._seen_stored_at = clock()
        self._loaded = False
        self._received_at: datetime | None = None
        self._receiving_since = clock()
        self._refusals: dict[PeerId, str] = {}  # in memory: a refused peer repeats its announcement every 30 s
        self.connections = ConnectionTable()
        self.holders = IdentityHolders(self.connections, clock)

    def of(self, peer: PeerId) -> PeerPresence:
        return self._states.get(peer, PeerPresence())

    def refusal(self, peer: PeerId) -> str:
        """Why its last announcement was refused; empty: it was accepted."""
        return self._refusals.get(peer, "")

    def announced(self, peer: PeerId, refusal: str = "") -> None:
        """Record that an announcement was accepted, or refused for this reason."""
        self._refusals.pop(peer, None)
        if refusal:
            self._refusals[peer] = refusal

    async def receive(self, beats: tuple[Heartbeat, ...]) -> None:
        """Process a batch of heartbeats; an empty one shows that the registry receives."""
        now = self._clock()
        if self._received_at is None or now - self._received_at > RECEIVING_TIMEOUT:
            self._receiving_since = now
        self._received_at = now
        for beat in beats:
            if self.holders.is_other(beat.peer, beat.instance):
                continue  # a clone: the peer is what the host says that has its record
            signal, drivers = Signal.HEARTBEAT, beat.drivers
            if beat.stopping:
                signal, drivers = Signal.STOPPING, ()
            self._signal(beat.peer, signal, beat.at, drivers)
            self._states[beat.peer] = with_facts(self._states[beat.peer], beat)
            self._seen.add(beat.peer)
        self._expire(now)

    def connection(self, event: ConnectionEvent) -> int:
        """Process a connection event; returns how many connections the user has. A client that closes its last one is stopping."""
        user = event.connection.user
        count = self.connections.opened(event.connection) if event.opened else self.connections.closed(event.connection)
        if event.closed_by_client and count == 0 and is_name(user):
            self._signal(user, Signal.LAST_CLOSED, self._clock())
        return count

    def confirmed(self, connections: Iterable[PeerConnection], meanwhile: Iterable[ConnectionEvent] = ()) -> None:
        """Store all connections that CONNZ lists, and the events since the request (the reply may be older than these)."""
        self.connections.replace_all(connections)
        for event in meanwhile:
            (self.connections.opened if event.opened else self.connections.closed)(event.connection)
        for user in self.connections.counts():
            self.alert_if_shared(user)

    def alert_if_shared(self, user: str) -> None:
        """Report, once, that several hosts are connected as one peer at the same time."""
        if is_name(user) and self.connections.raise_alert(user):
            count, hosts = self.connections.count(user), self.hosts(user)
            log.warning("presence.shared_key", peer=user, connections=count, hosts=[host.address for host in hosts])
            self._alerts.append(KeySharedByConnections(peer=user, connections=count, hosts=hosts, at=self._clock()))
            self._changed()

    def hosts(self, peer: PeerId) -> tuple[PeerHost, ...]:
        """The hosts that use the identity of a peer, if they are several."""
        if self.connections.count(peer) < 2:
            return ()
        connected = self.connections.hosts(peer)[:MAX_HOSTS]
        holder = self.holders.holder(peer)
        return tuple(
            PeerHost(
                name=it.name,
                address=it.address,
                since=it.since,
                holds_record=it == holder or it.instance == _of(holder),
            )
            for it in (connected if len(connected) > 1 else ())
        )

    def shared(self) -> Mapping[PeerId, tuple[PeerHost, ...]]:
        """The peers that several hosts are connected as, for longer than a reconnect takes."""
        return {peer: hosts for peer in self.connections.shared() if (hosts := self.hosts(peer))}

    def stale_intents(self) -> tuple[PeerId, ...]:
        """The peers that are online and miss the registry's digests."""
        online = ((peer, it) for peer, it in self._states.items() if it.state is PresenceState.ONLINE)
        return tuple(peer for peer, it in online if intent_is_stale(it.host))

    def revoked(self, peers: Iterable[PeerId]) -> None:
        """Mark revoked peers offline."""
        for peer in peers:
            self._refusals.pop(peer, None)
            self.holders.forget(peer)
            if peer in self._states:
                self._signal(peer, Signal.REVOKED, self._clock())

    async def step(self, *, stopping: bool = False) -> bool:
        """Load the stored presence (once), and store the changes; returns whether there were any. Raises UnavailableError.

        Heartbeats are stored with them, or once a minute, and at the end (`stopping`): a restarted registry continues with these.
        """
        if not self._loaded:
            await self._load()
        now = self._clock()
        unsaved, alerts = tuple(self._unsaved), tuple(self._alerts)
        is_due = stopping or bool(unsaved) or now - self._seen_stored_at >= HEARTBEATS_STORED
        seen = {peer: self._states[peer] for peer in self._seen} if is_due else {}
        if not unsaved and not alerts and not seen:
            return False
        async with self._database.transaction() as tables:
            await tables.presence.save({**seen, **dict(unsaved)})
            for peer, presence in unsaved:
                event = PresenceChanged(
                    peer=peer, state=presence.state, reason=presence.reason, at=presence.since or now
                )
                await add_event(tables, "presence", peer, event, now)
            for alert in alerts:
                await add_event(tables, "shared_key", alert.peer, alert, now)
        del self._unsaved[: len(unsaved)], self._alerts[: len(alerts)]
        if seen:
            self._seen -= {peer for peer, presence in seen.items() if self._states[peer] is presence}
            self._seen_stored_at = now
        return bool(unsaved or alerts)

    async def _load(self) -> None:
        async with self._database.transaction() as tables:
            known: Mapping[PeerId, PeerPresence] = await tables.presence.all()
        self._states = {**known, **self._states}
        self._loaded = True

    def _signal(
        self, peer: PeerId, signal: Signal, at: datetime, drivers: tuple[DriverStatus, ...] = ()
    ) -> None:  # fmt: skip
        before = self.of(peer)
        presence = after(before, signal, at, drivers)
        self._states[peer] = presence
        if presence.state is not before.state:
            log.info("presence.changed", peer=peer, state=presence.state.value, reason=presence.reason)
            self._unsaved.append((peer, presence))
            self._changed()

    def _expire(self, now: datetime) -> None:
        if not self._loaded:
            return
        for peer, presence in tuple(self._states.items()):
            if is_silent(presence, now, self._receiving_since):
                self._signal(peer, Signal.SILENT, now)


def _of(holder: ConnectionHost | None) -> str | None:
    """The process of a holder, if it is known."""
    return (holder.instance or None) if holder is not None else None
