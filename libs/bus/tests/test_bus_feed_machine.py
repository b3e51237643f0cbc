"""The feed's machine as transcripts: what it asks, what it believes, when it hands out a state."""

import json

import pytest

from warren_bus.feed.commands import AskPage, AskWhoami, GetPolicy, GetSecret
from warren_bus.feed.state import FeedState
from warren_bus.testing.fleet import Fleet
from warren_bus.testing.wire import Wire
from warren_contracts import subjects
from warren_contracts.documents import DirectoryPageRequest
from warren_contracts.documents import Signer as Role
from warren_contracts.peers import Capabilities


@pytest.fixture
def fleet() -> Fleet:
    fleet = Fleet()
    fleet.enrol("gw1", "hub", "west")
    return fleet


@pytest.fixture
def wire(fleet: Fleet) -> Wire:
    wire = Wire(fleet, "gw1")
    wire.publish(*fleet.assign({"tag=hub": ("p1",), "tag=west": ("p2",)}))
    wire.publish(fleet.put_record("tag=hub", "gw2"))
    wire.connect()
    wire.tick(0)
    wire.settle()
    return wire


def names(state: FeedState) -> list[str]:
    return [item.policy.id for item in state.published]


def test_first_thing_asked_is_whoami_and_nothing_is_subscribed_before(fleet: Fleet) -> None:
    wire = Wire(fleet, "gw1")
    wire.connect()
    wire.tick(0)
    assert [type(request) for request in wire.asked] == [AskWhoami]
    assert not wire.subscribed


def test_whoami_is_followed_by_subscriptions_then_by_the_snapshot(fleet: Fleet) -> None:
    wire = Wire(fleet, "gw1")
    wire.digests = False
    wire.connect()
    wire.tick(0)
    wire.answer()
    assert "live.warren.v1.policy.tag=hub" in wire.subscribed
    assert "live.warren.v1.directory.peer=gw1.*" in wire.subscribed
    assert "live.warren.v1.secret.gw1" in wire.subscribed
    assert {request.reader for request in wire.asked if isinstance(request, GetPolicy)} == set(
        wire.machine.holdings.readers
    )
    assert {request.reader for request in wire.asked if isinstance(request, AskPage)} == set(
        wire.machine.holdings.readers
    )
    assert sum(isinstance(request, GetSecret) for request in wire.asked) == 1


def test_a_state_appears_when_everything_was_read_once_and_not_before(fleet: Fleet) -> None:
    wire = Wire(fleet, "gw1")
    wire.digests = False
    wire.publish(*fleet.assign({"tag=hub": ("p1",)}))
    wire.connect()
    wire.tick(0)
    wire.answer()
    while len(wire.requests) > 1:
        wire.answer()
        assert not wire.states
    wire.answer()
    assert len(wire.states) == 1
    assert names(wire.state) == ["p1"]
    assert wire.machine.synchronised


def test_policies_and_directory_are_the_truth(wire: Wire) -> None:
    assert names(wire.state) == ["p1", "p2"]
    assert set(wire.state.directory) == {"gw2"}
    assert wire.state.tags == ("hub", "west")


def test_directory_that_the_digest_confirms_is_not_asked_for_again(wire: Wire) -> None:
    wire.asked.clear()
    wire.disconnect()
    wire.connect()
    wire.settle()
    assert not [request for request in wire.asked if isinstance(request, AskPage)]
    assert len(wire.states) == 1


def test_live_change_is_handed_out(wire: Wire, fleet: Fleet) -> None:
    wire.publish(*fleet.assign({"tag=hub": ("p1", "p3")}))
    wire.deliver()
    assert names(wire.state) == ["p1", "p2", "p3"]
    wire.publish(fleet.put_record("all", "gw9"))
    wire.deliver()
    assert set(wire.state.directory) == {"gw2", "gw9"}
    wire.publish(fleet.put_record("tag=hub", "gw2", withdrawn=True))
    wire.deliver()
    assert set(wire.state.directory) == {"gw9"}


