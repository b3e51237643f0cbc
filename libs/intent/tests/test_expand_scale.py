"""Ten thousand peers: the answers are right, and the work grows with the tunnels and never with pairs of peers.

Work is counted in calls of Python functions, which is the same number on every machine.
"""

import sys
from collections.abc import Callable
from types import FrameType

import pytest

from warren_contracts.peers import PeerRecord
from warren_intent.check import check
from warren_intent.expand import expand
from warren_intent.plan import plan
from warren_intent.relations import relations
from warren_testkit.intent import directory, published, record

pytestmark = pytest.mark.slow
HUBS = 4
STAR = published("star", hubs=["tag=hub"], spokes=["tag=branch"])
LINEAR = 2.3  # twice the peers may cost so many times the work; with pairs it would be four times


def fleet(peers: int) -> dict[str, PeerRecord]:
    hubs = (record(f"hub-{n}", n, "hub") for n in range(HUBS))
    return directory(*hubs, *(record(f"spoke-{n}", n, "branch") for n in range(HUBS, peers)))


def calls(work: Callable[[], object]) -> int:
    count = 0

    def note(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


WORK: dict[str, Callable[[dict[str, PeerRecord]], object]] = {
    "a hub": lambda peers: expand([STAR], peers, "hub-0"),
    "relations": lambda peers: relations([STAR], {peer: it.tags for peer, it in peers.items()}),
    "check": lambda peers: check([STAR], peers, ("hub", "branch")),
    "plan": lambda peers: plan([], [STAR], peers),
}


@pytest.mark.parametrize("name", WORK)
def test_work_grows_with_the_peers(name: str) -> None:
    small, large = fleet(500), fleet(1_000)
    WORK[name](small)  # what is cached once is cached now
    assert calls(lambda: WORK[name](large)) < LINEAR * calls(lambda: WORK[name](small))


def test_ten_thousand_peers_are_expanded() -> None:
    peers = fleet(10_000)
    assert len(expand([STAR], peers, "hub-0")) == 10_000 - HUBS
    assert len(expand([STAR], peers, "spoke-77")) == HUBS
    tags = {peer: it.tags for peer, it in peers.items()}
    assert len(relations([STAR], tags)["tag=hub"]) == 10_000 - HUBS
    assert check([STAR], peers, ("hub", "branch")) == ()
