"""The history: rows of events, entries and strips, and the store on PostgreSQL."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from warren_contracts.base import Document
from warren_contracts.bus_queries import EventRecord
from warren_contracts.events import PeerRevoked
from warren_contracts.peers import PresenceState
from warren_contracts.problems import InvalidInputError, NotFoundError
from warren_contracts.status import ReasonCode, TunnelState, TunnelStatus
from warren_contracts.telemetry import Report, TunnelChange
from warren_contracts.tunnel_history import FleetAtQuery, StateEntry, TunnelHistoryQuery
from warren_metrics.counters import IngestCounters
from warren_metrics.domain.fleet import FleetTelemetry
from warren_metrics.history.rows import TunnelRow, rows_of
from warren_metrics.history.timeline import state_entries, strip
from warren_metrics.ingest import Ingest, Raw
from warren_metrics.memory import StateWriter
from warren_testkit.examples import examples
from warren_testkit.history import World, applied, changed, presence, record
from warren_testkit.metrics import START, MemoryEvents, MemoryFleet, place, status

UP, DOWN = TunnelState.UP, TunnelState.DOWN
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


# In order, an end reports each of these states by a message of its own, and the present one in reports.
_STATES = st.lists(st.sampled_from(["up", "down", "connecting", "degraded"]), min_size=1, max_size=8).map(
    lambda states: [state for n, state in enumerate(states) if n == 0 or states[n - 1] != state]
)


def _messages(states: Sequence[str], reports: Sequence[bool]) -> list[Raw]:
    found: list[Raw] = []
    for state, has_report in zip(states, reports, strict=False):
        since = START + timedelta(seconds=len(found))
        reason = ReasonCode.NONE if state == "up" else ReasonCode.PEER_UNREACHABLE
        said = status("gw1+hub", state, peer="hub", since=since, reason=reason)
        bodies: list[tuple[str, Document]] = [("tunnel", TunnelChange(at=since, previous=None, status=said))]
        bodies += [("report", Report(at=since, tunnels=(said,)))] if has_report else []
        for kind, body in bodies:
            at = place(len(found) + 1)
            found.append(Raw(f"warren.v1.telemetry.gw1.{kind}", body.model_dump_json().encode(), at))
    return found


def _history_of(messages: Sequence[Raw]) -> list[StateEntry]:
    async def run() -> list[StateEntry]:
        fleet, events = FleetTelemetry(), MemoryEvents()
        memory = StateWriter(fleet, MemoryFleet(), now=lambda: START)
        ingest = Ingest(fleet, memory, events, IngestCounters(CollectorRegistry()))
        for message in messages:
            await ingest.batch([message])
        stored = [record(n, it.event, it.event_id) for n, it in enumerate(events.published, 1)]
        rows = {row.place.event_id: row for row in rows_of([*stored, *stored]).tunnels}
        return [entry for _, entry in state_entries(list(rows.values()), {})]

    return asyncio.run(run())


@given(data=st.data(), states=_STATES, reports=st.lists(st.booleans(), min_size=8, max_size=8))
@examples(150)
def test_late_repeated_and_reordered_reports_give_the_history_of_those_in_order(
    data: st.DataObject, states: list[str], reports: list[bool]
) -> None:
    messages = _messages(states, reports)
    in_order = _history_of(messages)
    assert [entry.state.value for entry in in_order] == states
    arriving = data.draw(st.permutations([*messages, *data.draw(st.lists(st.sampled_from(messages), max_size=5))]))
    assert _history_of(arriving) == in_order


@pytest.mark.parametrize("off", [timedelta(days=-400), timedelta(hours=-1), timedelta(hours=1), timedelta(days=400)])
@pytest.mark.parametrize("reports", [[True] * 8, [False] * 8])
def test_an_agent_with_a_wrong_clock_has_the_history_of_the_bus(off: timedelta, reports: list[bool]) -> None:
    states = ["connecting", "up", "down", "up"]

    def by(clock: timedelta) -> list[StateEntry]:
        found = []
        for message in _messages(states, reports):
            kind = message.subject.rsplit(".", 1)[1]
            model = TunnelChange if kind == "tunnel" else Report
            body = model.model_validate_json(message.payload)
            changes: dict[str, Any] = {"at": body.at + clock}
            if isinstance(body, TunnelChange):
                changes["status"] = _dated(body.status, clock)
            else:
                changes["tunnels"] = tuple(_dated(it, clock) for it in body.tunnels)
            payload = body.model_copy(update=changes).model_dump_json().encode()
            found.append(Raw(message.subject, payload, message.place))
        return _history_of(found)

    assert by(off) == by(timedelta())


def _dated(said: TunnelStatus, clock: timedelta) -> TunnelStatus:
    return said.model_copy(update={"since": said.since + clock if said.since is not None else None})


async def test_a_tunnel_has_its_transitions_presence_and_revisions_the_newest_first(world: World) -> None:
    at = [START - timedelta(minutes=60 - n) for n in range(8)]
    await world.write(
        applied("gw1", 6, True, at[0]), changed("gw1", UP, at[1]), changed("hub", UP, at[2]), applied("hub", 7, True, at[3]),
        changed("hub", DOWN, at[4], reason=ReasonCode.PEER_AUTH_FAILED), presence("hub", "offline", at[5]),
        presence("other", "offline", at[5]), changed("gw1", UP, at[6], previous=UP, previous_reason=ReasonCode.NONE),
    )  # fmt: skip
    assert await world.entries() == [
        ("presence", "hub", None), ("state", "hub", DOWN), ("applied", "hub", None), ("state", "hub", UP),
        ("state", "gw1", UP), ("applied", "gw1", None),
    ]  # fmt: skip
    found = await world.queries.tunnel(TunnelHistoryQuery(name="gw1+hub", limit=2))
    state = found.entries[1]
    assert isinstance(state, StateEntry)
    assert (state.previous, state.reason) == (UP, ReasonCode.PEER_AUTH_FAILED)
    seen = list(found.entries)
    while found.next_before is not None:
        found = await world.queries.tunnel(TunnelHistoryQuery(name="gw1+hub", limit=2, before=found.next_before))
        assert found.last_24h is None
        seen += found.entries
    assert [(it.kind, it.at) for it in seen] == [
        ("presence", at[5]), ("state", at[4]), ("applied", at[3]), ("state", at[2]), ("state", at[1]), ("applied", at[0]),
    ]  # fmt: skip
    assert await world.entries(until=at[2], limit=1) == [("state", "hub", UP)]


async def test_a_restart_loses_nothing_and_repeats_nothing(world: World) -> None:
    await world.write(*(changed("gw1", UP if n % 2 else DOWN, START - HOUR + n * HOUR / 10) for n in range(5)))
    again = record(6, changed("gw1", DOWN, START - HOUR), "id-1")  # published again after a crash
    world.stream.records.append(again)
    world.stream.add(changed("gw1", UP, START - HOUR / 10))
    await world.writer().step()
    assert len(await world.entries()) == 6
    assert await world.store.position() == 7
    world.stream.records.clear()  # the stream was created again
    await world.write(changed("gw1", DOWN, START))
    assert len(await world.entries()) == 7


async def test_days_that_are_too_old_are_removed_and_the_state_at_their_end_is_known(world: World) -> None:
    world.now = START - 40 * DAY
    await world.write(
        changed("gw1", UP, world.now), changed("hub", UP, world.now), presence("gw1", "online", world.now)
    )
    await world.write(changed("gw1", UP, world.now, "gone"), applied("gw1", 3, True, world.now))
    await world.write(changed("gw1", DOWN, world.now + HOUR, "gone", removed=True))
    world.now = START
    await world.write(changed("hub", DOWN, START - DAY))
    assert await world.entries() == [("state", "hub", DOWN)]
    found = await world.queries.fleet_at(FleetAtQuery(at=START - 20 * DAY))
    assert [(it.name, it.state) for it in found.tunnels] == [("gw1+hub", UP)]
    assert [(it.peer, it.presence, it.applied_revision) for it in found.peers] == [("gw1", PresenceState.ONLINE, 3)]
    with pytest.raises(InvalidInputError, match=r"at: is before 2025-12-03 .* WARREN_HISTORY_DAYS"):
        await world.queries.fleet_at(FleetAtQuery(at=START - 31 * DAY))


async def test_the_fleet_at_an_instant_is_what_was_reported_then(world: World) -> None:
    at = [START - HOUR + timedelta(minutes=n) for n in range(9)]
    await world.write(
        changed("gw1", UP, at[0]), changed("hub", UP, at[0]), presence("gw1", "online", at[0]), presence("hub", "online", at[0]),
        changed("hub", UP, at[0], "gw2+hub"), changed("gw2", UP, at[0], "gw2+hub"), presence("gw2", "online", at[0]),
        changed("hub", DOWN, at[2]), presence("hub", "offline", at[4]), presence("gw1", "offline", at[4]),
        PeerRevoked(peer="gw2", actor="ann", at=at[6]),
    )  # fmt: skip

    async def states(n: int) -> dict[str, str]:
        found = await world.queries.fleet_at(FleetAtQuery(at=at[n]))
        assert {**found.states} == {
            it.state: sum(1 for t in found.tunnels if t.state is it.state) for it in found.tunnels
        }
        return {it.name: it.state.value for it in found.tunnels}

    assert await states(1) == {"gw1+hub": "up", "gw2+hub": "up"}
    assert await states(3) == {"gw1+hub": "down", "gw2+hub": "up"}
    assert await states(5) == {"gw1+hub": "unknown", "gw2+hub": "up"}
    assert await states(7) == {"gw1+hub": "unknown", "gw2+hub": "unknown"}
    page = await world.queries.fleet_at(FleetAtQuery(at=at[5], limit=1))
    assert (page.next_after, page.offline, page.gateways) == ("gw1+hub", ("gw1", "hub"), {"offline": 2, "online": 1})
    rest = await world.queries.fleet_at(FleetAtQuery(at=at[5], after="gw1+hub"))
    assert ([it.name for it in rest.tunnels], rest.next_after) == (["gw2+hub"], None)
    of_gw2 = await world.queries.fleet_at(FleetAtQuery(at=at[5], limit=1, ends=("gw2", "nobody")))
    assert ([it.name for it in of_gw2.tunnels], of_gw2.next_after, {**of_gw2.states}) == (["gw2+hub"], None, {UP: 1})
    assert ([it.peer for it in of_gw2.peers], of_gw2.offline, {**of_gw2.gateways}) == (["gw2"], (), {"online": 1})
    nobody = await world.queries.fleet_at(FleetAtQuery(at=at[5], ends=()))
    assert (nobody.tunnels, {**nobody.states}, {**nobody.gateways}, nobody.offline) == ((), {}, {}, ())


async def test_a_question_that_has_no_answer_names_its_field(world: World) -> None:
    await world.write(changed("gw1", UP, START - HOUR))
    ahead = START + HOUR
    for query in (
        TunnelHistoryQuery(name="gw1+hub", until=ahead),
        TunnelHistoryQuery(name="gw1+hub", until=START - 31 * DAY),
    ):
        with pytest.raises(InvalidInputError, match="until: ") as refused:
            await world.queries.tunnel(query)
        assert [it.field for it in refused.value.errors] == ["until"]
    with pytest.raises(InvalidInputError, match="at: is in the future"):
        await world.queries.fleet_at(FleetAtQuery(at=ahead))
    with pytest.raises(InvalidInputError, match=r"at: is before .*, when the history begins: WARREN_HISTORY_DAYS"):
        await world.queries.fleet_at(FleetAtQuery(at=START - 31 * DAY))
    with pytest.raises(InvalidInputError, match="before: "):
        await world.queries.tunnel(TunnelHistoryQuery(name="gw1+hub", before=f"{'9' * 18}-1"))
    with pytest.raises(NotFoundError, match="unknown tunnel nosuch"):
        await world.queries.tunnel(TunnelHistoryQuery(name="nosuch"))
    world.known.add("silent")
    assert (await world.queries.tunnel(TunnelHistoryQuery(name="silent"))).entries == ()


def _rows(*events: Document) -> list[TunnelRow]:
    return rows_of([record(n, event) for n, event in enumerate(events, 1)]).tunnels


def test_a_strip_counts_the_seconds_of_each_state_in_each_bucket() -> None:
    start = START - 4 * HOUR
    rows = _rows(
        changed("gw1", UP, start + HOUR / 2),
        changed("gw1", DOWN, start + 2 * HOUR),
        changed("gw1", UP, start + 2.5 * HOUR),
    )
    found = strip(rows, start, START, 4, start)
    assert [{**bucket} for bucket in found.buckets] == [
        {UP: 1_800.0}, {UP: 3_600.0}, {DOWN: 1_800.0, UP: 1_800.0}, {UP: 3_600.0}
    ]  # fmt: skip
    assert found.up_ratio == round(10_800 / 12_600, 6)
    silent = rows_of([record(9, presence("gw1", "offline", start + 3 * HOUR))]).peers
    offline = strip([*rows, *silent], start, START, 4, start)
    assert {**offline.buckets[3]} == {TunnelState.UNKNOWN: 3_600.0}
    assert [bool(bucket) for bucket in strip(rows, start, START, 4, start + 2 * HOUR).buckets] == [
        False,
        False,
        True,
        True,
    ]
    assert strip([], start, START, 4, start).up_ratio is None


@given(st.lists(st.tuples(st.integers(-5_000, 20_000), st.sampled_from(list(TunnelState))), max_size=12))
@examples(100)
def test_the_buckets_of_a_strip_hold_all_of_its_known_time(changes: list[tuple[int, TunnelState]]) -> None:
    start, end = START, START + 4 * HOUR
    rows = _rows(*(changed("gw1", state, START + timedelta(seconds=at)) for at, state in changes))
    found = strip(rows, start, end, 8, start)
    first = min((row.place.at for row in rows), default=end)
    known = sum(sum(bucket.values()) for bucket in found.buckets)
    assert abs(known - max((end - max(first, start)).total_seconds(), 0.0)) < 0.1
    assert all(sum(bucket.values()) <= found.bucket_seconds + 0.1 for bucket in found.buckets)


def test_events_that_cannot_be_read_are_counted_and_others_are_left_out() -> None:
    good = record(1, changed("gw1", UP, START))
    bad = EventRecord(sequence=2, event={**good.event, "data": {"peer": 7}})
    other = EventRecord(sequence=3, event={**good.event, "type": "warren.other.v1"})
    rekeyed = record(4, changed("gw1", UP, START, previous=UP, previous_reason=ReasonCode.NONE))
    naive = record(5, changed("gw1", UP, datetime(2026, 1, 1)))  # noqa: DTZ001 - a clock without a zone
    rows = rows_of([good, bad, other, rekeyed, naive])
    assert (len(rows.tunnels), rows.invalid) == (1, 1)
    assert rows.tunnels[0].place.at.tzinfo is not None
    assert datetime.now(UTC) > rows.tunnels[0].place.at
