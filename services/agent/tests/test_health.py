"""What contradicts that a tunnel works: narrowed selectors, duplicates, traffic in one direction only."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren_agent.domain.health import (
    REKEYING_LIMIT,
    Contradiction,
    advance,
    assessed,
    begin_flow,
    find_duplicates,
    find_narrowed,
    find_one_way,
    uncovered,
)
from warren_contracts.selectors import TrafficSelector, parse_selector
from warren_contracts.status import ChildSaStatus, IpsecStatus, ReasonCode, TrafficStats, TunnelState, TunnelStatus
from warren_intent.expand import expand
from warren_testkit.intent import directory, published, record

STAR = published("star", hubs=["tag=hub"], spokes=["tag=branch"])
(TUNNEL,) = expand([STAR], directory(record("hub", 1, "hub"), record("spoke", 2, "branch")), "spoke")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def selectors(*texts: str) -> tuple[TrafficSelector, ...]:
    return tuple(map(parse_selector, texts))


def status(*sas: ChildSaStatus, state: TunnelState = TunnelState.UP) -> TunnelStatus:
    return TunnelStatus(name=TUNNEL.name, state=state, link=IpsecStatus(children=sas))


def sa(local: tuple[TrafficSelector, ...], remote: tuple[TrafficSelector, ...], age: int = 0) -> ChildSaStatus:
    return ChildSaStatus(
        child=TUNNEL.link.children[0].name, spi_in="00000001", spi_out="00000002", cipher="aes256gcm16", local_ts=local,
        remote_ts=remote, established_at=NOW - timedelta(seconds=age),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("desired", "actual", "missing"),
    [
        (["10.0.0.0/24"], ["10.0.0.0/24"], []),
        (["10.0.0.0/24", "10.1.0.0/24"], ["10.1.0.0/24"], ["10.0.0.0/24"]),
        (["10.0.0.0/24"], ["10.0.0.0/25"], ["10.0.0.0/24"]),
        (["10.0.0.0/24"], ["10.0.0.0/25", "10.0.0.128/25"], []),
        (["10.0.0.0/24"], ["0.0.0.0/0"], []),
        (["0.0.0.0/0", "::/0"], ["0.0.0.0/0"], ["::/0"]),
        (["10.0.0.5-10.0.0.20"], ["10.0.0.5-10.0.0.20"], []),
        (["10.0.0.5-10.0.0.20"], ["10.0.0.5-10.0.0.19"], ["10.0.0.5-10.0.0.20"]),
        (["10.0.0.0/24"], ["10.0.0.0/24[tcp]"], ["10.0.0.0/24"]),
        (["10.0.0.0/24[tcp/443]"], ["10.0.0.0/24[tcp]"], []),
        (["10.0.0.0/24[tcp/443]"], ["10.0.0.0/24[tcp/1-1024]"], []),
        (["10.0.0.0/24[tcp/443]"], ["10.0.0.0/24[udp/443]"], ["10.0.0.0/24[tcp/443]"]),
        (["dynamic"], ["192.0.2.7/32"], []),
        (["10.0.0.0/24"], [], ["10.0.0.0/24"]),
    ],
)
def test_uncovered_selectors_are_those_that_the_peer_did_not_agree_to(
    desired: list[str], actual: list[str], missing: list[str]
) -> None:
    assert uncovered(selectors(*desired), selectors(*actual)) == list(selectors(*missing))


def test_narrowed_names_both_sides_and_a_tunnel_with_all_selectors_has_no_finding() -> None:
    (child,) = TUNNEL.link.children
    assert list(find_narrowed(TUNNEL, status(sa(child.local_ts, child.remote_ts)))) == []
    (finding,) = find_narrowed(TUNNEL, status(sa(selectors("10.99.0.0/24"), selectors("10.98.0.0/24"))))
    assert finding.code is ReasonCode.NARROWED
    assert f"local {child.local_ts[0]}; remote {child.remote_ts[0]}" in finding.detail
    assert list(find_narrowed(TUNNEL, status())) == []  # not installed: another state says so


def test_selectors_may_be_spread_over_several_child_sas() -> None:
    (child,) = TUNNEL.link.children
    halves = [TrafficSelector(it) for it in child.remote_ts[0].networks[0].subnets()]
    both = status(*(sa(child.local_ts, (half,)) for half in halves))
    assert list(find_narrowed(TUNNEL, both)) == []


def test_duplicates_are_older_than_a_rekeying() -> None:
    (child,) = TUNNEL.link.children
    old, young = (sa(child.local_ts, child.remote_ts, age=REKEYING_LIMIT + more) for more in (1, -1))
    assert list(find_duplicates(status(old, young), NOW)) == []
    (finding,) = find_duplicates(status(old, old, young), NOW)
    assert (finding.code, "2 of" in finding.detail) == (ReasonCode.DUPLICATE_SAS, True)


def traffic(packets_in: int, packets_out: int) -> TrafficStats:
    return TrafficStats(packets_in=packets_in, packets_out=packets_out)


def test_packets_in_one_direction_only_are_found_after_the_limit_and_forgotten_without_packets() -> None:
    flow = begin_flow(traffic(0, 0), 0.0)
    for clock in range(10, 80, 10):
        flow = advance(flow, traffic(0, clock), float(clock))
        assert bool(list(find_one_way(flow, clock, 60.0))) == (clock >= 70)
    (finding,) = find_one_way(flow, 75.0, 60.0)
    assert "packets leave and none arrive for 60 s" in finding.detail
    assert not list(find_one_way(flow, 75.0, 0.0))  # switched off
    assert not list(find_one_way(flow, 140.0, 60.0))  # nothing was sent for long
    answered = advance(flow, traffic(1, 90), 80.0)
    assert not list(find_one_way(answered, 80.0, 60.0))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=40))
def test_traffic_in_both_directions_is_never_one_way(steps: list[tuple[int, int]]) -> None:
    flow, came, went, clock = begin_flow(traffic(0, 0), 0.0), 0, 0, 0.0
    for more_in, more_out in steps:
        came, went, clock = came + more_in, went + more_out + (1 if more_in else 0), clock + 10
        flow = advance(flow, traffic(came, went), clock)
        if more_in:
            assert not list(find_one_way(flow, clock, 30.0))


def test_first_finding_is_the_reason_and_names_the_others() -> None:
    findings = [Contradiction(ReasonCode.DUPLICATE_SAS, "two"), Contradiction(ReasonCode.NARROWED, "x" * 600)]
    found = assessed(status(), findings)
    assert (found.state, found.reason) == (TunnelState.DEGRADED, ReasonCode.NARROWED)
    assert found.detail.endswith("; also duplicate-sas")
    assert len(found.detail) == 512
    down = status(state=TunnelState.DOWN)
    assert assessed(down, findings) is down
