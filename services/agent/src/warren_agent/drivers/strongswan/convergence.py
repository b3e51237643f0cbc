"""What a tunnel's SAs amount to, and which of them are surplus. Pure: SAs and times in, decisions out.

A tunnel is *settled* when it is up on its newest connection and child. Only then are other SAs of it surplus: SAs of older
generations, a second IKE_SA (both ends initiated at once), a second CHILD_SA of the same configuration. One end alone
takes them away, else each end could keep the other's: the tunnel's initiator after DROP_AFTER; the other end removes older
generations only, and only after the initiator had TAKEOVER_AFTER to do it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from warren_agent.drivers.port import TAKEOVER_AFTER
from warren_agent.drivers.strongswan.connections import HandleName
from warren_agent.drivers.strongswan.sas import CONNECTING, GOING, ChildSa, IkeSa
from warren_contracts.status import ReasonCode, TunnelState

DROP_AFTER = 1.0  # s; packets under the old SA are still on their way when the new one is up
DUPLICATE_AFTER = 10.0  # s; while a CHILD_SA is rekeyed there are two of them (RFC 7296, 2.8)


@dataclass(frozen=True)
class DesiredHandles:
    """The newest names of a tunnel in charon, and whether this end is its initiator."""

    connection: HandleName
    child: HandleName
    owner: bool


@dataclass(frozen=True)
class Termination:
    """One SA to be closed, by its unique id: names would match all instances."""

    kind: Literal["ike", "child"]
    unique_id: int


def current_ike_sas(sas: Iterable[IkeSa], wanted: DesiredHandles) -> list[IkeSa]:
    """The IKE_SAs that carry the tunnel on its newest configuration, newest first."""
    carrying = [sa for sa in sas if sa.handle == wanted.connection and sa.up and sa.carrying(wanted.child)]
    return sorted(carrying, key=lambda sa: -sa.unique_id)


def is_settled(sas: Sequence[IkeSa], wanted: DesiredHandles) -> bool:
    """Whether the tunnel is up on its newest configuration."""
    return bool(current_ike_sas(sas, wanted))


def state_of(sas: Sequence[IkeSa], reason: ReasonCode) -> TunnelState:
    """Up on whatever generation; else what the last attempt came to, as long as no newer one succeeded."""
    if carrying_children(sas):
        return TunnelState.UP
    if reason is ReasonCode.PEER_UNREACHABLE:
        return TunnelState.DOWN
    if reason is not ReasonCode.NONE:
        return TunnelState.ERROR
    return TunnelState.CONNECTING if is_connecting(sas) else TunnelState.DOWN


def is_connecting(sas: Iterable[IkeSa]) -> bool:
    """Whether a negotiation is under way."""
    return any(sa.state in CONNECTING for sa in sas)


def carrying_children(sas: Iterable[IkeSa]) -> list[ChildSa]:
    """The CHILD_SAs that carry traffic, newest first."""
    children = [child for sa in sas if sa.state not in GOING for child in sa.children if child.carries]
    return sorted(children, key=lambda child: -child.unique_id)


def surplus(sas: Sequence[IkeSa], wanted: DesiredHandles, settled_for: float) -> list[Termination]:
    """What is to be closed now, `settled_for` seconds after the tunnel was first seen settled."""
    current = current_ike_sas(sas, wanted)
    if not current:
        return []
    kept = current[0]
    old_after = DROP_AFTER if wanted.owner else TAKEOVER_AFTER
    closing: list[Termination] = []
    if settled_for >= old_after:
        closing += [_ike(sa) for sa in sas if _is_older(sa, wanted)]
        closing += [_child(c) for c in kept.children if c.state == "INSTALLED" and c.handle != wanted.child]
    if wanted.owner and settled_for >= DUPLICATE_AFTER:
        closing += [_ike(sa) for sa in current[1:]]
        installed = sorted(
            (c for c in kept.carrying(wanted.child) if c.state == "INSTALLED"), key=lambda c: c.unique_id
        )
        closing += [_child(child) for child in installed[:-1] if child.established >= DUPLICATE_AFTER]
    return closing


def has_surplus(sas: Sequence[IkeSa], wanted: DesiredHandles) -> bool:
    """Whether anything would be closed later if nothing changes: then the tunnel wants another look."""
    return bool(surplus(sas, wanted, settled_for=float("inf")))


def _is_older(sa: IkeSa, wanted: DesiredHandles) -> bool:
    return sa.handle is not None and sa.handle != wanted.connection and sa.state not in GOING


def _ike(sa: IkeSa) -> Termination:
    return Termination("ike", sa.unique_id)


def _child(sa: ChildSa) -> Termination:
    return Termination("child", sa.unique_id)
