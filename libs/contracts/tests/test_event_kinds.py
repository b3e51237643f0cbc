"""The kinds by which listeners choose are those of the events that there are."""

import re

from warren_contracts.events import EVENTS, KINDS


def test_every_event_has_a_kind_that_can_be_asked_for() -> None:
    told = {event.__name__: re.search(r"warren\.v1\.event\.\w+\.(\w+)\.<", event.__doc__ or "") for event in EVENTS}
    assert [name for name, kind in told.items() if kind is None] == []
    assert {kind[1] for kind in told.values() if kind is not None} == set(KINDS)
