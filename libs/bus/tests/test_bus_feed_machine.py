"""The feed's machine as transcripts: its requests, what it accepts, when it hands out a state."""

import pytest

from warren_bus.feed.commands import GetPolicySet, GetSecret, RequestPage, RequestWhoami
from warren_bus.feed.state import FeedState
from warren_contracts import subjects
from warren_contracts.documents import SignerRole
from warren_testkit.bus.fleet import Fleet
from warren_testkit.bus.wire import Wire, policy_ids


def test_first_request_is_whoami_and_nothing_is_subscribed_before(fleet: Fleet) -> None:
    wire = Wire(fleet, "gw1")
    wire.connect()
    wire.tick(0)
    assert [type(request) for request in wire.asked] == [RequestWhoami]
    assert not wire.subscribed


def test_whoami_is_followed_by_subscriptions_then_by_the_snapshot(fleet: Fleet) -> None:
    wire = Wire(fleet, "gw1")
    wire.digests = False
    wire.connect()
    wire.tick(0)
    wire.answer()
    assert "$JS.ACK.live.warren.v1.policy.tag=hub" in wire.subscribed
    assert "$JS.ACK.live.warren.v1.directory.peer=gw1.*" in wire.subscribed
    assert "$JS.ACK.live.warren.v1.secret.gw1" in wire.subscribed
    assert {request.reader for request in wire.asked if isinstance(request, GetPolicySet)} == set(
        wire.machine.verified.readers
    )
    assert {request.reader for request in wire.asked if isinstance(request, RequestPage)} == set(
        wire.machine.verified.readers
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
    assert policy_ids(wire.state) == ["p1"]
    assert wire.machine.synchronised


def test_policies_and_directory_are_those_of_the_fleet(wire: Wire) -> None:
    assert policy_ids(wire.state) == ["p1", "p2"]
    assert set(wire.state.directory) == {"gw2"}
    assert wire.state.tags == ("hub", "west")


def test_directory_that_the_digest_confirms_is_not_requested_again(wire: Wire) -> None:
    wire.asked.clear()
    wire.disconnect()
    wire.connect()
    wire.settle()
    assert not [request for request in wire.asked if isinstance(request, RequestPage)]
    assert len(wire.states) == 1


def test_live_change_is_handed_out(wire: Wire, fleet: Fleet) -> None:
    wire.publish(*fleet.assign({"tag=hub": ("p1", "p3")}))
    wire.deliver()
    assert policy_ids(wire.state) == ["p1", "p2", "p3"]
    wire.publish(fleet.put_record("all", "gw9"))
    wire.deliver()
    assert set(wire.state.directory) == {"gw2", "gw9"}
    wire.publish(fleet.put_record("tag=hub", "gw2", withdrawn=True))
    wire.deliver()
    assert set(wire.state.directory) == {"gw9"}


def test_a_state_is_handed_out_with_the_live_document_that_made_it(wire: Wire, fleet: Fleet) -> None:
    first = wire.machine.cause
    assert first is None  # it came by a snapshot
    (live,) = wire.publish(*fleet.assign({"tag=hub": ("p1", "p3")}))
    wire.deliver()
    cause = wire.machine.cause
    assert cause is not None
    assert (cause.arrived_at, cause.headers) == (wire.now, live[1])


def test_a_digest_or_a_forged_message_is_no_cause(wire: Wire, fleet: Fleet) -> None:
    (subject, headers, payload) = wire.publish(*fleet.assign({"tag=hub": ("p1", "p3")}))[0]
    wire.live.clear()
    wire.machine.enqueue_live(subject, headers, payload, wire.now)
    forged = {**headers, "traceparent": "00-" + "f" * 32 + "-" + "f" * 16 + "-01"}
    wire.machine.enqueue_live(subject, forged, payload + b" ", wire.now + 5)
    wire.publish(fleet.signed_digest("tag=hub"))
    digest = wire.live.pop()
    wire.machine.enqueue_live(*digest, wire.now + 6)
    wire.machine.verify_queued(wire.now + 7)
    cause = wire.machine.cause
    assert cause is not None
    assert (cause.arrived_at, cause.headers) == (wire.now, headers)


def test_a_state_of_a_snapshot_has_no_cause_of_before(wire: Wire, fleet: Fleet) -> None:
    wire.publish(*fleet.assign({"tag=hub": ("p1", "p3")}))
    wire.deliver()
    assert wire.machine.cause is not None
    wire.disconnect()
    wire.publish(*fleet.assign({"tag=hub": ("p1", "p4")}))
    wire.live.clear()
    wire.connect()
    wire.settle()
    assert policy_ids(wire.state) == ["p1", "p2", "p4"]
    assert wire.machine.cause is None


def test_new_epoch_needs_the_roots_signature(wire: Wire, fleet: Fleet) -> None:
    fleet.keys[SignerRole.ROOT], genuine = fleet.keys[SignerRole.POLICY], fleet.signers[SignerRole.ROOT]
    fleet.new_epoch()
    false_root = type(genuine)(fleet.keys[SignerRole.POLICY], SignerRole.ROOT)
    fleet.signers[SignerRole.ROOT] = false_root
    wire.disconnect()
    wire.connect()
    wire.tick(1)
    wire.answer()
    assert wire.machine.counters["refused-bad-signature"] == 1
    assert wire.machine.verified.trust.epoch == 1
    fleet.signers[SignerRole.ROOT] = genuine
    wire.publish(*fleet.assign({"tag=hub": ("p1",), "tag=west": ("p9",)}))
    wire.settle(20)
    assert wire.machine.verified.trust.epoch == 2
    assert policy_ids(wire.state) == ["p1", "p9"]


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
    assert policy_ids(wire.state) == ["px"]
    assert set(wire.state.directory) == {"gw4"}
    wire.hand_over(old)
    assert policy_ids(wire.state) == ["px"]
    assert wire.machine.counters["refused-wrong-epoch"] >= 2


def test_saved_state_survives_json_and_needs_no_server(wire: Wire, fleet: Fleet) -> None:
    text = wire.state.model_dump_json()
    saved = FeedState.model_validate_json(text)
    assert saved == wire.state
    assert saved.directory == wire.state.directory
    again = Wire(fleet, "gw1", saved=saved)
    assert policy_ids(saved) == ["p1", "p2"]
    again.stored, again.last_sequence = wire.stored, wire.last_sequence
    again.connect()
    again.settle()
    assert not again.states  # nothing has changed
    again.publish(*fleet.assign({"tag=hub": ()}))
    again.settle(5)
    assert policy_ids(again.state) == ["p2"]


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
