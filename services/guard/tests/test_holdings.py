"""What stays protected after an agent no longer derives it, and for how long."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from warren_contracts.guard import HeldState, ProtectRequest
from warren_contracts.protection import ProtectedTraffic
from warren_guard.domain import holdings
from warren_guard.domain.holdings import Holdings
from warren_guard.errors import TooManyElementsError


def entry(policy: str, tunnel: str = "t", **changes: Any) -> ProtectedTraffic:
    pairs = [{"local": ["10.1.0.0/24"], "remote": ["10.2.0.0/24"]}]
    return ProtectedTraffic.model_validate({"policy": policy, "tunnel": tunnel, "pairs": pairs, **changes})


def protect(held: Holdings, *traffic: ProtectedTraffic, retained: Any = (), now: float = 0.0) -> Holdings:
    return holdings.protect(held, ProtectRequest(traffic=traffic, retained=retained), now)


def states(held: Holdings) -> dict[tuple[str, str], HeldState]:
    return {key: it.state for key, it in held.items()}


def test_what_is_deleted_ends_at_once_or_after_its_time_or_when_it_is_released() -> None:
    held = protect({}, entry("now"), entry("later", after_delete=60), entry("never", after_delete="keep"))
    held = protect(held, now=100.0)
    assert states(held) == {("later", "t"): HeldState.EXPIRING, ("never", "t"): HeldState.KEPT}
    assert holdings.next_deadline(held) == 160.0
    held = protect(held, now=150.0)  # another round does not prolong it
    assert states(holdings.expire(held, 159.0)) == states(held)
    held = holdings.expire(held, 160.0)
    assert states(held) == {("never", "t"): HeldState.KEPT}
    assert holdings.next_deadline(held) is None
    assert holdings.release(held, "never") == {}


def test_what_is_retained_stays_and_returns() -> None:
    held = protect({}, entry("p", after_delete=1))
    held = protect(held, retained=[("p", "t"), ("unknown", "t")])
    assert states(held) == {("p", "t"): HeldState.RETAINED}
    assert states(protect(held, entry("p"))) == {("p", "t"): HeldState.WANTED}
    gone = protect(held, now=5.0)
    assert (gone["p", "t"].state, gone["p", "t"].deadline) == (HeldState.EXPIRING, 6.0)


def test_a_deleted_policy_that_is_applied_again_is_wanted_with_its_new_traffic() -> None:
    held = protect(protect({}, entry("p", after_delete="keep")))
    assert states(held) == {("p", "t"): HeldState.KEPT}
    held = protect(held, entry("p", peer="hub"))
    assert held["p", "t"].traffic.peer == "hub"
    assert states(held) == {("p", "t"): HeldState.WANTED}


def test_release_ends_only_what_no_agent_derives() -> None:
    held = protect({}, entry("a", after_delete="keep"), entry("b", after_delete="keep"), entry("c"))
    held = protect(held, entry("c"))
    assert set(holdings.release(held, "a")) == {("b", "t"), ("c", "t")}
    assert set(holdings.release(held, "c")) == set(held)
    assert set(holdings.release(held, None)) == {("c", "t")}


def test_too_many_deleted_tunnels_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holdings, "MAX_ENTRIES", 2)
    held = protect({}, entry("a", after_delete="keep"), entry("b", after_delete="keep"))
    with pytest.raises(TooManyElementsError, match="release deleted ones"):
        protect(held, entry("c"))


def test_description_gives_the_wall_clocks_time() -> None:
    held = protect(protect({}, entry("p", after_delete=60, peer="hub")), now=10.0)
    wall = datetime(2026, 1, 1, tzinfo=UTC)
    (described,) = holdings.describe(held, 30.0, wall)
    assert (described.until, described.peer) == (wall + timedelta(seconds=40), "hub")
