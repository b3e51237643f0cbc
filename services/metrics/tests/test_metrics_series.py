"""Blocks of series that are kept between scrapes give the text of a table that was made for this scrape."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren_contracts.explanation import Cause
from warren_contracts.status import Evidence, EvidenceKind, TrafficStats
from warren_metrics.adapters import families, series
from warren_metrics.adapters.gzip_parts import Part, compress
from warren_metrics.adapters.series import Family, SeriesTable, Values
from warren_metrics.domain.peers import TunnelView
from warren_testkit.examples import examples
from warren_testkit.metrics import START, status

FAMILIES = (
    Family("gauge", "a", "A."), Family("counter", "b_total", "B."), Family("gauge", "c", "C.", 'x="%s",y="%s"')
)  # fmt: skip
# Few, so that a row that takes the place of another one often has its values.
ROWS = st.sampled_from(((1, 7, ("p", "q")), (1, 1.5, None), (None, 0, ("p", "r"))))
# The rows of a group after a step, by their names.
STEPS = st.lists(st.tuples(st.sampled_from("ABCD"), st.dictionaries(st.sampled_from("12"), ROWS)), max_size=20)


def labels(group: str, row: str) -> str:
    return f'{{g="{group}",r="{row}"}} '


def lines_of(table: SeriesTable) -> list[str]:
    """The lines, sorted: the order of rows depends on what was there before."""
    return sorted(b"".join(part.plain() for part in table.parts(openmetrics=False)).decode().splitlines())


@pytest.fixture(autouse=True, scope="module")
def small_blocks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(series, "BLOCK_SIZE", 3)
        yield


@given(steps=STEPS, scrapes=st.sets(st.integers(0, 19)))
@examples(400)
def test_kept_blocks_have_the_lines_of_a_new_table(
    steps: list[tuple[str, dict[str, Values]]], scrapes: set[int]
) -> None:
    table = SeriesTable(FAMILIES, labels)
    held: dict[str, dict[str, Values]] = {}
    for number, (group, rows) in enumerate(steps):
        table.replace(group, tuple(rows), list(rows.values()))
        held[group] = rows
        if number in scrapes:
            lines_of(table)
    fresh = SeriesTable(FAMILIES, labels)
    for group, rows in held.items():
        fresh.replace(group, tuple(rows), list(rows.values()))
    assert lines_of(table) == lines_of(fresh)


def test_only_blocks_with_a_changed_value_are_rendered(monkeypatch: pytest.MonkeyPatch) -> None:
    rendered: list[bytes] = []
    table = SeriesTable(FAMILIES, labels)

    def compressed(text: bytes) -> Part:
        rendered.append(text)
        return compress(text)

    monkeypatch.setattr(series, "compress", compressed)
    for group in "ABCDEF":
        table.replace(group, ("1",), [(1, 2, ("p", "q"))])
    lines_of(table)
    rendered.clear()
    table.replace("A", ("1",), [(1, 3, ("p", "q"))])
    table.replace("F", ("1",), [(1, 2, ("p", "q"))])  # the same values again
    lines_of(table)
    assert rendered == [b'b_total{g="A",r="1"} 3\nb_total{g="B",r="1"} 2\nb_total{g="C",r="1"} 2\n']


@pytest.mark.parametrize("peer", [None, "hub"])
def test_a_plainly_up_end_has_the_values_of_any_end(peer: str | None) -> None:
    evidence = Evidence(kind=EvidenceKind.TRAFFIC, at=START)
    traffic = TrafficStats(bytes_in=1, bytes_out=2, packets_in=3, packets_out=4)
    reported = status(
        "gw1+hub", peer=peer, policy=peer, since=START, evidence=evidence, traffic=traffic, rekeys=5, restarts=6
    )
    view = TunnelView.of(reported, START)
    values = families.tunnel_values(view, stale=False, standby=False)
    assert families.values_of_plainly_up(view) == values
    assert len(values) == len(families.TUNNEL)
    at = START.timestamp()
    assert values[-9:] == (at, at, None, 5, 6, 1, 2, 3, 4)


def test_what_is_wrong_are_further_labels() -> None:
    view = TunnelView.of(status("gw1+hub", "down", peer="hub", reason="peer-unreachable"), START)
    table = SeriesTable(families.TUNNEL, families.tunnel_labels)
    table.replace(
        "gw1+hub", ("gw1",), [families.tunnel_values(view, stale=False, standby=False, cause=Cause.NO_ANSWER)]
    )
    lines = lines_of(table)
    start = '{tunnel="gw1+hub",peer="gw1",'
    assert f'warren_tunnel_cause{start}cause="no-answer"}} 1' in lines
    assert f'warren_tunnel_reason{start}reason="peer-unreachable"}} 1' in lines
    assert f'warren_tunnel_info{start}remote_peer="hub",policy=""}} 1' in lines
