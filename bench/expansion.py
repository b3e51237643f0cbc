"""`expansion_change`, `check_plan`: how long deriving tunnels takes.

A hub with 10,000 branches derives its tunnels after one branch has moved to another network: incrementally, next to deriving
everything, in turns. And the policy service checks and plans a change of the crypto profile of 10,000 tunnels, of one hub and of
ten hubs with 1,000 branches: as the first change after its start, and as a later one, when it holds the tunnels of what is stored.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable
from functools import partial

from harness import Bench, Rival, Row, absolute, compared

from warren_contracts.peers import PeerRecord
from warren_intent.check import check_derived
from warren_intent.expand import explain
from warren_intent.fleet_tunnels import FleetTunnels
from warren_intent.incremental import Expander
from warren_intent.plan import plan_between
from warren_service.collector import spare_the_collector
from warren_testkit.intent import directory, published, record

RUNS = 5
BRANCHES = 10_000
MAX_CHANGE_MS, MAX_CHECK_PLAN_S = 20.0, 2.0
STAR = published("star", hubs=["tag=hub"], spokes=["tag=branch"])
HARDER = published("star", 2, hubs=["tag=hub"], spokes=["tag=branch"], crypto={"profile": "cnsa1"})


def _fleet(hubs: int, branches: int) -> dict[str, PeerRecord]:
    return directory(
        *(record(f"hub-{n}", n, "hub") for n in range(hubs)),
        *(record(f"branch-{n}", hubs + n, "branch") for n in range(branches)),
    )


def _seconds(work: Callable[[], object]) -> float:
    gc.collect()
    began = time.process_time()  # one thread computes: other load of the machine does not count
    work()
    return time.process_time() - began


def _changes() -> Iterable[Row]:
    peers = _fleet(1, BRANCHES)
    expander = Expander("hub-0")
    expander.explain([STAR], peers)
    ours, full = [], []
    for run in range(RUNS):
        moved = record(f"branch-{run}", 20_000 + run, "branch", revision=2 + run)
        peers = {**peers, moved.peer: moved}
        changed = peers
        ours.append(1_000 * _seconds(lambda changed=changed: expander.explain([STAR], changed)))  # type: ignore[misc] # of its default
        full.append(1_000 * _seconds(lambda changed=changed: explain([STAR], changed, "hub-0")))  # type: ignore[misc] # of its default
        if expander.explain([STAR], peers) != explain([STAR], peers, "hub-0"):
            raise AssertionError("the incremental expansion differs from the full one")
    note = f"one branch of {BRANCHES} moves; the hub's tunnels"
    yield absolute("expansion_change", ours, "ms", better="lower", target=MAX_CHANGE_MS, note=note)
    yield compared(
        "expansion_change_next_to_full", ours, Rival("deriving everything", full), "ms", better="lower", target=None,
        note=note,
    )  # fmt: skip


def _check_and_plan() -> Iterable[Row]:
    spare_the_collector()  # as the service does
    for name, hubs, branches in (("one_hub", 1, BRANCHES), ("ten_hubs", 10, BRANCHES // 10)):
        peers = _fleet(hubs, branches)
        stored = FleetTunnels([STAR], peers)

        def work(held: FleetTunnels | None, peers: dict[str, PeerRecord] = peers) -> None:
            before = FleetTunnels([STAR], peers, held)
            after = FleetTunnels([HARDER], peers, before)
            check_derived([HARDER.policy], after, ("hub", "branch"))
            plan_between(before, after)

        note = f"the profile of {hubs * branches} tunnels changes; seconds of CPU"
        first = [_seconds(partial(work, None)) for _ in range(RUNS)]
        yield absolute(f"check_plan_{name}", first, "s", better="lower", target=MAX_CHECK_PLAN_S, note=note)
        later = [_seconds(partial(work, stored)) for _ in range(RUNS)]
        yield absolute(f"check_plan_{name}_later", later, "s", better="lower", target=MAX_CHECK_PLAN_S, note=note)


BENCHES = [
    Bench(("expansion_change", "expansion_change_next_to_full"), _changes),
    Bench(
        ("check_plan_one_hub", "check_plan_one_hub_later", "check_plan_ten_hubs", "check_plan_ten_hubs_later"),
        _check_and_plan,
    ),
]