def test_a_state_is_told_with_the_live_document_that_made_it(wire: Wire, fleet: Fleet) -> None:
    assert wire.machine.cause is None  # the first came by a snapshot
    (live,) = wire.publish(*fleet.assign({"tag=hub": ("p1", "p3")}))
    wire.deliver()
    cause = wire.machine.cause
    assert cause is not None
    assert (cause.held_at, cause.headers) == (wire.now, live[1])


def test_a_digest_or_a_forged_message_is_no_cause(wire: Wire, fleet: Fleet) -> None:
    (subject, headers, payload) = wire.publish(*fleet.assign({"tag=hub": ("p1", "p3")}))[0]
    wire.live.clear()
    wire.machine.hold_live(subject, headers, payload, wire.now)
    forged = {**headers, "traceparent": "00-" + "f" * 32 + "-" + "f" * 16 + "-01"}
    wire.machine.hold_live(subject, forged, payload + b" ", wire.now + 5)
    wire.publish(fleet.signed_digest("tag=hub"))
    digest = wire.live.pop()
    wire.machine.hold_live(*digest, wire.now + 6)
    wire.machine.process_held(wire.now + 7)
    cause = wire.machine.cause
    assert cause is not None
    assert (cause.held_at, cause.headers) == (wire.now, headers)


def test_a_state_of_a_snapshot_has_no_cause_of_before(wire: Wire, fleet: Fleet) -> None:
    wire.publish(*fleet.assign({"tag=hub": ("p1", "p3")}))
    wire.deliver()
    assert wire.machine.cause is not None
    wire.disconnect()
    wire.publish(*fleet.assign({"tag=hub": ("p1", "p4")}))
    wire.live.clear()
    wire.connect()
    wire.settle()
    assert names(wire.state) == ["p1", "p2", "p4"]
    assert wire.machine.cause is None


def test_withdrawal_for_one_reader_leaves_the_record_of_another(wire: Wire, fleet: Fleet) -> None:
    wire.publish(fleet.put_record("tag=west", "gw2"), fleet.put_record("tag=hub", "gw2", withdrawn=True))
    wire.settle()
    assert set(wire.state.directory) == {"gw2"}


def test_policy_that_moves_between_two_tags_is_never_absent(wire: Wire, fleet: Fleet) -> None:
    wire.publish(*fleet.assign({"tag=hub": (), "tag=west": ("p1", "p2")}))
    before = len(wire.states)
    wire.deliver(0)  # the set without the policy comes first
    assert len(wire.states) == before
    wire.deliver(0)
    assert [names(state) for state in wire.states[before:]] == [["p1", "p2"]]


def test_missing_part_of_a_batch_is_asked_for(wire: Wire, fleet: Fleet) -> None:
    wire.publish(*fleet.assign({"tag=hub": (), "tag=west": ("p1", "p2")}))
    wire.deliver(0)
    wire.live.clear()  # the other half is lost
    wire.tick(0.3)
    assert [request.reader for request in wire.requests if isinstance(request, GetPolicy)] == ["tag=west"]
    wire.answer()
    assert names(wire.state) == ["p1", "p2"]
    assert wire.machine.counters["batch-incomplete"] == 0


def test_batch_is_waited_for_although_a_later_set_replaced_its_half(wire: Wire, fleet: Fleet) -> None:
    wire.publish(*fleet.assign({"tag=hub": (), "tag=west": ("p1", "p2")}), *fleet.assign({"tag=hub": ("p9",)}))
    west = wire.live.pop(1)
    before = len(wire.states)
    wire.deliver(0)
    wire.deliver(0)
    assert len(wire.states) == before
    wire.hand_over(west)
    assert names(wire.state) == ["p1", "p2", "p9"]


def test_gap_holds_states_back_until_the_sets_were_read_again(wire: Wire, fleet: Fleet) -> None:
    wire.publish(*fleet.assign({"tag=hub": ("p1",)}))
    wire.deliver()
    before = len(wire.states)
    wire.publish(*fleet.assign({"tag=hub": (), "tag=west": ("p1", "p2")}), *fleet.assign({"tag=hub": ("p9",)}))
    del wire.live[:2]  # the whole batch is lost
    wire.deliver()
    assert len(wire.states) == before
    wire.settle(2)
    assert [names(state) for state in wire.states[before:]] == [["p1", "p2", "p9"]]


