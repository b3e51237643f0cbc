"""The feed's machine when something was lost, lags or gets no reply: it synchronises again, with jitter and growing waits."""

import pytest

from warren_bus.feed.commands import GetPolicySet, RequestPage
from warren_contracts import subjects
from warren_contracts.documents import DirectoryPageRequest
from warren_contracts.peers import DriverCapabilities
from warren_testkit.bus.fleet import Fleet
from warren_testkit.bus.wire import Wire, policy_ids


def test_gap_starts_a_jittered_synchronisation(wire: Wire, fleet: Fleet) -> None:
    wire.publish(*fleet.assign({"tag=hub": ("p3",)}))
    wire.deliver()
    wire.publish(*fleet.assign({"tag=hub": ("p4",)}), *fleet.assign({"tag=hub": ("p5",)}))
    del wire.live[0]
    syncs = wire.machine.counters["sync"]
    wire.deliver()
    assert wire.machine.counters["gap"] == 1
    assert wire.machine.counters["sync"] == syncs
    wire.settle(12)
    assert wire.machine.counters["sync"] == syncs + 1
    assert wire.machine.errors == 0
    assert policy_ids(wire.state) == ["p2", "p5"]


def test_lost_last_message_is_detected_by_the_digest(wire: Wire, fleet: Fleet) -> None:
    wire.publish(*fleet.assign({"tag=hub": ("p3",)}), fleet.put_record("all", "gw5"))
    wire.live.clear()
    wire.publish(fleet.signed_digest("all"), fleet.signed_digest("tag=hub"))
    wire.settle(12)
    assert policy_ids(wire.state) == ["p2", "p3"]
    assert set(wire.state.directory) == {"gw2", "gw5"}


def test_digest_that_agrees_starts_nothing(wire: Wire, fleet: Fleet) -> None:
    syncs = wire.machine.counters["sync"]
    wire.publish(*(fleet.signed_digest(reader) for reader in wire.machine.verified.readers))
    wire.settle(12)
    assert wire.machine.counters["sync"] == syncs


def test_lagging_replica_is_requested_again(wire: Wire, fleet: Fleet) -> None:
    wire.disconnect()
    old = wire.stored[subjects.policy("tag=hub")]
    wire.publish(*fleet.assign({"tag=hub": ("p6",)}))
    new = wire.stored[subjects.policy("tag=hub")]
    wire.stored[subjects.policy("tag=hub")] = old
    wire.connect()
    wire.tick(1)
    while wire.requests:
        wire.answer()
    assert policy_ids(wire.states[-1]) == ["p1", "p2"]
    wire.stored[subjects.policy("tag=hub")] = new
    wire.settle(5)
    assert policy_ids(wire.state) == ["p2", "p6"]
    assert wire.machine.counters["stale"] == 1


def test_tag_that_was_removed_is_unsubscribed_and_forgotten(wire: Wire, fleet: Fleet) -> None:
    fleet.enrol("gw1", "west")
    wire.disconnect()
    wire.connect(fresh=False)
    wire.settle()
    assert "$JS.ACK.live.warren.v1.policy.tag=hub" not in wire.subscribed
    assert policy_ids(wire.state) == ["p2"]
    assert set(wire.state.directory) == set()


def test_policy_of_a_new_tag_replaces_that_of_the_old_one_in_one_step(wire: Wire, fleet: Fleet) -> None:
    wire.publish(*fleet.assign({"tag=east": ("p1",)}))
    fleet.enrol("gw1", "east", "west")
    before = len(wire.states)
    wire.disconnect()
    wire.connect(fresh=False)
    wire.settle()
    assert all("p1" in policy_ids(state) for state in wire.states[before:])
    assert wire.state.tags == ("east", "west")


def test_unanswered_whoami_is_requested_again_with_growing_waits(fleet: Fleet) -> None:
    wire = Wire(fleet, "gw1")
    wire.connect()
    wire.tick(0)
    waits = []
    for _ in range(8):
        wire.fail()
        due = wire.machine.get_timer()
        assert due is not None
        waits.append(due - wire.now)
        wire.tick(due - wire.now)
        assert len(wire.requests) == 1
    assert waits[0] <= 0.5
    assert 7.5 <= waits[-1] <= 15
    wire.settle()
    assert wire.states


def test_state_is_held_back_by_a_slow_snapshot_for_two_seconds_at_most(wire: Wire, fleet: Fleet) -> None:
    wire.disconnect()
    wire.connect(fresh=False)
    wire.tick(1)
    wire.digests = False
    wire.answer()  # whoami; the snapshot is on its way
    wire.publish(*fleet.assign({"tag=hub": ("p3",)}))
    wire.deliver()
    states = len(wire.states)
    wire.tick(1.9)
    assert len(wire.states) == states
    wire.tick(0.2)
    assert policy_ids(wire.state) == ["p2", "p3"]


