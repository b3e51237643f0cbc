"""Applied revisions in the history: agents report theirs again after each change of the directory."""

from datetime import timedelta
from itertools import permutations

from warren_contracts.status import TunnelState
from warren_contracts.tunnel_history import TunnelHistoryQuery
from warren_testkit.history import RETENTION, World, applied, changed
from warren_testkit.metrics import START
from warren_testkit.postgres import PostgresServer

UP = TunnelState.UP
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
OUTCOMES = ((6, True), (7, False), (7, False), (7, True), (7, True), (7, False), (7, True))
SHOWN = (0, 1, 3, 5, 6)


async def test_a_revision_is_shown_once_until_its_peer_reports_another_outcome(
    world: World, postgres: PostgresServer
) -> None:
    """Whatever the order in which the reports arrive, and whether the repeats were removed already."""
    at = [START - timedelta(hours=5, minutes=-n) for n in range(len(OUTCOMES))]
    orders = list(permutations(range(len(OUTCOMES))))[::167]
    events = [applied(f"gw{n}", *OUTCOMES[it], at[it]) for n, order in enumerate(orders) for it in order]
    await world.write(*events, *(changed(f"gw{n}", UP, START, f"gw{n}+hub") for n in range(len(orders))))
    wanted = [(*OUTCOMES[it], at[it]) for it in reversed(SHOWN)]
    count = "SELECT count(*) FROM metrics.applied_revision"
    assert int(postgres.sql(count)) == len(orders) * len(OUTCOMES)
    assert [await world.revisions(f"gw{n}+hub") for n in range(len(orders))] == [wanted] * len(orders)
    await world.writer().step()
    assert int(postgres.sql(count)) == len(orders) * len(SHOWN)
    assert [await world.revisions(f"gw{n}+hub") for n in range(len(orders))] == [wanted] * len(orders)


async def test_pages_of_revisions_have_no_repeats(world: World) -> None:
    at = [START - timedelta(minutes=60 - n) for n in range(9)]
    await world.write(*(applied("gw1", 1 + n // 3, True, when) for n, when in enumerate(at)), changed("gw1", UP, at[0]))
    first = await world.queries.tunnel(TunnelHistoryQuery(name="gw1+hub", limit=2))
    assert [it.at for it in first.entries] == [at[6], at[3]]
    rest = await world.queries.tunnel(TunnelHistoryQuery(name="gw1+hub", limit=2, before=first.next_before))
    assert (sorted(it.at for it in rest.entries), rest.next_before) == ([at[0], at[0]], None)


async def test_a_revision_is_not_shown_again_after_its_day_was_removed(world: World) -> None:
    await world.write(applied("gw1", 7, True, START))
    world.now = START + RETENTION + 2 * DAY
    await world.write(applied("gw1", 7, True, world.now - HOUR), changed("gw1", UP, world.now - HOUR))
    assert [kind for kind, _, _ in await world.entries()] == ["state"]
