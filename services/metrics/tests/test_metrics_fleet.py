from datetime import timedelta
from typing import Any

import pytest

from warren_contracts.events import PolicyApplied, TunnelChanged
from warren_contracts.status import ReasonCode, TunnelState, TunnelStatus
from warren_contracts.telemetry import AgentState, Applied, Presence, Report, TunnelChange
from warren_metrics.domain import fleet as fleet_module
from warren_metrics.domain.changes import Changes
from warren_metrics.domain.fleet import FORGET_AFTER, FleetTelemetry
from warren_metrics.domain.peers import TunnelView
from warren_testkit.metrics import START, Talk, observed, place, status

SA: dict[str, Any] = {"spi_out": "00000002", "cipher": "aes256gcm16"}


def changed(changes: Changes) -> list[tuple[str, str, str | None, bool]]:
    return [
        (event.peer, event.state, event.previous, event.removed)
        for event in changes.events
        if isinstance(event, TunnelChanged)
    ]


def test_a_change_of_state_is_reported_once_with_the_state_before() -> None:
    talk = Talk()
    assert changed(talk.change("gw1", status("t", "connecting"))) == [("gw1", "connecting", None, False)]
    assert changed(talk.change("gw1", status("t", "up"))) == [("gw1", "up", "connecting", False)]
    assert changed(talk.report("gw1", status("t", "up"))) == []


def test_a_report_replaces_a_lost_change() -> None:
    talk = Talk()
    talk.change("gw1", status("t", "up"))
    assert changed(talk.report("gw1", status("t", "down"))) == [("gw1", "down", "up", False)]


def test_new_sas_are_reported_as_a_change_at_once_but_not_by_reports() -> None:
    talk = Talk()
    first, second = (status("t", "up", link={"children": [{**SA, "spi_in": spi}]}) for spi in ("0000000a", "0000000b"))
    talk.change("gw1", first)
    assert changed(talk.report("gw1", second)) == []
    assert changed(talk.change("gw1", first)) == [("gw1", "up", "up", False)]


def test_a_removed_tunnel_vanishes_with_its_last_end() -> None:
    talk = Talk()
    talk.report("gw1", status("gw1+hub"))
    talk.report("hub", status("gw1+hub"))
    removal = talk.change("gw1", status("gw1+hub", "down"), removed=True)
    assert changed(removal) == [("gw1", "down", "up", True)]
    assert set(talk.fleet.tunnels["gw1+hub"]) == {"hub"}
    talk.change("hub", status("gw1+hub", "down"), removed=True)
    assert talk.fleet.tunnels == {}
    assert changed(talk.change("hub", status("gw1+hub", "down"), removed=True)) == []


def test_a_complete_report_removes_missing_tunnels() -> None:
    talk = Talk()
    talk.report("gw1", status("a"), status("b"))
    assert changed(talk.report("gw1", status("a"))) == [("gw1", "down", "up", True)]
    assert set(talk.fleet.tunnels) == {"a"}


def test_a_report_in_parts_removes_only_when_all_parts_have_arrived() -> None:
    talk = Talk()
    talk.report("gw1", status("a"), status("b"), status("c"))
    at = talk.now
    assert changed(talk.report("gw1", status("a"), at=at, part=0, parts=2)) == []
    assert set(talk.fleet.tunnels) == {"a", "b", "c"}
    assert changed(talk.report("gw1", status("c"), at=at, part=1, parts=2)) == [("gw1", "down", "up", True)]
    assert set(talk.fleet.tunnels) == {"a", "c"}


def test_parts_of_two_reports_are_not_mixed() -> None:
    talk = Talk()
    talk.report("gw1", status("a"), status("b"))
    talk.report("gw1", status("a"), at=START, part=0, parts=2)
    talk.report("gw1", at=START + timedelta(seconds=10), part=1, parts=2)
    assert set(talk.fleet.tunnels) == {"a", "b"}


