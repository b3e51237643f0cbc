import pytest

from warren_testkit.bus.fleet import Fleet
from warren_testkit.bus.wire import Wire


@pytest.fixture
def fleet() -> Fleet:
    """One peer, gw1, in two tags."""
    fleet = Fleet()
    fleet.enrol("gw1", "hub", "west")
    return fleet


@pytest.fixture
def wire(fleet: Fleet) -> Wire:
    """gw1's machine, which has read a policy of each tag and one record."""
    wire = Wire(fleet, "gw1")
    wire.publish(*fleet.assign({"tag=hub": ("p1",), "tag=west": ("p2",)}))
    wire.publish(fleet.put_record("tag=hub", "gw2"))
    wire.connect()
    wire.tick(0)
    wire.settle()
    return wire
