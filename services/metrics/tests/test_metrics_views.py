"""Tunnels as operators see them: both ends, one state, what they contradict each other in, pages."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from warren_contracts.commands import ListTunnels, TunnelList
from warren_contracts.status import FleetTunnel, HostFacts, IpsecStatus, ReasonCode, TunnelState
from warren_contracts.telemetry import TunnelChange
from warren_metrics.domain.views import fleet_tunnel, list_tunnels, read_page
from warren_testkit.examples import examples
from warren_testkit.metrics import START, Talk, status


def test_a_tunnel_is_up_only_when_every_online_end_reports_it() -> None:
    talk = Talk()
    talk.report("gw1", status("gw1+hub", "up", peer="hub"))
    tunnel = fleet_tunnel(talk.fleet, "gw1+hub", talk.now)
    assert tunnel is not None
    assert (tunnel.state, tunnel.peers, tunnel.stale) == (TunnelState.UP, ("gw1", "hub"), ())
    talk.report("hub", status("gw1+hub", "connecting", peer="gw1"))
    tunnel = fleet_tunnel(talk.fleet, "gw1+hub", talk.now)
    assert tunnel is not None
    assert tunnel.state is TunnelState.CONNECTING
    assert set(tunnel.ends) == {"gw1", "hub"}


def test_ends_that_contradict_each_other_are_named() -> None:
    talk = Talk()
    talk.report("hub", status("gw1+hub", "up", peer="gw1"))
    assert shown(talk).disagreement == ""  # the other end has never reported anything
    talk.report("gw1")
    assert shown(talk).disagreement == "hub: up, gw1: not reported"
    talk.change("gw1", status("gw1+hub", "down", peer="hub"))
    assert (shown(talk).state, shown(talk).disagreement) == (TunnelState.DOWN, "gw1: down, hub: up")
    talk.change("gw1", status("gw1+hub", "degraded", peer="hub", reason=ReasonCode.NARROWED))
    assert (shown(talk).state, shown(talk).disagreement) == (TunnelState.DEGRADED, "")


def test_a_standby_is_no_down_tunnel_although_its_other_end_is_only_not_called() -> None:
    talk = Talk()
    talk.report("gw1", status("gw1+hub", "standby", peer="hub", initiator=True))
    talk.report("hub", status("gw1+hub", "down", peer="gw1"))
    assert (shown(talk).state, shown(talk).disagreement) == (TunnelState.STANDBY, "")
    assert list_tunnels(talk.fleet, ListTunnels(state=TunnelState.STANDBY), talk.now).tunnels == (shown(talk),)
    talk.report("hub", status("gw1+hub", "error", peer="gw1", reason=ReasonCode.DAEMON_UNREACHABLE))
    assert shown(talk).state is TunnelState.ERROR  # it could not take over


def shown(talk: Talk) -> FleetTunnel:
    found = fleet_tunnel(talk.fleet, "gw1+hub", talk.now)
    assert found is not None
    return found


def test_a_deleted_tunnel_vanishes_though_its_other_end_is_offline() -> None:
    talk = Talk()
    talk.report("gw1", status("gw1+hub", "up", peer="hub"), status("gw1+other", "up", peer="other"))
    talk.sequence += 40  # seconds: gw1 is offline now
    talk.report("hub", status("gw1+hub", "up", peer="gw1"))
    body = TunnelChange(at=START, previous=TunnelState.UP, status=status("gw1+hub", "down"), removed=True)
    changes = talk.say("hub", "tunnel", body)
    assert changes.tunnels == {("hub", "gw1+hub"), ("gw1", "gw1+hub")}
    assert set(talk.fleet.tunnels) == {"gw1+other"}
    talk.report("gw1", status("gw1+hub", "up", peer="hub"))  # it is back, and has it still
    assert "gw1+hub" in talk.fleet.tunnels


def test_a_removed_tunnel_stays_listed_for_its_other_end_that_is_online() -> None:
    talk = Talk()
    talk.report("gw1", status("gw1+hub", "up", peer="hub"))
    talk.report("hub", status("gw1+hub", "up", peer="gw1"))
    body = TunnelChange(at=START, previous=TunnelState.UP, status=status("gw1+hub", "down"), removed=True)
    talk.say("hub", "tunnel", body)
    assert set(talk.fleet.tunnels["gw1+hub"]) == {"gw1"}
    assert shown(talk).disagreement == "gw1: up, hub: not reported"


def test_an_offline_end_does_not_count_and_without_any_end_the_state_is_unknown() -> None:
    talk = Talk()
    talk.report("gw1", status("gw1+hub", "down"))
    silent = talk.now + timedelta(seconds=40)
    talk.sequence += 20
    talk.report("hub", status("gw1+hub", "up"))
    tunnel = fleet_tunnel(talk.fleet, "gw1+hub", silent)
    assert tunnel is not None
    assert (tunnel.state, tunnel.stale) == (TunnelState.UP, ("gw1",))
    assert tunnel.ends["gw1"].state is TunnelState.DOWN  # the last known one
    tunnel = fleet_tunnel(talk.fleet, "gw1+hub", silent + timedelta(seconds=60))
    assert tunnel is not None
    assert (tunnel.state, tunnel.stale) == (TunnelState.UNKNOWN, ("gw1", "hub"))


def test_listings_are_paged_by_name_after_their_filters() -> None:
    talk = Talk()
    talk.report("gw1", *(status(f"t{n}", "up" if n % 2 else "down") for n in range(6)))
    talk.report("gw2", status("other"))
    first = list_tunnels(talk.fleet, ListTunnels(limit=2, state=TunnelState.UP), talk.now)
    assert ([tunnel.name for tunnel in first.tunnels], first.next_after) == (["other", "t1"], "t1")
    last = list_tunnels(talk.fleet, ListTunnels(limit=2, state=TunnelState.UP, after="t1"), talk.now)
    assert ([tunnel.name for tunnel in last.tunnels], last.next_after) == (["t3", "t5"], None)
    mine = list_tunnels(talk.fleet, ListTunnels(peer="gw2"), talk.now)
    assert [tunnel.name for tunnel in mine.tunnels] == ["other"]
    assert list_tunnels(talk.fleet, ListTunnels(peer="nobody"), talk.now).tunnels == ()


def test_a_listing_of_a_peer_has_each_tunnel_of_which_it_is_an_end() -> None:
    talk = Talk()
    talk.report(
        "hub", *(status(f"{peer}+hub", "up", peer=peer) for peer in ("a", "b")), status("link", "down", peer="a")
    )
    talk.report("a", status("a+hub", "up", peer="hub"), status("own", "up"))

    def names(peer: str, **more: Any) -> list[str]:
        return [tunnel.name for tunnel in list_tunnels(talk.fleet, ListTunnels(peer=peer, **more), talk.now).tunnels]

    assert names("a") == ["a+hub", "link", "own"], "`link` is reported by its other end only"
    assert names("b") == ["b+hub"], "an agent that never reported"
    assert names("hub") == ["a+hub", "b+hub", "link"]
    assert names("a", state=TunnelState.DOWN) == ["link"]
    assert names("a", after="a+hub", limit=1) == ["link"]
    assert names("a", ends=("hub",)) == ["a+hub", "link"]
    assert names("hub", ends=("b",)) == ["b+hub"]
    assert names("a", ends=("b",)) == []


async def of_ends(talk: Talk, ends: Sequence[str], most: int = 1_000, limit: int = 500, after: str = "") -> TunnelList:
    async def pause() -> None: ...

    query = ListTunnels(ends=tuple(ends), limit=limit, after=after, lean=True)
    return await read_page(talk.fleet, query, lambda: talk.now, most, pause)


async def test_a_listing_is_limited_to_the_tunnels_of_some_ends() -> None:
    talk = Talk()
    talk.report("hub", *(status(f"{peer}+hub", peer=peer) for peer in ("a", "b", "c")), status("link", peer="b"))
    talk.report("a", status("a+hub", peer="hub"))

    async def names(*ends: str) -> list[str]:
        return [tunnel.name for tunnel in (await of_ends(talk, ends)).tunnels]

    assert await names("a") == ["a+hub"]
    assert await names("b") == ["b+hub", "link"], "also those that only the other end reports"
    assert await names("a", "c") == ["a+hub", "c+hub"]
    assert await names() == []
    assert await names("nobody") == []


@given(st.sets(st.integers(0, 60), max_size=40), st.sets(st.integers(0, 60)), st.integers(1, 5), st.integers(1, 7))
@examples(200)
async def test_pages_of_some_ends_are_full_and_name_no_other_tunnel(
    peers: set[int], ends: set[int], limit: int, most: int
) -> None:
    talk = Talk()
    talk.report("hub", *(status(f"p{number}", peer=f"p{number}") for number in sorted(peers)))
    wanted = sorted(f"p{number}" for number in peers & ends)
    found: list[str] = []
    after: str | None = ""
    while after is not None:
        page = await of_ends(talk, [f"p{number}" for number in ends], most, limit, after)
        found += [tunnel.name for tunnel in page.tunnels]
        if (after := page.next_after) is not None:
            assert (len(page.tunnels), after) == (limit, found[-1])
    assert found == wanted


def test_an_end_whose_agent_misses_the_digests_is_named() -> None:
    talk = Talk()
    for peer, other, seconds in (("gw1", "hub", 301.0), ("hub", "gw1", 60.0)):
        talk.report(peer, status("gw1+hub", "up", peer=other))
        talk.presence(peer, host=HostFacts(intent_unconfirmed_s=seconds))
    assert (shown(talk).state, shown(talk).unconfirmed) == (TunnelState.UP, ("gw1",))
    talk.presence("gw1", host=HostFacts(intent_unconfirmed_s=1.0))
    assert shown(talk).unconfirmed == ()


def test_a_page_ends_where_it_has_looked_at_enough() -> None:
    talk = Talk()
    talk.report("gw1", *(status(f"t{n}", "down" if n == 3 else "up") for n in range(5)))
    pages, after = [], ""
    while True:
        page = list_tunnels(talk.fleet, ListTunnels(after=after, state=TunnelState.DOWN), talk.now, most=2)
        pages.append([tunnel.name for tunnel in page.tunnels])
        if page.next_after is None:
            break
        after = page.next_after
    assert pages == [[], ["t3"], []]


@given(
    st.lists(st.tuples(st.integers(0, 4), st.sets(st.integers(0, 4), max_size=4), st.booleans()), max_size=12),
    st.sets(st.integers(0, 5)),
)
@examples(200)
async def test_the_tunnels_of_some_ends_are_those_that_looking_at_each_one_finds(
    reports: list[tuple[int, set[int], bool]], ends: set[int]
) -> None:
    """Gateways report, are silent, name each other or a foreign gateway, and are removed."""
    talk = Talk()
    for peer, others, named in reports:
        if not others and named:
            talk.fleet.remove(f"p{peer}")
            continue
        statuses = (
            status("+".join(sorted((f"p{peer}", f"p{it}"))), peer=f"p{it}" if named else None) for it in others - {peer}
        )
        talk.report(f"p{peer}", *statuses, status(f"own-{peer}", peer=f"p{min(others, default=5)}" if named else None))
    wanted = {f"p{number}" for number in ends}
    every = list_tunnels(talk.fleet, ListTunnels(), talk.now).tunnels
    found = await of_ends(talk, sorted(wanted))
    assert [it.name for it in found.tunnels] == [it.name for it in every if not wanted.isdisjoint(it.peers)]
    unreported = {(peer, it.name) for it in every for peer in it.peers if peer not in it.ends}
    assert {(f"p{n}", name) for n in range(6) for name in talk.fleet.unreported.of(f"p{n}")} == unreported


async def test_a_page_of_a_filter_that_matches_few_is_not_empty_until_the_last() -> None:
    talk, pauses = Talk(), []
    talk.report("gw1", *(status(f"t{n}", "down" if n == 3 else "up") for n in range(9)))

    async def pause() -> None:
        pauses.append(1)

    query = ListTunnels(state=TunnelState.DOWN)
    page = await read_page(talk.fleet, query, lambda: talk.now, 2, pause)
    assert ([tunnel.name for tunnel in page.tunnels], len(pauses)) == (["t3"], 1)
    rest = query.model_copy(update={"after": page.next_after})
    last = await read_page(talk.fleet, rest, lambda: talk.now, 2, pause)
    assert (last.tunnels, last.next_after) == ((), None)


def test_a_lean_page_has_everything_but_sas_counters_and_evidence() -> None:
    talk = Talk()
    sa = {"spi_in": "00000001", "spi_out": "00000002", "cipher": "aes256gcm16"}
    talk.report("gw1", status("gw1+hub", "up", peer="hub", policy="p", since=START, rekeys=3, link={"children": [sa]}))
    talk.report("hub", status("gw1+hub", "error", reason=ReasonCode.TS_MISMATCH, detail="text", initiator=True))
    (full,) = list_tunnels(talk.fleet, ListTunnels(), talk.now).tunnels
    page = list_tunnels(talk.fleet, ListTunnels(lean=True), talk.now)
    (lean,) = TunnelList.model_validate_json(page.model_dump_json(exclude_defaults=True)).tunnels
    without = {"link": IpsecStatus(), "rekeys": 0}
    assert lean == full.model_copy(
        update={"ends": {peer: end.model_copy(update=without) for peer, end in full.ends.items()}}
    )