def test_a_tunnel_made_while_a_report_in_parts_is_in_progress_stays() -> None:
    talk = Talk()
    at = talk.now
    talk.report("gw1", status("a"), at=at, part=0, parts=2)
    talk.change("gw1", status("new"))
    talk.report("gw1", at=at, part=1, parts=2)
    assert set(talk.fleet.tunnels) == {"a", "new"}


def test_a_redelivery_changes_nothing() -> None:
    talk = Talk()
    talk.report("gw1", status("a"))
    talk.change("gw1", status("a", "down"), removed=True)
    again = talk.fleet.observe(observed("gw1", "report", Report(at=START, tunnels=(status("a"),)), place(1)))
    assert again == Changes()
    assert talk.fleet.tunnels == {}


def test_what_a_peer_applied_is_reported_also_when_its_message_was_lost_at_first() -> None:
    """The server delivers a lost message again after the ones behind it, and no report contains its content."""
    talk = Talk()
    first, second = (
        Applied(at=talk.now, epoch=1, revision=n, ok=True, duration_ms=5.0, delivered_at=talk.now) for n in (1, 2)
    )
    talk.sequence = 1  # where the first one stands, lost on the way
    talk.say("gw1", "applied", second)
    talk.presence("gw1")
    late = talk.fleet.observe(observed("gw1", "applied", first, place(1)))
    assert [(it.peer, it.revision) for it in late.events if isinstance(it, PolicyApplied)] == [("gw1", 1)]
    assert talk.fleet.peers["gw1"].applied_revision == 2


def test_a_peer_cannot_report_a_tunnel_between_others() -> None:
    talk = Talk()
    assert talk.report("mallory", status("gw1+hub")).rejected == ["foreign-tunnel"]
    assert talk.fleet.tunnels == {}


def test_a_peer_can_report_so_many_tunnels_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_module, "MAX_TUNNELS_OF_PEER", 2)
    talk = Talk()
    assert talk.report("gw1", status("a"), status("b"), status("c")).rejected == ["too-many-tunnels"]
    assert set(talk.fleet.tunnels) == {"a", "b"}


def test_the_events_of_a_peer_that_floods_are_suppressed_and_its_state_is_stored() -> None:
    talk = Talk()
    published = suppressed = 0
    for number in range(2_500):
        body = TunnelChange(at=START, previous=None, status=status("t", "up" if number % 2 else "down"))
        changes = talk.fleet.observe(observed("gw1", "tunnel", body, place(number + 1, seconds=0)))
        published, suppressed = published + len(changes.events), suppressed + changes.suppressed
    assert (published, suppressed) == (2_000, 500)
    view = talk.fleet.tunnel(("gw1", "t"))
    assert view is not None
    assert view.status.state is TunnelState.UP
    assert talk.fleet.observe(
        observed("gw2", "tunnel", body, place(9_999))
    ).events  # the messages of others are processed


def test_an_applied_revision_is_reported_and_stored() -> None:
    talk = Talk()
    body = Applied(at=START, epoch=1, revision=7, ok=False, duration_ms=12.5, delivered_at=START, error="no charon")
    changes = talk.say("gw1", "applied", body)
    assert changes.events == [
        PolicyApplied(
            peer="gw1", epoch=1, revision=7, ok=False, duration_ms=12.5, error="no charon", at=place(1).at,
            delivered_at=START, applied_at=START,
        )
    ]  # fmt: skip
    assert (changes.applied_ms, changes.failed) == ([12.5], 1)
    assert talk.fleet.peers["gw1"].received_revision == 7


def test_a_revision_counts_as_applied_only_when_it_was_complete() -> None:
    talk = Talk()
    for revision, ok in ((3, True), (4, False)):
        body = Applied(at=START, epoch=1, revision=revision, ok=ok, duration_ms=1, delivered_at=START)
        talk.say("gw1", "applied", body)
    view = talk.fleet.peers["gw1"]
    assert (view.applied_revision, view.received_revision) == (3, 4)
    talk.say("gw1", "applied", body.model_copy(update={"ok": True}))
    assert talk.fleet.peers["gw1"].applied_revision == 4


