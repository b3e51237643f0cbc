"""Names in order, as a sorted set has them, whatever was added and removed between two readings."""

from hypothesis import given
from hypothesis import strategies as st

from warren_metrics.domain.sorted_names import SortedNames

NAMES = st.sampled_from([f"t{n}" for n in range(12)])


@given(st.lists(st.one_of(NAMES, st.tuples(NAMES))))
def test_the_names_are_those_of_a_sorted_set(steps: list[str | tuple[str]]) -> None:
    """A name: it changes between being in the set and not. A name in a tuple: what follows it is read."""
    names, expected = SortedNames(), set[str]()
    for step in steps:
        if isinstance(step, tuple):
            assert list(names.after(step[0])) == sorted(it for it in expected if it > step[0])
        elif step in expected:
            names.remove(step)
            expected.remove(step)
        else:
            names.add(step)
            expected.add(step)
    assert list(names.after("")) == sorted(expected)