def test_incomplete_batch_is_waited_for_one_second(wire: Wire, fleet: Fleet) -> None:
    fleet.assign({"tag=hub": ("p3",), "tag=west": ("p2",)})
    wire.publish(fleet.signed_set("tag=hub"))
    wire.deliver()
    states = len(wire.states)
    wire.tick(0.3)
    wire.fail()
    wire.tick(0.6)
    assert len(wire.states) == states
    wire.tick(0.2)
    assert names(wire.state) == ["p2", "p3"]
    assert wire.machine.counters["batch-incomplete"] == 1


def test_batch_of_readers_that_are_not_ours_is_not_waited_for(wire: Wire, fleet: Fleet) -> None:
    wire.publish(*fleet.assign({"tag=hub": ("p3",), "tag=spoke": ("p3",), "peer=gw7": ()}))
    wire.deliver()
    assert names(wire.state) == ["p2", "p3"]


def test_gap_starts_a_jittered_round(wire: Wire, fleet: Fleet) -> None:
    wire.publish(*fleet.assign({"tag=hub": ("p3",)}))
    wire.deliver()
    wire.publish(*fleet.assign({"tag=hub": ("p4",)}), *fleet.assign({"tag=hub": ("p5",)}))
    del wire.live[0]
    rounds = wire.machine.counters["round"]
    wire.deliver()
    assert wire.machine.counters["gap"] == 1
    assert wire.machine.counters["round"] == rounds
    wire.settle(12)
    assert wire.machine.counters["round"] == rounds + 1
    assert names(wire.state) == ["p2", "p5"]


def test_lost_last_message_is_found_by_the_digest(wire: Wire, fleet: Fleet) -> None:
    wire.publish(*fleet.assign({"tag=hub": ("p3",)}), fleet.put_record("all", "gw5"))
    wire.live.clear()
    wire.publish(fleet.signed_digest("all"), fleet.signed_digest("tag=hub"))
    wire.settle(12)
    assert names(wire.state) == ["p2", "p3"]
    assert set(wire.state.directory) == {"gw2", "gw5"}


def test_digest_that_agrees_starts_nothing(wire: Wire, fleet: Fleet) -> None:
    rounds = wire.machine.counters["round"]
    wire.publish(*(fleet.signed_digest(reader) for reader in wire.machine.holdings.readers))
    wire.settle(12)
    assert wire.machine.counters["round"] == rounds


def test_lagging_replica_is_asked_again(wire: Wire, fleet: Fleet) -> None:
    wire.disconnect()
    old = wire.stored[subjects.policy("tag=hub")]
    wire.publish(*fleet.assign({"tag=hub": ("p6",)}))
    new = wire.stored[subjects.policy("tag=hub")]
    wire.stored[subjects.policy("tag=hub")] = old
    wire.connect()
    wire.tick(1)
    while wire.requests:
        wire.answer()
    assert names(wire.states[-1]) == ["p1", "p2"]
    wire.stored[subjects.policy("tag=hub")] = new
    wire.settle(5)
    assert names(wire.state) == ["p2", "p6"]
    assert wire.machine.counters["stale"] == 1


def test_tag_that_was_taken_away_is_unsubscribed_and_forgotten(wire: Wire, fleet: Fleet) -> None:
    fleet.enrol("gw1", "west")
    wire.disconnect()
    wire.connect(fresh=False)
    wire.settle()
    assert "live.warren.v1.policy.tag=hub" not in wire.subscribed
    assert names(wire.state) == ["p2"]
    assert set(wire.state.directory) == set()