def test_a_tunnel_that_fails_without_an_attempt_is_counted_once_for_each_time() -> None:
    talk = Talk()
    unreachable = status("a", "error", reason=ReasonCode.DAEMON_UNREACHABLE)
    assert talk.report("gw1", unreachable).broken == [ReasonCode.DAEMON_UNREACHABLE]
    assert talk.report("gw1", unreachable).broken == []
    assert talk.change("gw1", status("a", "up")).broken == []
    assert talk.change("gw1", unreachable).broken == [ReasonCode.DAEMON_UNREACHABLE]
    assert talk.change("gw1", status("a", "error", reason=ReasonCode.CONFIG_REFUSED)).broken == ["config-refused"]
    assert (
        talk.change("gw1", status("a", "error", reason=ReasonCode.TS_MISMATCH)).broken == []
    )  # reported as an AttemptFailure


def test_a_peer_is_online_until_its_messages_stop_or_it_announces_its_stop() -> None:
    talk = Talk()
    talk.presence("gw1")
    view = talk.fleet.peers["gw1"]
    assert view.online(talk.now + timedelta(seconds=29))
    assert not view.online(talk.now + timedelta(seconds=30))
    talk.presence("gw1", "stopping")
    assert not talk.fleet.peers["gw1"].online(talk.now)
    talk.report("gw1")
    assert talk.fleet.peers["gw1"].online(talk.now)  # started again


def test_a_peer_without_messages_for_long_is_dropped() -> None:
    talk = Talk()
    talk.report("gw1", status("a"))
    assert talk.fleet.forget(talk.now) == Changes()
    changes = talk.fleet.forget(talk.now + FORGET_AFTER)
    assert (changes.peers, changes.tunnels) == ({"gw1"}, {("gw1", "a")})
    assert (talk.fleet.peers, talk.fleet.tunnels) == ({}, {})


def test_a_removed_peer_leaves_with_its_tunnels_and_no_other() -> None:
    talk = Talk()
    talk.report("gw1", status("gw1+hub"), status("a"))
    talk.report("hub", status("gw1+hub"))
    changes = talk.fleet.remove("gw1")
    assert (changes.peers, changes.tunnels) == ({"gw1"}, {("gw1", "gw1+hub"), ("gw1", "a")})
    assert {name: set(ends) for name, ends in talk.fleet.tunnels.items()} == {"gw1+hub": {"hub"}}
    assert talk.fleet.remove("gw1") == Changes()


def test_messages_before_the_restored_state_take_precedence() -> None:
    before, after = Talk(), Talk()
    before.report("gw1", status("old"))
    before.report("gw2", status("kept"))
    after.sequence = 10
    after.report("gw1", status("new"))
    keys = (("gw1", "old"), ("gw2", "kept"))
    tunnels = {key: view for key in keys if (view := before.fleet.tunnel(key)) is not None}
    after.fleet.restore(before.fleet.peers, tunnels)
    assert set(after.fleet.tunnels) == {"new", "kept"}
    assert set(after.fleet.peers) == {"gw1", "gw2"}


def weight(status: TunnelStatus) -> int:
    """What one end of a tunnel weighs in the budget of its peer."""
    return TunnelView.of(status, START).weight


def test_a_full_budget_lets_tunnels_shrink_and_go(monkeypatch: pytest.MonkeyPatch) -> None:
    fat = status("t", link={"children": [{**SA, "spi_in": "0000000a"}] * 9})
    monkeypatch.setattr(fleet_module, "MAX_WEIGHT", weight(fat) + weight(status("u")))
    talk = Talk()
    assert talk.report("gw1", fat, status("u")).rejected == []
    assert talk.report("gw1", fat, status("u"), status("v")).rejected == ["over-budget"]
    assert talk.report("gw1", status("t"), status("u"), status("v")).rejected == []
    assert talk.report("gw1", fat, status("u")).rejected == ["over-budget"]  # v was removed only after t was processed
    assert talk.report("gw1", fat, status("u")).rejected == []
    for name in ("t", "u"):
        talk.change("gw1", status(name, "down"), removed=True)
    assert talk.fleet._weights == {}


