"""Questions of operators: the history of a tunnel, and the fleet at an instant."""

from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from warren_contracts.base import BIGINT_MAX
from warren_contracts.combined import combine
from warren_contracts.pages import fit_page
from warren_contracts.peers import PresenceState
from warren_contracts.problems import InvalidField, InvalidInputError, NotFoundError
from warren_contracts.status import FleetTunnel
from warren_contracts.tunnel_history import (
    MAX_OFFLINE,
    AppliedEntry,
    FleetAtQuery,
    FleetObserved,
    HistoryStrip,
    PeerAt,
    PresenceEntry,
    StateEntry,
    TunnelHistory,
    TunnelHistoryQuery,
)
from warren_metrics.history.ports import HistorySpan, HistoryStore, Position
from warren_metrics.history.rows import AppliedRow, HistoryRows, PeerRow, TunnelRow
from warren_metrics.history.timeline import applied_entry, presence_entry, state_entries, strip

DAY = timedelta(days=1)
DAY_BUCKETS, WEEK_BUCKETS = 96, 84  # of 15 minutes, and of 2 hours
MAX_SPAN = 20_000  # rows of a strip: a tunnel that changes every 30 s for a week
MAX_ENTRIES_BYTES = 600_000  # of one reply
HELD = 2  # instants whose fleet is held for their next pages
AHEAD = timedelta(seconds=5)  # what the clocks of a client and of this host may differ by