def test_live_messages_are_accepted_while_the_registry_is_unavailable(wire: Wire, fleet: Fleet) -> None:
    wire.disconnect()
    wire.connect(fresh=False)
    wire.tick(1)
    wire.fail()
    wire.publish(*fleet.assign({"tag=hub": ("p3",)}))
    wire.deliver()
    wire.tick(0.25)  # what was missed meanwhile could belong to it: the streams are asked, which need no registry
    for request in [request for request in wire.requests if isinstance(request, GetPolicySet)]:
        wire.answer(wire.requests.index(request))
    assert policy_ids(wire.state) == ["p2", "p3"]
    assert wire.machine.phase.name == "IDENTIFYING"


def test_paged_directory_is_complete_whatever_changes_between_pages() -> None:
    fleet = Fleet(page_size=3)
    fleet.enrol("gw1")
    wire = Wire(fleet, "gw1")
    for number in range(10):
        wire.publish(fleet.put_record("all", f"n{number}"))
    wire.digests = False
    wire.connect()
    wire.tick(0)
    wire.answer()
    page = next(
        index
        for index, request in enumerate(wire.requests)
        if isinstance(request, RequestPage) and request.reader == "all"
    )
    wire.answer(page)
    wire.publish(fleet.put_record("all", "n00"), fleet.put_record("all", "n9", withdrawn=True))
    wire.settle()
    assert set(wire.state.directory) == {f"n{number}" for number in range(9)} | {"n00"}


def test_a_record_that_cannot_be_read_hides_no_other_of_its_page(fleet: Fleet) -> None:
    wire = Wire(fleet, "gw1")
    for name in ("gw2", "gw3", "gw4"):
        wire.publish(fleet.put_record("tag=hub", name))
    large = {"drivers": (DriverCapabilities(kind="x" * 70_000),)}
    fleet.records["tag=hub"]["gw3"] = fleet.records["tag=hub"]["gw3"].model_copy(update=large)
    odd = {"platform": "of-the-future"}
    fleet.records["tag=hub"]["gw1"] = fleet.records["tag=hub"]["gw2"].model_copy(update={"peer": "gw1", **odd})
    wire.digests = False
    wire.connect()
    wire.tick(0)
    with pytest.warns(UserWarning, match="Expected `enum`"):
        wire.settle()
    assert set(wire.state.directory) == {"gw2", "gw4"}
    assert wire.machine.counters["record-unread"] == 2


def test_page_of_another_request_is_refused(wire: Wire, fleet: Fleet) -> None:
    wire.disconnect()
    wire.digests = False
    wire.connect()
    wire.tick(1)
    wire.answer()
    request = next(
        request for request in wire.requests if isinstance(request, RequestPage) and request.reader == "tag=hub"
    )
    other = fleet.page("gw1", DirectoryPageRequest(reader="tag=hub", after="gw2"))
    wire.machine.receive_reply(request, other.headers, other.payload, wire.now)
    assert wire.machine.counters["refused-wrong-subject"] == 1
    assert "gw2" in wire.state.directory


def test_answer_of_an_earlier_synchronisation_is_dropped(wire: Wire, fleet: Fleet) -> None:
    wire.disconnect()
    wire.connect()
    wire.tick(1)
    late = wire.requests.pop()
    wire.disconnect()
    wire.connect()
    answer = fleet.whoami("gw1")
    wire.machine.receive_reply(late, answer.headers, answer.payload, wire.now)
    assert wire.machine.phase.name == "IDENTIFYING"


def test_refused_subscription_is_dropped_and_requested_again(wire: Wire) -> None:
    wire.machine.subscription_refused("$JS.ACK.live.warren.v1.policy.tag=hub", wire.now)
    wire.pump()
    assert "$JS.ACK.live.warren.v1.policy.tag=hub" not in wire.subscribed
    wire.settle(12)
    assert "$JS.ACK.live.warren.v1.policy.tag=hub" in wire.subscribed


def test_withheld_digests_are_noticed_and_a_new_one_confirms_the_intent(wire: Wire, fleet: Fleet) -> None:
    """A server that drops what it should deliver cannot make a digest; the registry signs one a minute for each reader."""
    readers = wire.machine.verified.readers
    wire.tick(200)
    wire.publish(*(fleet.signed_digest(reader) for reader in readers[1:]))  # all but one
    wire.settle(1)
    assert (wire.machine.unconfirmed_s(wire.now) or 0) >= 200
    wire.publish(fleet.signed_digest(readers[0]))
    wire.settle(1)
    assert (wire.machine.unconfirmed_s(wire.now) or 0) < 10
    wire.disconnect()
    assert wire.machine.unconfirmed_s(wire.now) is None
    wire.connect()
    assert (wire.machine.unconfirmed_s(wire.now) or 0) < 10  # what was missed meanwhile is not a sign of anything