def test_a_restart_keeps_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    talk = Talk()
    talk.report("gw1", *(status(f"t{n}") for n in range(10)))
    known = {("gw1", name): talk.fleet.tunnels[name]["gw1"] for name in talk.fleet.names_of("gw1")}
    monkeypatch.setattr(fleet_module, "MAX_WEIGHT", 4 * weight(status("t0")))
    again = FleetTelemetry()
    again.restore(talk.fleet.peers, known)
    assert len(again.names_of("gw1")) == 4


def test_the_parts_of_a_report_name_no_more_tunnels_than_a_peer_may_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_module, "MAX_TUNNELS_OF_PEER", 3)
    talk, at = Talk(), START
    talk.report("gw1", status("a"), status("b"), at=at, part=0, parts=9)
    assert "too-many-tunnels" in talk.report("gw1", status("c"), status("d"), at=at, part=1, parts=9).rejected
    assert len(talk.fleet._parts) == 0


def test_a_large_event_counts_as_many() -> None:
    talk = Talk()
    selectors = [f"10.{n}.0.0/16" for n in range(100)]
    fat = status("t", link={"children": [{**SA, "spi_in": "0000000a", "local_ts": selectors}] * 64})
    events = [len(talk.change("gw1", fat.model_copy(update={"name": f"t{n}"})).events) for n in range(8)]
    assert 5 <= sum(events) <= 7  # 2.7 MB each of the 16 MB that a burst may have
    assert talk.report("gw2", status("small")).suppressed == 0


def test_an_announced_stop_stands_although_older_messages_arrive_later() -> None:
    fleet = FleetTelemetry()

    def say(kind: str, body: Any, sequence: int, seconds: float) -> None:
        fleet.observe(observed("gw1", kind, body, place(sequence, seconds)))

    def beat(state: Any) -> Presence:
        return Presence(state=state, at=START, agent=AgentState.WATCH, started_at=START)

    say("presence", beat("online"), 7, 10)
    say("presence", beat("stopping"), 8, 20)
    say("report", Report(at=START, tunnels=(status("t"),)), 1_000, 19)  # from the other stream, which is behind
    assert (fleet.peers["gw1"].stopped, fleet.names_of("gw1")) == (True, ("t",))
    assert fleet.peers["gw1"].last_seen_at == place(0, 20).at
    say(
        "presence", beat("online"), 8, 20
    )  # delivered again: sequences of the two streams have nothing to do with each other
    assert (fleet.peers["gw1"].stopped, fleet.names_of("gw1")) == (True, ("t",))
    say("report", Report(at=START, tunnels=()), 1_001, 21)
    assert (fleet.peers["gw1"].stopped, fleet.names_of("gw1")) == (False, ())


def test_the_first_packet_after_a_change_is_an_event_and_no_transition() -> None:
    talk = Talk()
    talk.change("gw1", status("t"))
    seen = TunnelChange(at=talk.now, previous=TunnelState.UP, status=status("t"), first_packet_at=talk.now)
    changes = talk.say("gw1", "tunnel", seen)
    (event,) = changes.events
    assert isinstance(event, TunnelChanged)
    assert (event.first_packet_at, event.previous, event.state) == (seen.at, TunnelState.UP, TunnelState.UP)
    assert talk.change("gw1", status("t")).events == []


@pytest.mark.parametrize("detail", ["", ',"reported_at":"', '"}', "\u00fc\\"])
def test_a_view_is_restored_as_it_was_stored(detail: str) -> None:
    view = TunnelView.of(status("t", "error", detail=detail, link={"children": [{**SA, "spi_in": "0000000a"}]}), START)
    assert TunnelView.from_stored(view.to_stored()) == view
    with pytest.raises(ValueError, match=r"."):
        TunnelView.from_stored("{}")
