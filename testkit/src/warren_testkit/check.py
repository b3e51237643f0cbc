"""What `check` finds in policies for a small fleet."""

from typing import Any

from warren_contracts.peers import PeerRecord
from warren_contracts.policy import PublishedPolicy
from warren_intent.check import check
from warren_intent.findings import Code, Finding
from warren_testkit.intent import directory, record

TAGS = ("hub", "branch")
FLEET = directory(record("hub-1", 1, "hub"), record("spoke-1", 11, "branch"), record("spoke-2", 12, "branch"))


def findings(*policies: PublishedPolicy, fleet: dict[str, PeerRecord] = FLEET) -> tuple[Finding, ...]:
    """Everything that is found; both tags are known."""
    return check(policies, fleet, TAGS)


def only(found: tuple[Finding, ...], code: Code) -> Finding:
    """The one finding with this code."""
    matching = [finding for finding in found if finding.code is code]
    assert len(matching) == 1, found
    return matching[0]


def fleet_with(peer: str, **changes: Any) -> dict[str, PeerRecord]:
    """The fleet with these changes of one record."""
    return FLEET | {peer: FLEET[peer].model_copy(update=changes)}


def explicit(name: str, first: str, second: str, **changes: Any) -> dict[str, Any]:
    """An explicit tunnel between two peers."""
    return {"name": name, "ends": [{"peer": first}, {"peer": second}], **changes}