_Entry = StateEntry | PresenceEntry | AppliedEntry
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = datetime(9999, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class _Instant:
    """The whole fleet at an instant."""

    tunnels: Sequence[FleetTunnel]  # in order of names
    peers: dict[str, PeerAt]


class HistoryQueries:
    """Answers from the stored rows. Every method raises PostgresUnavailableError while PostgreSQL is unavailable."""

    def __init__(
        self, store: HistoryStore, retention: timedelta, is_known: Callable[[str], bool], *, now: Callable[[], datetime]
    ) -> None:
        self._store = store
        self._retention = retention
        self._is_known = is_known  # whether a tunnel of this name is reported now
        self._now = now
        self._held: OrderedDict[datetime, _Instant] = OrderedDict()

    async def tunnel(self, query: TunnelHistoryQuery) -> TunnelHistory:
        """A page of what happened to a tunnel.

        Raises InvalidInputError for a time in the future or before the history begins, NotFoundError for an unknown tunnel.
        """
        begins = await self._begins()
        is_first = query.before is None and query.until is None
        before = self._position(query, begins)
        span = await self._store.page(query.name, before, query.limit + 1)
        if not span.rows.tunnels and not span.before and is_first and not self._is_known(query.name):
            raise NotFoundError(f"unknown tunnel {query.name}: the history has no entry of it since {_said(begins)}")
        entries, cursor = _page(span, query.limit)
        history = TunnelHistory(name=query.name, entries=entries, next_before=cursor, begins=begins)
        if not is_first:
            return history
        return history.model_copy(update=await self._strips(query.name, begins))

    async def fleet_at(self, query: FleetAtQuery) -> FleetObserved:
        """A page of the fleet as it was observed. Raises InvalidInputError for a time in the future or before the history begins."""
        begins = await self._begins()
        self._check("at", query.at, begins)
        instant = self._held.get(query.at)
        if instant is None:
            instant = _instant(await self._store.fleet_at(query.at))
            if query.at < self._now() - AHEAD:  # later events may still be stored
                self._held[query.at] = instant
            while len(self._held) > HELD:
                self._held.popitem(last=False)
        if query.ends is not None:
            instant = _of_ends(instant, frozenset(query.ends))
        rest = [tunnel for tunnel in instant.tunnels if tunnel.name > query.after]
        shown = fit_page(rest[: query.limit], MAX_ENTRIES_BYTES)
        named = {peer for tunnel in shown for peer in tunnel.peers}
        offline = sorted(peer for peer, it in instant.peers.items() if it.presence is not PresenceState.ONLINE)
        return FleetObserved(
            at=query.at, begins=begins, states=dict(Counter(tunnel.state for tunnel in instant.tunnels)),
            gateways=dict(Counter(it.presence for it in instant.peers.values())), offline=tuple(offline[:MAX_OFFLINE]),
            peers=tuple(instant.peers[peer] for peer in sorted(named & instant.peers.keys())), tunnels=shown,
            next_after=shown[-1].name if len(shown) < len(rest) else None,
        )  # fmt: skip

    async def _begins(self) -> datetime:
        first = await self._store.first_at()
        oldest = self._now() - self._retention
        return oldest if first is None else max(first, oldest)

    def _position(self, query: TunnelHistoryQuery, begins: datetime) -> Position:
        position: Position = (_LATEST, 0)
        if query.until is not None:
            self._check("until", query.until, begins)
            position = (query.until, BIGINT_MAX)
        if query.before is not None:
            micros, _, sequence = query.before.partition("-")
            try:
                at = _EPOCH + timedelta(microseconds=int(micros))
            except OverflowError:
                raise _refused("before", "is not a cursor of this path: use `next_before` of a page") from None
            self._check("before", at, begins)
            position = min(position, (at, int(sequence)))
        return position

    def _check(self, field: str, at: datetime, begins: datetime) -> None:
        if at > self._now() + AHEAD:
            raise _refused(field, "is in the future: give a time that has passed")
        if at < begins:
            raise _refused(
                field,
                f"is before {_said(begins)}, when the history begins: WARREN_HISTORY_DAYS of the metrics service keeps more",
            )

    async def _strips(self, name: str, begins: datetime) -> dict[str, HistoryStrip]:
        now = self._now()
        span = await self._store.span(name, now - 7 * DAY, MAX_SPAN)
        rows: list[TunnelRow | PeerRow] = [*span.before.values(), *span.rows.tunnels, *span.rows.peers]
        known_from = begins
        if not span.is_complete and span.rows.tunnels:
            known_from = max(begins, min(row.place.at for row in span.rows.tunnels))
        return {
            "last_24h": strip(rows, now - DAY, now, DAY_BUCKETS, known_from),
            "last_7d": strip(rows, now - 7 * DAY, now, WEEK_BUCKETS, known_from),
        }


def _page(span: HistorySpan, limit: int) -> tuple[tuple[_Entry, ...], str | None]:
    """The newest entries of a span, and the cursor of the next page."""
    found: list[tuple[Position, _Entry]] = [
        (_at(row), entry) for row, entry in state_entries(span.rows.tunnels, span.before)
    ]
    found += [(_at(row), presence_entry(row)) for row in span.rows.peers]
    found += [(_at(row), applied_entry(row)) for row in span.rows.applied]
    found.sort(key=lambda it: it[0], reverse=True)
    kinds = (span.rows.tunnels, span.rows.peers, span.rows.applied)
    # Of a kind whose page is full there are older rows: entries of other kinds that are older than it come later
    borders = [_at(rows[-1]) for rows in kinds if len(rows) > limit]
    border = max(borders, default=None)
    shown = [it for it in found if border is None or it[0] >= border][:limit]
    entries = fit_page([entry for _, entry in shown], MAX_ENTRIES_BYTES)
    shown = shown[: len(entries)]
    if not shown:
        return (), None if border is None else _cursor(border)
    more = border is not None or len(found) > len(shown)
    return entries, _cursor(shown[-1][0]) if more else None


def _instant(rows: HistoryRows) -> _Instant:
    ends: dict[str, dict[str, TunnelRow]] = {}
    revoked = {row.peer for row in rows.peers if row.revoked}
    for row in rows.tunnels:
        if row.peer not in revoked:
            ends.setdefault(row.tunnel, {})[row.peer] = row
    applied = {row.peer: row for row in rows.applied}
    peers = {row.peer: _peer_at(row, applied.get(row.peer)) for row in rows.peers if not row.revoked}
    offline = {peer for peer, it in peers.items() if it.presence is not PresenceState.ONLINE}
    tunnels = [
        combine(
            name, {peer: row.status() for peer, row in of_tunnel.items()},
            {peer: row.place.at for peer, row in of_tunnel.items()}, offline,
        )
        for name, of_tunnel in sorted(ends.items())
    ]  # fmt: skip
    return _Instant(tunnels, peers)


def _of_ends(instant: _Instant, ends: frozenset[str]) -> _Instant:
    """The part of the fleet that these peers and their tunnels are."""
    tunnels = [tunnel for tunnel in instant.tunnels if not ends.isdisjoint(tunnel.peers)]
    return _Instant(tunnels, {peer: instant.peers[peer] for peer in ends & instant.peers.keys()})


def _peer_at(row: PeerRow, applied: AppliedRow | None) -> PeerAt:
    return PeerAt(
        peer=row.peer, presence=row.presence, since=row.place.at, reason=row.reason,
        applied_epoch=applied.epoch if applied is not None else 0,
        applied_revision=applied.revision if applied is not None else 0,
    )  # fmt: skip


def _at(row: TunnelRow | PeerRow | AppliedRow) -> Position:
    return row.place.at, row.place.sequence


def _cursor(position: Position) -> str:
    at, sequence = position
    return f"{(at - _EPOCH) // timedelta(microseconds=1)}-{sequence}"


def _said(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _refused(field: str, message: str) -> InvalidInputError:
    return InvalidInputError(f"{field}: {message}", (InvalidField(field=field, message=message),))