def test_policy_of_a_new_tag_replaces_that_of_the_old_one_in_one_step(wire: Wire, fleet: Fleet) -> None:
    wire.publish(*fleet.assign({"tag=east": ("p1",)}))
    fleet.enrol("gw1", "east", "west")
    before = len(wire.states)
    wire.disconnect()
    wire.connect(fresh=False)
    wire.settle()
    assert all("p1" in names(state) for state in wire.states[before:])
    assert wire.state.tags == ("east", "west")


def test_older_whoami_is_refused(wire: Wire, fleet: Fleet) -> None:
    old = fleet.whoami("gw1")
    fleet.enrol("gw1", "west")
    wire.disconnect()
    wire.connect()
    wire.settle()
    wire.disconnect()
    wire.connect()
    wire.tick(1)
    request = wire.requests.pop()
    wire.machine.receive_reply(request, old.headers, old.payload, wire.now)
    assert wire.machine.counters["refused-older-revision"] == 1
    assert wire.machine.holdings.tags == ("west",)


def test_replayed_older_set_is_refused(wire: Wire, fleet: Fleet) -> None:
    first = wire.publish(*fleet.assign({"tag=hub": ("p7",)}))[0]
    wire.publish(*fleet.assign({"tag=hub": ("p8",)}))
    wire.settle(5)
    wire.hand_over(first)
    assert names(wire.state) == ["p2", "p8"]
    assert wire.machine.counters["refused-older-revision"] == 1


def test_record_that_a_snapshot_no_longer_held_cannot_come_back(wire: Wire, fleet: Fleet) -> None:
    old = wire.publish(fleet.put_record("tag=hub", "gw3"))[0]
    wire.settle(5)
    del fleet.records["tag=hub"]["gw3"]  # withdrawn, told for 30 days, reclaimed
    fleet.next_revision()
    wire.disconnect()
    wire.connect()
    wire.settle()
    assert set(wire.state.directory) == {"gw2"}
    wire.hand_over(old)
    assert set(wire.state.directory) == {"gw2"}


@pytest.mark.parametrize(
    ("change", "counter"),
    [
        ({"Nats-Last-Sequence": None}, "refused-not-republished"),
        ({"Nats-Stream": None}, "refused-not-republished"),
        ({"Nats-Stream": "TELEMETRY"}, "refused-not-republished"),
        ({"Nats-Sequence": "x"}, "refused-not-republished"),
        ({"Nats-Subject": "warren.v1.policy.tag=spoke"}, "refused-wrong-subject"),
        ({"Warren-Signature": None}, "refused-malformed"),
        ({"Warren-Revision": "99"}, "refused-bad-signature"),
        ({"Warren-Epoch": "9"}, "refused-wrong-epoch"),
        ({"Warren-Signer": "registry"}, "refused-wrong-signer"),
    ],
)
def test_forged_live_message_is_refused_and_counted(
    wire: Wire, fleet: Fleet, change: dict[str, str | None], counter: str
) -> None:
    subject, headers, payload = wire.publish(*fleet.assign({"tag=hub": ()}))[0]
    wire.live.clear()
    forged = {name: value for name, value in {**headers, **change}.items() if value is not None}
    states = len(wire.states)
    wire.hand_over((subject, forged, payload))
    assert wire.machine.counters[counter] == 1
    assert len(wire.states) == states


def test_live_message_without_any_header_is_refused(wire: Wire) -> None:
    assert not wire.machine.hold_live("live.warren.v1.policy.tag=hub", None, b"{}", wire.now)
    assert not wire.machine.hold_live("live.x", {}, b"{}", wire.now)


def test_too_large_document_is_refused_before_its_signature(wire: Wire, fleet: Fleet) -> None:
    subject, headers, _ = wire.publish(*fleet.assign({"tag=hub": ()}))[0]
    wire.live.clear()
    wire.hand_over((subject, headers, b" " * 900_001))
    assert wire.machine.counters["refused-too-large"] == 1


def test_signed_nonsense_is_one_typed_refusal(wire: Wire, fleet: Fleet) -> None:
    for text in ("", "[]", '{"reader": 1}', "\x00", "[" * 2_000):
        revision = fleet.next_revision()
        wire.publish(fleet.sign(subjects.policy("tag=hub"), 1, revision, text, Role.POLICY))
        wire.deliver()
    assert wire.machine.counters["refused-malformed"] == 5


