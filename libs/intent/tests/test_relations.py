"""The readers of a policy, and the records that each reader sees."""

from warren_intent.relations import readers, relations
from warren_testkit.intent import published

TAGS = {"hub-1": ("hub",), "spoke-1": ("branch",), "spoke-2": ("branch",), "other": ()}
STAR = published("star", hubs=["tag=hub"], spokes=["tag=branch"], applies_to=["tag=audit"])


def test_readers_are_those_that_the_policy_names() -> None:
    assert readers(STAR.policy) == {"tag=hub", "tag=branch", "tag=audit"}
    explicit = {"name": "t", "ends": [{"peer": "a"}, {"peer": "b"}]}
    assert readers(published("t", tunnels=[explicit]).policy) == {"peer=a", "peer=b"}
    assert readers(published("m", members=["all", "tag=x"]).policy) == {"all", "tag=x"}


def test_each_role_sees_the_other_and_each_peer_itself() -> None:
    assert relations([STAR], TAGS) == {
        "peer=hub-1": {"hub-1"},
        "peer=spoke-1": {"spoke-1"},
        "peer=spoke-2": {"spoke-2"},
        "peer=other": {"other"},
        "tag=hub": {"spoke-1", "spoke-2"},
        "tag=branch": {"hub-1"},
    }


def test_in_transit_spokes_see_each_other() -> None:
    related = relations([published("star", hubs=["tag=hub"], spokes=["tag=branch"], transit=True)], TAGS)
    assert related["tag=branch"] == {"hub-1", "spoke-1", "spoke-2"}


def test_a_disabled_policy_relates_no_peers() -> None:
    assert "tag=hub" not in relations([published("m", members=["tag=hub"], enabled=False)], TAGS)
