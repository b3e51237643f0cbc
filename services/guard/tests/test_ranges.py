"""Ranges: whatever is put in, the products cover the same pairs, and none of them twice."""

from hypothesis import given
from hypothesis import strategies as st

from warren_guard.domain.ranges import Range, difference, disjoint, union

SMALL = st.tuples(st.integers(0, 30), st.integers(0, 30)).map(lambda it: (min(it), max(it)))
PRODUCTS = st.lists(st.tuples(SMALL, st.lists(SMALL, min_size=1, max_size=3)), max_size=6)


def members(ranges: object) -> set[int]:
    return {number for first, last in ranges for number in range(first, last + 1)}  # type: ignore[attr-defined]


@given(st.lists(SMALL), st.lists(SMALL))
def test_union_and_difference_are_those_of_sets(one: list[Range], other: list[Range]) -> None:
    assert members(union(one)) == members(one)
    assert all(after[0] > before[1] + 1 for before, after in zip(union(one), union(one)[1:], strict=False))
    assert members(difference(one, other)) == members(one) - members(other)


@given(PRODUCTS)
def test_products_are_disjoint_and_cover_the_same_pairs(products: list[tuple[Range, list[Range]]]) -> None:
    wanted = {(a, b) for local, remotes in products for a in members([local]) for b in members(remotes)}
    found: list[tuple[int, int]] = []
    for local, remotes in disjoint(products):
        found += [(a, b) for a in members([local]) for b in members(remotes)]
    assert len(found) == len(set(found))
    assert set(found) == wanted


def test_tunnels_of_a_hub_share_one_local_range() -> None:
    assert disjoint([((1, 9), [(20, 29)]), ((1, 9), [(40, 49)])]) == (((1, 9), ((20, 29), (40, 49))),)