def test_fields_of_a_newer_writer_are_ignored(wire: Wire, fleet: Fleet) -> None:
    fleet.assign({"tag=hub": ("p9",)})
    document = json.loads(fleet.sets["tag=hub"].model_dump_json())
    document["new"] = document["policies"][0]["new"] = document["policies"][0]["policy"]["new"] = {"x": 1}
    text = json.dumps(document)
    wire.publish(fleet.sign(subjects.policy("tag=hub"), 1, fleet.revision, text, Role.POLICY))
    wire.deliver()
    assert names(wire.state) == ["p2", "p9"]


def test_signed_set_of_another_reader_is_refused(wire: Wire, fleet: Fleet) -> None:
    fleet.assign({"tag=spoke": ("p1",)})
    text = fleet.sets["tag=spoke"].model_dump_json()
    wire.publish(fleet.sign(subjects.policy("tag=hub"), 1, fleet.revision, text, Role.POLICY))
    wire.deliver()
    assert wire.machine.counters["refused-wrong-subject"] == 1


def test_flood_is_bounded_and_made_up_for(wire: Wire, fleet: Fleet) -> None:
    live = wire.publish(*fleet.assign({"tag=hub": ("p9",)}))[0]
    wire.live.clear()
    accepted = sum(wire.machine.hold_live(live[0], live[1], b" " * 8_000_000, wire.now) for _ in range(10))
    assert accepted == 2
    assert wire.machine.counters["overflow"] == 8
    wire.settle(15)
    assert names(wire.state) == ["p2", "p9"]


def test_unanswered_whoami_is_asked_again_with_growing_waits(fleet: Fleet) -> None:
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
    assert names(wire.state) == ["p2", "p3"]


def test_live_messages_are_taken_while_the_registry_is_away(wire: Wire, fleet: Fleet) -> None:
    wire.disconnect()
    wire.connect(fresh=False)
    wire.tick(1)
    wire.fail()
    wire.publish(*fleet.assign({"tag=hub": ("p3",)}))
    wire.deliver()
    wire.tick(0.25)  # what was missed meanwhile could belong to it: the streams are asked, which need no registry
    for request in [request for request in wire.requests if isinstance(request, GetPolicy)]:
        wire.answer(wire.requests.index(request))
    assert names(wire.state) == ["p2", "p3"]
    assert wire.machine.phase.name == "ASKING"


def test_new_epoch_needs_the_roots_signature(wire: Wire, fleet: Fleet) -> None:
    fleet.keys[Role.ROOT], genuine = fleet.keys[Role.POLICY], fleet.signers[Role.ROOT]
    fleet.new_epoch()
    false_root = type(genuine)(fleet.keys[Role.POLICY], Role.ROOT)
    fleet.signers[Role.ROOT] = false_root
    wire.disconnect()
    wire.connect()
    wire.tick(1)
    wire.answer()
    assert wire.machine.counters["refused-bad-signature"] == 1
    assert wire.machine.holdings.trust.epoch == 1
    fleet.signers[Role.ROOT] = genuine
    wire.publish(*fleet.assign({"tag=hub": ("p1",), "tag=west": ("p9",)}))
    wire.settle(20)
    assert wire.machine.holdings.trust.epoch == 2
    assert names(wire.state) == ["p1", "p9"]


def test_restored_system_is_not_locked_out_and_nothing_old_passes_for_new(wire: Wire, fleet: Fleet) -> None:
    for number in range(5):
        wire.publish(*fleet.assign({"tag=hub": (f"p{number}",)}))
    old = wire.live[-1]
    wire.settle(5)
    fleet.new_epoch()
    wire.last_sequence.clear()
    wire.stored.clear()
    wire.publish(*fleet.assign({"tag=hub": ("px",)}), fleet.put_record("tag=hub", "gw4"))
    wire.settle(20)  # refused as of an unknown epoch, which makes it ask
    assert names(wire.state) == ["px"]
    assert set(wire.state.directory) == {"gw4"}
    wire.hand_over(old)
    assert names(wire.state) == ["px"]
    assert wire.machine.counters["refused-wrong-epoch"] >= 2


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
        index for index, request in enumerate(wire.requests) if isinstance(request, AskPage) and request.reader == "all"
    )
    wire.answer(page)
    wire.publish(fleet.put_record("all", "n00"), fleet.put_record("all", "n9", withdrawn=True))
    wire.settle()
    assert set(wire.state.directory) == {f"n{number}" for number in range(9)} | {"n00"}


