"""Ten thousand peers: the answer comes well within a second, and the work does not grow with pairs."""

from time import process_time

from warren_intent.check import check
from warren_intent.expand import expand
from warren_intent.plan import plan
from warren_intent.relations import relations
from warren_intent.testing import directory, published, record

PEERS = 10_000
FLEET = directory(
    *(record(f"hub-{n}", n, "hub") for n in range(4)),
    *(record(f"spoke-{n}", n, "branch") for n in range(4, PEERS)),
)
STAR = published("star", hubs=["tag=hub"], spokes=["tag=branch"])


def test_a_hub_of_ten_thousand_spokes_expands_in_time() -> None:
    before = process_time()
    tunnels = expand([STAR], FLEET, "hub-0")
    assert len(tunnels) == PEERS - 4
    assert process_time() - before < 1.0


def test_a_spoke_among_ten_thousand_expands_in_time() -> None:
    before = process_time()
    assert len(expand([STAR], FLEET, "spoke-77")) == 4
    assert process_time() - before < 0.3


def test_relations_of_ten_thousand_peers_are_found_in_time() -> None:
    tags = {peer: it.tags for peer, it in FLEET.items()}
    before = process_time()
    related = relations([STAR], tags)
    assert len(related["tag=hub"]) == PEERS - 4
    assert process_time() - before < 0.5


def test_a_check_and_a_plan_of_ten_thousand_tunnels_end_in_time() -> None:
    fleet = directory(*(record(f"spoke-{n}", n, "branch") for n in range(4, PEERS)), record("hub-0", 0, "hub"))
    before = process_time()
    assert check([STAR], fleet, ("hub", "branch")) == ()
    assert process_time() - before < 5.0
    before = process_time()
    assert len(plan([], [STAR], fleet)) == PEERS - 4
    assert process_time() - before < 3.0
