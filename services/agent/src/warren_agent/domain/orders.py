"""Orders of operators to this host's tunnels, which come in its own record. Pure."""

from datetime import datetime
from typing import NamedTuple

from warren_contracts.names import IKE_SA, child_of
from warren_contracts.peers import PeerRecord, TunnelOrder

ORDER_SECONDS = 120.0  # either way, for clocks that differ: what an operator wanted then is not what is wanted now


class OrderedSas(NamedTuple):
    """The SAs of a tunnel that an order means: the IKE_SA or not, and the CHILD_SAs of some children, or of all."""

    ike: bool = True
    children: frozenset[str] | None = None  # None: all


def ordered_sas(order: TunnelOrder) -> OrderedSas | None:
    """What an order means; None: this version does not know it."""
    if not order.sa:
        return OrderedSas()
    if order.sa == IKE_SA:
        return OrderedSas(children=frozenset())
    child = child_of(order.sa)
    return None if child is None else OrderedSas(False, frozenset({child}))


def due_order(record: PeerRecord | None, last: int, now: datetime) -> TunnelOrder | None:
    """The order of our own record that is newer than the `last` executed one, and recent; None: there is none."""
    order = record.order if record is not None else None
    if order is None or order.id <= last or abs((now - order.at).total_seconds()) > ORDER_SECONDS:
        return None
    return order
