"""KINDS lists the kinds of all events."""

import re

from warren_contracts.events import EVENTS, KINDS


def test_every_event_has_a_kind_that_can_be_filtered() -> None:
    found = {event.__name__: re.search(r"warren\.v1\.event\.\w+\.(\w+)\.<", event.__doc__ or "") for event in EVENTS}
    assert [name for name, kind in found.items() if kind is None] == []
    assert {kind[1] for kind in found.values() if kind is not None} == set(KINDS)
