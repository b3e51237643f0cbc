"""How far a policy's current revision has got, and its series."""

from datetime import datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from warren_contracts.policy import Policy, PublishedPolicy
from warren_contracts.rollouts import MAX_WAITING, PolicyRollout, RolloutState
from warren_contracts.telemetry import Applied
from warren_metrics.adapters.prometheus import FleetScraper
from warren_metrics.domain.policy_gateways import PolicyGateways
from warren_metrics.domain.rollouts import Rollouts
from warren_testkit.examples import examples
from warren_testkit.metrics import START, Talk, samples_of, status, text_of

APPLIED, PENDING, FAILED, UNREACHABLE = RolloutState


def published(policy: str, revision: int, *members: str) -> PublishedPolicy:
    topology = {"kind": "mesh", "members": members or ("tag=branch", "tag=hub")}
    return PublishedPolicy(revision=revision, policy=Policy.model_validate({"id": policy, "topology": topology}))


class World:
    """Gateways that report, and the policies that are published to them."""

    def __init__(self) -> None:
        self.talk, self.rollouts, self.edited = Talk(), Rollouts(), dict[int, datetime]()

    def publish(self, *policies: PublishedPolicy, epoch: int = 1) -> None:
        self.rollouts.publish(policies, epoch, self.talk.now)

    def report(self, peer: str, *others: str, policy: str = "branches") -> None:
        self.talk.report(peer, *(status("+".join(sorted((peer, it))), peer=it, policy=policy) for it in others))

    def applied(self, peer: str, revision: int, *, ok: bool = True, epoch: int = 1) -> None:
        now = self.talk.now
        body = Applied(at=now, epoch=epoch, revision=revision, ok=ok, duration_ms=1, delivered_at=now)
        self.talk.say(peer, "applied", body)

    def progress(self, later: timedelta = timedelta()) -> dict[str, PolicyRollout]:
        found = self.rollouts.progress(self.talk.fleet, self.edited, self.talk.now + later)
        return {it.policy: it for it in found}

    def counts(self, policy: str = "branches") -> list[int]:
        return [self.progress()[policy].gateways[it] for it in (APPLIED, PENDING, FAILED, UNREACHABLE)]

    def scraper(self) -> FleetScraper:
        def progress(now: datetime) -> list[PolicyRollout]:
            return self.rollouts.progress(self.talk.fleet, self.edited, now)

        return FleetScraper(self.talk.fleet, CollectorRegistry(), lambda: self.talk.now, rollouts=progress)


def test_a_revision_is_followed_until_every_gateway_has_applied_it() -> None:
    world = World()
    world.report("hub", "gw1", "gw2")
    world.applied("hub", 6)
    world.publish(published("branches", 7))
    assert world.counts() == [0, 1, 0, 2]  # the ends of hub's tunnels have reported nothing yet
    world.report("gw1", "hub")
    world.report("gw2", "hub")
    world.applied("hub", 7)
    world.applied("gw1", 7, ok=False)
    assert world.counts() == [1, 1, 1, 0]
    rollout = world.progress()["branches"]
    assert [(it.peer, it.state) for it in rollout.waiting] == [("gw1", FAILED), ("gw2", PENDING)]
    world.applied("gw1", 8)
    world.applied("gw2", 7)
    assert world.counts() == [3, 0, 0, 0]
    assert world.progress()["branches"].since is None


def test_a_gateway_that_is_offline_is_unreachable_unless_it_has_applied_the_revision() -> None:
    world = World()
    world.report("gw1", "hub")
    world.report("hub", "gw1")
    world.publish(published("branches", 3))
    world.applied("gw1", 3)
    world.applied("hub", 3, ok=False)
    later = world.progress(timedelta(minutes=5))["branches"]
    assert later.gateways == {APPLIED: 1, PENDING: 0, FAILED: 0, UNREACHABLE: 1}


def test_an_edit_begins_again_and_other_policies_go_on() -> None:
    world = World()
    world.report("gw1", "hub")
    world.report("gw2", "gw1", policy="mesh")
    world.publish(published("branches", 3), published("mesh", 2))
    for peer in ("gw1", "gw2", "hub"):
        world.applied(peer, 3)
    assert (world.counts(), world.counts("mesh")) == ([2, 0, 0, 0], [2, 0, 0, 0])
    world.publish(published("branches", 4), published("mesh", 2))
    assert (world.counts(), world.counts("mesh")) == ([0, 2, 0, 0], [2, 0, 0, 0])
    world.publish(published("mesh", 2))
    assert set(world.progress()) == {"mesh"}


def test_after_a_restore_a_lower_revision_of_the_new_epoch_counts() -> None:
    world = World()
    world.report("gw1", "hub")
    world.report("hub", "gw1")
    for peer in ("gw1", "hub"):
        world.applied(peer, 40)
    world.publish(published("branches", 9), epoch=2)
    assert world.counts() == [0, 2, 0, 0]
    world.applied("gw1", 9, epoch=2)
    world.applied("hub", 9, epoch=2, ok=False)
    assert world.counts() == [1, 0, 1, 0]


