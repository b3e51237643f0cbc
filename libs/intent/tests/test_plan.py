"""The effect of a change on live tunnels."""

from typing import Any

import pytest

from warren_intent.plan import Effect, plan
from warren_intent.profiles import PROFILES
from warren_testkit.intent import directory, published, record

FLEET = directory(record("hub-1", 1, "hub"), record("spoke-1", 11, "branch"), record("spoke-2", 12, "branch"))
STAR: dict[str, Any] = {"hubs": ["tag=hub"], "spokes": ["tag=branch"]}
BEFORE = published("star", **STAR)


def effects(*after: Any) -> dict[str, Effect]:
    return {it.name: it.effect for it in plan([BEFORE], after, FLEET)}


def test_descriptions_and_priorities_change_no_tunnel() -> None:
    after = published("star", revision=9, description="renamed", priority=7, **STAR)
    assert set(effects(after).values()) == {Effect.UNTOUCHED}


def test_an_edit_for_one_spoke_leaves_the_other_untouched() -> None:
    strict = published("strict", hubs=["tag=hub"], spokes=["peer=spoke-1"], priority=200, crypto={"profile": "cnsa1"})
    assert effects(BEFORE, strict) == {"hub-1+spoke-1": Effect.IKE, "hub-1+spoke-2": Effect.UNTOUCHED}


def test_a_policy_that_moves_between_priorities_names_its_owner() -> None:
    strict = published("strict", hubs=["tag=hub"], spokes=["peer=spoke-1"], priority=200)
    assert [it.policy for it in plan([BEFORE], [BEFORE, strict], FLEET)] == ["strict", "star"]


@pytest.mark.parametrize(
    ("change", "effect"),
    [
        ({"options": {"child": {"rekey_time": 1_800}}}, Effect.CHILD),
        ({"options": {"child": {"replay_window": 128}}}, Effect.CHILD),
        ({"crypto": {"esp": ["aes128gcm16-x25519"]}}, Effect.CHILD),
        ({"transit": True}, Effect.CHILD),
        ({"crypto": {"ike": ["aes256gcm16-prfsha384-x25519"]}}, Effect.IKE),
        ({"options": {"ike": {"dpd_delay": 10}}}, Effect.IKE),
        ({"options": {"ike": {"mobike": True}}}, Effect.IKE),
    ],
)
def test_the_level_of_a_change(change: dict[str, Any], effect: Effect) -> None:
    assert set(effects(published("star", **STAR, **change)).values()) == {effect}


def test_tunnels_come_and_go() -> None:
    assert set(effects().values()) == {Effect.REMOVED}
    assert {it.effect for it in plan([], [BEFORE], FLEET)} == {Effect.NEW}
    assert effects(published("star", hubs=["tag=hub"], spokes=["peer=spoke-1"]))["hub-1+spoke-2"] is Effect.REMOVED


@pytest.mark.parametrize(
    "change",
    [
        {"options": {"child": {"life_time": 3_960, "rekey_time": 3_600}, "ike": {"over_time": 1_440}}},
        {"children": [{"name": "net"}]},
        {"crypto": {"ike": [str(it) for it in PROFILES["default"].ike]}},
    ],
)
def test_a_stated_default_changes_nothing(change: dict[str, Any]) -> None:
    assert set(effects(published("star", **STAR, **change)).values()) == {Effect.UNTOUCHED}


def test_another_child_leaves_the_ike_sa() -> None:
    children = [{"name": "web", "protocol": "tcp", "ports": [443, "any"]}, {"name": "voice", "protocol": "udp"}]
    assert set(effects(published("star", **STAR, children=children)).values()) == {Effect.CHILD}
