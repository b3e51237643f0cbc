"""What the reconciler decides to do: only the difference, removals first."""

from hypothesis import given
from hypothesis import strategies as st

from warren_agent.domain.reconcile import Action, plan
from warren_contracts.tunnel import Tunnel
from warren_intent.expand import expand
from warren_testkit.intent import directory, published, record

STAR = published("star", hubs=["tag=hub"], spokes=["tag=branch"])
FLEET = directory(record("hub", 1, "hub"), *(record(f"s{n}", n + 1, "branch") for n in range(1, 7)))
TUNNELS = {config.name: config for config in expand([STAR], FLEET, "hub")}


def edited(config: Tunnel) -> Tunnel:
    return config.model_copy(update={"priority": config.priority + 1})


def test_first_intent_creates_everything() -> None:
    steps, unchanged = plan(TUNNELS.values(), {}, ())
    assert [step.action for step in steps] == [Action.CREATE] * 6
    assert unchanged == 0


def test_same_intent_has_no_step() -> None:
    assert plan(TUNNELS.values(), TUNNELS, TUNNELS) == ((), 6)


def test_one_change_of_many_is_one_step() -> None:
    name = "hub+s3"
    desired = TUNNELS | {name: edited(TUNNELS[name])}
    steps, unchanged = plan(desired.values(), TUNNELS, TUNNELS)
    assert [(step.action, step.name) for step in steps] == [(Action.UPDATE, name)]
    assert unchanged == 5


def test_tunnel_of_an_earlier_run_that_nobody_wants_is_deleted() -> None:
    steps, _ = plan((), {}, ["hub+gone"])
    assert [(step.action, step.name, step.config) for step in steps] == [(Action.DELETE, "hub+gone", None)]


SUBSETS = st.sets(st.sampled_from(sorted(TUNNELS)))


@given(SUBSETS, SUBSETS, SUBSETS)
def test_steps_lead_to_what_is_wanted_with_removals_first(names: set[str], had: set[str], changed: set[str]) -> None:
    desired = {name: edited(TUNNELS[name]) if name in changed else TUNNELS[name] for name in names}
    applied = {name: TUNNELS[name] for name in had}
    steps, unchanged = plan(desired.values(), applied, had)
    result = dict(applied)
    for step in steps:
        if step.config is None:
            del result[step.name]
        else:
            result[step.name] = step.config
    assert result == desired
    assert unchanged == len([name for name in names if applied.get(name) == desired[name]])
    actions = [step.action is Action.DELETE for step in steps]
    assert actions == sorted(actions, reverse=True)
