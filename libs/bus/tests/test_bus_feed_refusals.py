"""What the feed's machine refuses: older, forged and oversized documents, and those of other readers."""

import json

import pytest

from warren_contracts import subjects
from warren_contracts.documents import SignerRole
from warren_testkit.bus.fleet import Fleet
from warren_testkit.bus.wire import Wire, policy_ids


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
    assert wire.machine.errors == 0
    assert wire.machine.verified.tags == ("west",)


def test_replayed_older_set_is_refused(wire: Wire, fleet: Fleet) -> None:
    first = wire.publish(*fleet.assign({"tag=hub": ("p7",)}))[0]
    wire.publish(*fleet.assign({"tag=hub": ("p8",)}))
    wire.settle(5)
    wire.hand_over(first)
    assert policy_ids(wire.state) == ["p2", "p8"]
    assert wire.machine.counters["refused-older-revision"] == 1


def test_record_that_a_snapshot_no_longer_held_cannot_come_back(wire: Wire, fleet: Fleet) -> None:
    old = wire.publish(fleet.put_record("tag=hub", "gw3"))[0]
    wire.settle(5)
    del fleet.records["tag=hub"]["gw3"]  # withdrawn, published for 30 days, reclaimed
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
    assert not wire.machine.enqueue_live("$JS.ACK.live.warren.v1.policy.tag=hub", None, b"{}", wire.now)
    assert not wire.machine.enqueue_live("$JS.ACK.live.x", {}, b"{}", wire.now)


def test_too_large_document_is_refused_before_its_signature(wire: Wire, fleet: Fleet) -> None:
    subject, headers, _ = wire.publish(*fleet.assign({"tag=hub": ()}))[0]
    wire.live.clear()
    wire.hand_over((subject, headers, b" " * 900_001))
    assert wire.machine.counters["refused-too-large"] == 1


def test_signed_nonsense_is_one_typed_refusal(wire: Wire, fleet: Fleet) -> None:
    for text in ("", "[]", '{"reader": 1}', "\x00", "[" * 2_000):
        revision = fleet.next_revision()
        wire.publish(fleet.sign(subjects.policy("tag=hub"), 1, revision, text, SignerRole.POLICY))
        wire.deliver()
    assert wire.machine.counters["refused-malformed"] == wire.machine.errors == 5


def test_fields_of_a_newer_writer_are_ignored(wire: Wire, fleet: Fleet) -> None:
    fleet.assign({"tag=hub": ("p9",)})
    document = json.loads(fleet.sets["tag=hub"].model_dump_json())
    document["new"] = document["policies"][0]["new"] = document["policies"][0]["policy"]["new"] = {"x": 1}
    text = json.dumps(document)
    wire.publish(fleet.sign(subjects.policy("tag=hub"), 1, fleet.revision, text, SignerRole.POLICY))
    wire.deliver()
    assert policy_ids(wire.state) == ["p2", "p9"]


def test_signed_set_of_another_reader_is_refused(wire: Wire, fleet: Fleet) -> None:
    fleet.assign({"tag=spoke": ("p1",)})
    text = fleet.sets["tag=spoke"].model_dump_json()
    wire.publish(fleet.sign(subjects.policy("tag=hub"), 1, fleet.revision, text, SignerRole.POLICY))
    wire.deliver()
    assert wire.machine.counters["refused-wrong-subject"] == 1


def test_flood_is_bounded_and_starts_a_synchronisation(wire: Wire, fleet: Fleet) -> None:
    live = wire.publish(*fleet.assign({"tag=hub": ("p9",)}))[0]
    wire.live.clear()
    accepted = sum(wire.machine.enqueue_live(live[0], live[1], b" " * 8_000_000, wire.now) for _ in range(10))
    assert accepted == 2
    assert wire.machine.counters["overflow"] == 8
    wire.settle(15)
    assert policy_ids(wire.state) == ["p2", "p9"]