def test_a_record_that_cannot_be_read_hides_no_other_of_its_page(fleet: Fleet) -> None:
    wire = Wire(fleet, "gw1")
    for name in ("gw2", "gw3", "gw4"):
        wire.publish(fleet.put_record("tag=hub", name))
    large = {"capabilities": Capabilities(driver="x" * 70_000)}
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


def test_page_of_another_question_is_refused(wire: Wire, fleet: Fleet) -> None:
    wire.disconnect()
    wire.digests = False
    wire.connect()
    wire.tick(1)
    wire.answer()
    request = next(request for request in wire.requests if isinstance(request, AskPage) and request.reader == "tag=hub")
    other = fleet.page("gw1", DirectoryPageRequest(reader="tag=hub", after="gw2"))
    wire.machine.receive_reply(request, other.headers, other.payload, wire.now)
    assert wire.machine.counters["refused-wrong-subject"] == 1
    assert "gw2" in wire.state.directory


def test_answer_of_an_earlier_round_is_dropped(wire: Wire, fleet: Fleet) -> None:
    wire.disconnect()
    wire.connect()
    wire.tick(1)
    late = wire.requests.pop()
    wire.disconnect()
    wire.connect()
    answer = fleet.whoami("gw1")
    wire.machine.receive_reply(late, answer.headers, answer.payload, wire.now)
    assert wire.machine.phase.name == "ASKING"


def test_refused_subscription_is_given_up_and_asked_about(wire: Wire) -> None:
    wire.machine.subscription_refused("live.warren.v1.policy.tag=hub", wire.now)
    wire.pump()
    assert "live.warren.v1.policy.tag=hub" not in wire.subscribed
    wire.settle(12)
    assert "live.warren.v1.policy.tag=hub" in wire.subscribed


def test_saved_state_survives_json_and_needs_no_server(wire: Wire, fleet: Fleet) -> None:
    text = wire.state.model_dump_json()
    saved = FeedState.model_validate_json(text)
    assert saved == wire.state
    assert saved.directory == wire.state.directory
    again = Wire(fleet, "gw1", saved=saved)
    assert names(saved) == ["p1", "p2"]
    again.stored, again.last_sequence = wire.stored, wire.last_sequence
    again.connect()
    again.settle()
    assert not again.states  # nothing has changed
    again.publish(*fleet.assign({"tag=hub": ()}))
    again.settle(5)
    assert names(again.state) == ["p2"]


def test_saved_state_of_another_peer_is_refused(wire: Wire, fleet: Fleet) -> None:
    fleet.enrol("gw2")
    with pytest.raises(ValueError, match="gw1"):
        Wire(fleet, "gw2", saved=wire.state)


def test_secret_is_handed_out_sealed_and_unseen(wire: Wire, fleet: Fleet) -> None:
    wire.publish(fleet.sign(subjects.secret("gw1"), 1, fleet.next_revision(), "c2VhbGVk"))
    wire.deliver()
    assert wire.state.secret is not None
    assert wire.state.secret.payload == "c2VhbGVk"
    assert "c2VhbGVk" not in repr(wire.state)


def test_states_that_were_handed_out_never_change(wire: Wire, fleet: Fleet) -> None:
    first = wire.state
    text = first.model_dump_json()
    wire.publish(*fleet.assign({"tag=hub": ()}), fleet.put_record("tag=hub", "gw2", withdrawn=True))
    wire.settle(5)
    assert first.model_dump_json() == text
