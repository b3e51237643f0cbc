"""`expansion_change`, `check_plan`: how long deriving tunnels takes.

A hub with 10,000 branches derives its tunnels after one branch has moved to another network: incrementally, next to deriving
everything, in turns. And the policy service checks and plans a change of the crypto profile of 10,000 tunnels, of one hub and of
ten hubs with 1,000 branches.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable

from harness import Bench, Row, absolute, compared

from warren_contracts.peers import PeerRecord
from warren_intent.check import check
from warren_intent.expand import explain
from warren_intent.incremental import Expander
from warren_intent.plan import plan
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
        "expansion_change_next_to_full", ours, full, "ms", rival_name="deriving everything", better="lower", target=None,
        note=note,
    )  # fmt: skip


def _check_and_plan() -> Iterable[Row]:
    for name, hubs, branches in (("one_hub", 1, BRANCHES), ("ten_hubs", 10, BRANCHES // 10)):
        peers = _fleet(hubs, branches)

        def work(peers: dict[str, PeerRecord] = peers) -> None:
            check([HARDER], peers, ("hub", "branch"))
            plan([STAR], [HARDER], peers)

        found = [_seconds(work) for _ in range(RUNS)]
        note = f"the profile of {hubs * branches} tunnels changes"
        yield absolute(f"check_plan_{name}", found, "s", better="lower", target=MAX_CHECK_PLAN_S, note=note)


BENCHES = [
    Bench(("expansion_change", "expansion_change_next_to_full"), _changes),
    Bench(("check_plan_one_hub", "check_plan_ten_hubs"), _check_and_plan),
]
