"""The example policies are valid, have no findings in a fleet with the named peers and tags, and derive tunnels."""

from pathlib import Path

import pytest
import yaml

from warren_contracts.peers import DriverCapabilities
from warren_contracts.policy import Policy, PublishedPolicy
from warren_intent.check import check
from warren_intent.expand import expand
from warren_intent.profiles import PROFILES
from warren_testkit.intent import directory, record

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
PEERS = {
    "hub": "hub", "spoke-1": "branch", "spoke-2": "branch", "dc-1": "dc", "dc-2": "dc", "b1": "berlin", "p1": "paris",
    "office": "office", "lab": "lab", "shop": "shop", "warehouse": "warehouse",
}  # fmt: skip
ABLE = DriverCapabilities(features=("selectors", "vips", "pools"))
FLEET = directory(
    *(record(peer, number, tag, driver=ABLE) for number, (peer, tag) in enumerate(PEERS.items())),
    record("laptop", 99, "roaming", subnets=(), endpoints=(), driver=ABLE),
)
TAGS = {*PEERS.values(), "roaming"}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_derives_tunnels_without_findings(path: Path) -> None:
    text = path.read_text()
    policy = Policy.model_validate(yaml.safe_load(text))
    assert check([policy], FLEET, TAGS) == ()
    published = PublishedPolicy(revision=1, policy=policy)
    assert any(expand([published], FLEET, peer) for peer in FLEET)
    assert f"warren policy apply examples/{path.name}" in text


def test_the_examples_do_not_conflict() -> None:
    policies = [Policy.model_validate(yaml.safe_load(path.read_text())) for path in EXAMPLES]
    assert check(policies, FLEET, TAGS) == ()


def test_the_documentation_lists_every_profile() -> None:
    text = (ROOT / "docs" / "policies.md").read_text()
    for profile in PROFILES.values():
        assert f"| `{profile.name}` | {profile.title} | `{profile.ike[0]}` | `{profile.esp[0]}` |" in text
