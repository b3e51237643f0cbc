"""What a tunnel's SAs amount to, and which of them are surplus. Pure: SAs and times in, decisions out.

A tunnel is *converged* when all its children are up on its newest connection, each in its newest generation. Only then are
other SAs of it surplus: SAs of older generations, a second IKE_SA (both ends initiated at once), a second CHILD_SA of the same
configuration. One end alone takes them away, else each end could keep the other's: the tunnel's initiator after DROP_AFTER;
the other end removes older generations, and what the initiator has forgotten, and only after it had TAKEOVER_AFTER to do it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from warren_agent.drivers.port import TAKEOVER_AFTER
from warren_agent.drivers.strongswan.connections import HandleName
from warren_agent.drivers.strongswan.sas import CONNECTING, GOING, ChildSa, IkeSa
from warren_contracts.status import ReasonCode, TunnelState

DROP_AFTER = 1.0  # s; packets under the old SA are still on their way when the new one is up
# s; while a CHILD_SA is rekeyed there are two of them (RFC 7296, 2.8), of which charon marks the older one as REKEYED
DUPLICATE_AFTER = 3.0


@dataclass(frozen=True)
class DesiredHandles:
    """The newest names of a tunnel in charon, and whether this end is its initiator."""

    connection: HandleName
    children: tuple[HandleName, ...]
    owner: bool


@dataclass(frozen=True)
class Termination:
    """One SA to be closed, by its unique id: names would match all instances."""

    kind: Literal["ike", "child"]
    unique_id: int


def current_ike_sas(sas: Iterable[IkeSa], desired: DesiredHandles) -> list[IkeSa]:
    """The IKE_SAs that carry children of the tunnel on its newest configuration, newest first."""
    carrying = [sa for sa in sas if sa.handle == desired.connection and sa.up and _carried(sa, desired)]
    return sorted(carrying, key=lambda sa: -sa.unique_id)


def _carried(sa: IkeSa, desired: DesiredHandles) -> set[HandleName]:
    return {child.handle for child in sa.children if child.carries and child.handle in desired.children}


def missing_children(sas: Iterable[IkeSa], desired: DesiredHandles) -> list[HandleName]:
    """The children that no IKE_SA carries in their newest generation."""
    carried = {handle for sa in current_ike_sas(sas, desired) for handle in _carried(sa, desired)}
    return [handle for handle in desired.children if handle not in carried]


def is_converged(sas: Sequence[IkeSa], desired: DesiredHandles) -> bool:
    """Whether the tunnel is up on its newest configuration."""
    return not missing_children(sas, desired)


def state_of(sas: Sequence[IkeSa], reason: ReasonCode, desired: DesiredHandles) -> TunnelState:
    """Up if all traffic is carried, by whatever generation, and nothing is known against it; degraded if some of it is, and
    there is a reason; else the result of the last attempt."""
    if _carries_all(sas, desired):
        return TunnelState.UP if reason is ReasonCode.NONE else TunnelState.DEGRADED
    if reason is not ReasonCode.NONE and carrying_children(sas):
        return TunnelState.DEGRADED
    if reason is ReasonCode.PEER_UNREACHABLE:
        return TunnelState.DOWN
    if reason is not ReasonCode.NONE:
        return TunnelState.ERROR
    return TunnelState.CONNECTING if is_connecting(sas) else TunnelState.DOWN


def _carries_all(sas: Sequence[IkeSa], desired: DesiredHandles) -> bool:
    """Whether every child is carried. While an older configuration carries traffic, it may have other children."""
    carried = {child.handle for child in carrying_children(sas) if child.handle is not None}
    if carried - set(desired.children):
        return True
    return bool(carried) and not {handle.child for handle in desired.children} - {handle.child for handle in carried}


def is_connecting(sas: Iterable[IkeSa]) -> bool:
    """Whether a negotiation is under way."""
    return any(sa.state in CONNECTING for sa in sas)


def carrying_children(sas: Iterable[IkeSa]) -> list[ChildSa]:
    """The CHILD_SAs that carry traffic, newest first."""
    children = [child for sa in sas if sa.state not in GOING for child in sa.children if child.carries]
    return sorted(children, key=lambda child: -child.unique_id)


def surplus(sas: Sequence[IkeSa], desired: DesiredHandles, converged_for: float) -> list[Termination]:
    """What is to be closed now, `converged_for` seconds after the tunnel was first seen converged."""
    if not is_converged(sas, desired):
        return []
    kept, spare = _kept(current_ike_sas(sas, desired), desired)
    old_after = DROP_AFTER if desired.owner else TAKEOVER_AFTER
    closing: list[Termination] = []
    if converged_for >= old_after:
        closing += [_ike(sa) for sa in sas if _is_older(sa, desired) or _has_old_children_only(sa, desired)]
        closing += [
            _child(child)
            for sa in kept
            for child in sa.children
            if child.state == "INSTALLED" and child.handle not in desired.children
        ]
    if desired.owner and converged_for >= DUPLICATE_AFTER:
        closing += [_ike(sa) for sa in (*spare, *(sa for sa in sas if _is_empty(sa, desired)))]
        closing += [_child(child) for sa in kept for handle in desired.children for child in _duplicates(sa, handle)]
    if not desired.owner and converged_for >= TAKEOVER_AFTER:
        closing += _forgotten(current_ike_sas(sas, desired), desired)
    return closing


def _kept(current: Iterable[IkeSa], desired: DesiredHandles) -> tuple[list[IkeSa], list[IkeSa]]:
    """The newest IKE_SAs that together carry every child, and the others."""
    kept: list[IkeSa] = []
    spare: list[IkeSa] = []
    carried: set[HandleName] = set()
    for sa in current:
        (kept if _carried(sa, desired) - carried else spare).append(sa)
        carried |= _carried(sa, desired)
    return kept, spare


def _duplicates(sa: IkeSa, handle: HandleName) -> list[ChildSa]:
    """All but the newest of several CHILD_SAs of one child, as soon as they are old enough."""
    installed = sorted((c for c in sa.carrying(handle) if c.state == "INSTALLED"), key=lambda c: c.unique_id)
    return [child for child in installed[:-1] if child.established >= DUPLICATE_AFTER]


def has_surplus(sas: Sequence[IkeSa], desired: DesiredHandles) -> bool:
    """Whether anything would be closed later if nothing changes: then the tunnel wants another look."""
    return bool(surplus(sas, desired, converged_for=float("inf")))


def _forgotten(current: Sequence[IkeSa], desired: DesiredHandles) -> list[Termination]:
    """Duplicates that nothing ever arrived on, while packets arrive on another one: the peer does not have them, as when it gave
    up a negotiation whose last message came through, or its DELETE was lost. Packets that leave on them are lost."""
    found = []
    for handle in desired.children:
        old = [
            (sa, child)
            for sa in current
            for child in sa.carrying(handle)
            if child.state == "INSTALLED" and child.established >= TAKEOVER_AFTER
        ]
        if any(child.idle_in is not None and child.idle_in < TAKEOVER_AFTER for _, child in old):
            silent = [(sa, child) for sa, child in old if not child.traffic.packets_in]
            found += [_ike(sa) if len(sa.children) == 1 else _child(child) for sa, child in silent]
    return found


def _is_older(sa: IkeSa, desired: DesiredHandles) -> bool:
    return sa.handle is not None and sa.handle != desired.connection and sa.state not in GOING


def _has_old_children_only(sa: IkeSa, desired: DesiredHandles) -> bool:
    """Whether all that an IKE_SA of the newest connection carries is of older generations: the peer has made another for the
    newest ones."""
    installed = [child for child in sa.children if child.state == "INSTALLED"]
    return sa.up and sa.handle == desired.connection and bool(installed) and not _carried(sa, desired)


def _is_empty(sa: IkeSa, desired: DesiredHandles) -> bool:
    """Whether an IKE_SA of the newest connection has no child, and had the time to get one. A rekeyed one has another state."""
    is_settled = sa.state == "ESTABLISHED" and (sa.established or 0) >= DUPLICATE_AFTER
    return is_settled and sa.handle == desired.connection and not sa.children


def _ike(sa: IkeSa) -> Termination:
    return Termination("ike", sa.unique_id)


def _child(sa: ChildSa) -> Termination:
    return Termination("child", sa.unique_id)
