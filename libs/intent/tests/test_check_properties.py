"""Properties of `check` and `plan` that hold for the tunnels that `expand` derives."""

from ipaddress import IPv4Network, ip_network
from itertools import combinations
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from warren_contracts.selectors import networks_of
from warren_contracts.tunnel import Tunnel
from warren_intent.check import check
from warren_intent.expand import expand
from warren_intent.findings import errors
from warren_intent.overlaps import Ranges, claimed_twice
from warren_intent.plan import Effect, plan
from warren_testkit.intent import directory, ipsec_tunnel, published, record

# Few networks, many of which contain each other.
NETWORKS = st.builds(
    lambda bits, length: str(IPv4Network((bits << 28 & (0xFFFFFFFF << (32 - length)) & 0xFFFFFFFF, length))),
    st.integers(0, 15), st.integers(0, 4),
)  # fmt: skip
SELECTORS = st.lists(NETWORKS, min_size=1, max_size=3)
PEERS = ("a", "b", "c", "d")
READERS = st.sampled_from(["all", "tag=x", "tag=y", *(f"peer={peer}" for peer in PEERS)])


def tunnel(name: str, local: list[str], remote: list[str]) -> Tunnel:
    return ipsec_tunnel(name=name, child={"local_ts": local, "remote_ts": remote})


def overlap(own: Tunnel, other: Tunnel) -> bool:
    """The same by its definition: every pair of networks."""
    (ours,), (theirs,) = own.link.children, other.link.children
    sides = ((ours.local_ts, theirs.local_ts), (ours.remote_ts, theirs.remote_ts))
    return all(any(a.overlaps(b) for a in networks_of(one) for b in networks_of(two)) for one, two in sides)


@given(st.lists(st.tuples(SELECTORS, SELECTORS), max_size=6))
def test_exactly_the_pairs_that_claim_the_same_traffic_are_found(selectors: list[tuple[list[str], list[str]]]) -> None:
    tunnels = [tunnel(f"t{number}", local, remote) for number, (local, remote) in enumerate(selectors)]
    found = [frozenset((first.name, second.name)) for first, second in claimed_twice(tunnels)]
    expected = {frozenset((one.name, two.name)) for one, two in combinations(tunnels, 2) if overlap(one, two)}
    assert set(found) == expected
    assert len(found) == len(expected)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[Any], dict[str, Any]]:
    policies = []
    for number in range(draw(st.integers(1, 3))):
        hubs, spokes = draw(READERS), draw(READERS)
        fields: dict[str, Any] = {"hubs": [hubs], "spokes": [spokes], "transit": draw(st.booleans())}
        policies.append(published(f"p{number}", priority=draw(st.sampled_from([1, 2])), **fields))
    records = []
    for number, peer in enumerate(PEERS):
        changes: dict[str, Any] = {"endpoints": ()} if draw(st.booleans()) else {}
        changes |= draw(st.sampled_from([{}, {}, {"subnets": ("10.0.0.0/23",)}, {"public_key": None}]))
        records.append(record(peer, number, *draw(st.sets(st.sampled_from(["x", "y"]))), **changes))
    return policies, directory(*records)


@given(worlds())
def test_what_passes_the_check_never_claims_the_same_traffic_twice(world: tuple[list[Any], dict[str, Any]]) -> None:
    policies, fleet = world
    if errors(check(policies, fleet, ("x", "y"))):
        return
    for me in PEERS:
        for one, two in combinations(expand(policies, fleet, me), 2):
            assert not overlap(one, two)


@given(worlds(), worlds())
def test_a_plan_is_what_expand_says_before_and_after(
    before: tuple[list[Any], dict[str, Any]], after: tuple[list[Any], dict[str, Any]]
) -> None:
    fleet = before[1]
    old, new = (
        {(me, it.name): it for me in PEERS for it in expand(world[0], fleet, me)} for world in (before, after)
    )  # fmt: skip
    for effect in plan(before[0], after[0], fleet):
        for peer in effect.peers:
            was, will = old.get((peer, effect.name)), new.get((peer, effect.name))
            assert (was is None, will is None) == (effect.effect is Effect.NEW, effect.effect is Effect.REMOVED)
            if effect.effect is Effect.UNTOUCHED and was is not None and will is not None:
                assert (was.link.children[0].local_ts, was.link.ike) == (will.link.children[0].local_ts, will.link.ike)
    names = {effect.name for effect in plan(before[0], after[0], fleet)}
    assert names == {name for _, name in (*old, *new)}


@given(st.lists(NETWORKS, max_size=6), NETWORKS)
def test_a_set_of_ranges_touches_exactly_what_one_of_its_networks_overlaps(networks: list[str], other: str) -> None:
    ranges = Ranges(map(ip_network, networks))
    assert ranges.touch(ip_network(other)) is any(ip_network(it).overlaps(ip_network(other)) for it in networks)
