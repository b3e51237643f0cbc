"""The feed's machine and changes of several readers: no state shows half a batch, and a lost half is requested."""

from warren_bus.feed.commands import GetPolicySet
from warren_testkit.bus.fleet import Fleet
from warren_testkit.bus.wire import Wire, policy_ids


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
    assert [policy_ids(state) for state in wire.states[before:]] == [["p1", "p2"]]


def test_missing_part_of_a_batch_is_requested(wire: Wire, fleet: Fleet) -> None:
    wire.publish(*fleet.assign({"tag=hub": (), "tag=west": ("p1", "p2")}))
    wire.deliver(0)
    wire.live.clear()  # the other half is lost
    wire.tick(0.3)
    assert [request.reader for request in wire.requests if isinstance(request, GetPolicySet)] == ["tag=west"]
    wire.answer()
    assert policy_ids(wire.state) == ["p1", "p2"]
    assert wire.machine.counters["batch-incomplete"] == 0


def test_batch_is_waited_for_although_a_later_set_replaced_its_half(wire: Wire, fleet: Fleet) -> None:
    wire.publish(*fleet.assign({"tag=hub": (), "tag=west": ("p1", "p2")}), *fleet.assign({"tag=hub": ("p9",)}))
    west = wire.live.pop(1)
    before = len(wire.states)
    wire.deliver(0)
    wire.deliver(0)
    assert len(wire.states) == before
    wire.hand_over(west)
    assert policy_ids(wire.state) == ["p1", "p2", "p9"]


def test_gap_holds_states_back_until_the_sets_were_read_again(wire: Wire, fleet: Fleet) -> None:
    wire.publish(*fleet.assign({"tag=hub": ("p1",)}))
    wire.deliver()
    before = len(wire.states)
    wire.publish(*fleet.assign({"tag=hub": (), "tag=west": ("p1", "p2")}), *fleet.assign({"tag=hub": ("p9",)}))
    del wire.live[:2]  # the whole batch is lost
    wire.deliver()
    assert len(wire.states) == before
    wire.settle(2)
    assert [policy_ids(state) for state in wire.states[before:]] == [["p1", "p2", "p9"]]


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
    assert policy_ids(wire.state) == ["p2", "p3"]
    assert wire.machine.counters["batch-incomplete"] == 1


def test_batch_of_readers_that_are_not_ours_is_not_waited_for(wire: Wire, fleet: Fleet) -> None:
    wire.publish(*fleet.assign({"tag=hub": ("p3",), "tag=spoke": ("p3",), "peer=gw7": ()}))
    wire.deliver()
    assert policy_ids(wire.state) == ["p2", "p3"]
