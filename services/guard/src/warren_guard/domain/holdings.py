"""What the guard protects: what an agent derives, what it retains, and what was deleted and is not released yet. Pure.

Times are seconds of a monotonic clock, so that a wall clock that jumps ends no protection.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from warren_contracts.guard import Held, HeldState, Key, ProtectRequest
from warren_contracts.names import PolicyId
from warren_contracts.protection import KEEP, ProtectedTraffic
from warren_guard.errors import TooManyElementsError

MAX_ENTRIES = 40_000  # as many deleted tunnels as wanted ones

DELETED = (HeldState.EXPIRING, HeldState.KEPT)


@dataclass(frozen=True, slots=True)
class Holding:
    """One tunnel's traffic. `deadline` is set while it is expiring."""

    traffic: ProtectedTraffic
    state: HeldState = HeldState.WANTED
    deadline: float | None = None


Holdings = Mapping[Key, Holding]


def protect(held: Holdings, request: ProtectRequest, now: float) -> dict[Key, Holding]:
    """The holdings after an agent stated its traffic. What it no longer names is deleted: see `_deleted`.

    Raises:
        TooManyElementsError: too many deleted tunnels were never released.
    """
    found = {entry.key: Holding(entry) for entry in request.traffic}
    retained = set(request.retained)
    for key, entry in held.items():
        if key in found:
            continue
        left = replace(entry, state=HeldState.RETAINED, deadline=None) if key in retained else _deleted(entry, now)
        if left is not None:
            found[key] = left
    if len(found) > MAX_ENTRIES:
        raise TooManyElementsError(
            f"{len(found):,} tunnels are protected, {MAX_ENTRIES:,} is the limit: release deleted ones"
        )
    return found


def _deleted(entry: Holding, now: float) -> Holding | None:
    if entry.state in DELETED:
        return entry
    after = entry.traffic.after_delete
    if after == KEEP:
        return replace(entry, state=HeldState.KEPT)
    return replace(entry, state=HeldState.EXPIRING, deadline=now + float(after)) if after else None


def release(held: Holdings, policy: PolicyId | None) -> dict[Key, Holding]:
    """The holdings without what no agent derives any more, of one policy or of all."""
    return {
        key: entry
        for key, entry in held.items()
        if entry.state is HeldState.WANTED or (policy is not None and key[0] != policy)
    }


def expire(held: Holdings, now: float) -> dict[Key, Holding]:
    """The holdings without what has expired."""
    return {key: entry for key, entry in held.items() if entry.deadline is None or entry.deadline > now}


def next_deadline(held: Holdings) -> float | None:
    """When the next entry expires."""
    return min((entry.deadline for entry in held.values() if entry.deadline is not None), default=None)


def traffic(held: Holdings) -> Iterable[ProtectedTraffic]:
    """All protected traffic, in order of keys."""
    return (held[key].traffic for key in sorted(held))


def describe(held: Holdings, now: float, wall: datetime) -> tuple[Held, ...]:
    """The holdings as a reply names them, in order of keys."""
    return tuple(
        Held(
            policy=key[0], tunnel=key[1], peer=entry.traffic.peer, protect=entry.traffic.protect, state=entry.state,
            until=None if entry.deadline is None else wall + timedelta(seconds=max(0.0, entry.deadline - now)),
        )
        for key, entry in sorted(held.items())
    )  # fmt: skip