def test_gateways_that_a_policy_names_are_concerned_before_any_reports_a_tunnel() -> None:
    world = World()
    world.talk.presence("gw1")
    world.talk.presence("gw9")
    world.publish(published("named", 1, "peer=gw1", "peer=hub"), published("all", 1, "all"))
    assert (world.counts("named"), world.counts("all")) == ([0, 1, 0, 1], [0, 2, 0, 0])


def test_members_of_a_tag_are_concerned_before_any_of_them_reports_a_tunnel() -> None:
    world = World()
    for peer in ("gw1", "gw2", "gw3", "gw9"):
        world.talk.presence(peer)
    world.rollouts.set_tags({"gw1": ("branch",), "gw2": ("branch", "lab"), "gw3": ("hub",), "gw4": ("hub",), "gw9": ()})
    world.publish(published("branches", 7), published("named", 7, "peer=gw9", "peer=gw8"), published("all", 7, "all"))
    assert world.counts() == [0, 3, 0, 1]  # gw4 has never been online
    assert (world.counts("named"), world.counts("all")) == ([0, 1, 0, 0], [0, 4, 0, 1])  # gw8 is not in the directory
    world.applied("gw1", 7)
    assert world.counts() == [1, 2, 0, 1]


def test_a_changed_tag_and_a_removed_peer_are_not_concerned_any_more() -> None:
    world = World()
    for peer in ("gw1", "gw2", "gw3"):
        world.report(peer, "hub")
    tags = {"gw1": ("branch",), "gw2": ("branch",), "gw3": ("branch",)}
    world.rollouts.set_tags(tags)
    world.publish(published("branches", 7))
    assert world.counts() == [0, 3, 0, 0]  # hub is in no directory
    world.rollouts.set_tags(tags | {"gw2": ("lab",)})
    assert world.counts() == [0, 2, 0, 0]  # gw2 still reports a tunnel of it
    world.rollouts.set_tags({"gw2": ("lab",), "gw3": ("branch",)})
    assert world.counts() == [0, 1, 0, 0]
    world.applied("gw3", 7)
    assert (world.counts(), world.progress()["branches"].since) == ([1, 0, 0, 0], None)
    world.rollouts.set_tags(tags)
    assert world.counts() == [1, 2, 0, 0]


def test_since_is_the_time_of_the_edit_or_else_of_the_first_sight() -> None:
    world = World()
    world.report("gw1", "hub")
    world.publish(published("branches", 3))
    assert world.progress()["branches"].since == world.talk.now
    world.edited[3] = START - timedelta(hours=1)
    assert world.progress()["branches"].since == START - timedelta(hours=1)


def test_a_reply_names_few_of_many_gateways() -> None:
    world = World()
    world.report("hub", *(f"gw{n}" for n in range(80)))
    world.publish(published("branches", 1))
    rollout = world.progress()["branches"]
    assert (len(rollout.waiting), rollout.gateways[UNREACHABLE]) == (MAX_WAITING, 80)


REPORTS = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from("abcd"), st.sampled_from(["p", "q", None])), max_size=25
)


@given(reports=REPORTS)
@examples(200)
def test_the_gateways_of_a_policy_are_those_of_the_tunnels_that_are_reported_now(
    reports: list[tuple[str, str, str | None]],
) -> None:
    gateways = PolicyGateways()
    held: dict[tuple[str, str], str] = {}
    for peer, other, policy in reports:
        tunnel = "+".join(sorted((peer, other))) if peer != other else peer
        before = held.pop((peer, tunnel), None)
        gateways.change(peer, tunnel, before, policy)
        if policy is not None:
            held[peer, tunnel] = policy
    for policy in ("p", "q"):
        wanted = {end for (peer, tunnel), of in held.items() if of == policy for end in (peer, *tunnel.split("+"))}
        assert set(gateways.of(policy)) == wanted


async def test_series_have_a_line_for_each_state_and_the_start_while_it_is_not_complete() -> None:
    world = World()
    scraper = world.scraper()

    async def lines() -> dict[Any, float]:
        samples = samples_of(await text_of(scraper))
        return {
            (name, *sorted(dict(labels).values())): value
            for (name, labels), value in samples.items()
            if "rollout" in name
        }

    name, start = "warren_policy_rollout_gateways", "warren_policy_rollout_start_timestamp_seconds"
    world.report("gw1", "hub")
    world.report("hub", "gw1")
    world.publish(published("branches", 3))
    world.edited[3] = START
    world.applied("hub", 3)
    assert await lines() == {
        (name, "applied", "branches"): 1, (name, "branches", "pending"): 1, (name, "branches", "failed"): 0,
        (name, "branches", "unreachable"): 0, (start, "branches"): START.timestamp(),
    }  # fmt: skip
    world.applied("gw1", 3)
    assert (start, "branches") not in await lines()
    assert (await lines())[name, "applied", "branches"] == 2
    world.publish()
    assert await lines() == {}
