"""Orders of operators to this host's tunnels, which come in its own record. Pure."""

from datetime import datetime

from warren_contracts.peers import PeerRecord, TunnelOrder

ORDER_SECONDS = 120.0  # either way, for clocks that differ: what an operator wanted then is not what is wanted now


def due_order(record: PeerRecord | None, last: int, now: datetime) -> TunnelOrder | None:
    """The order of our own record that is newer than the `last` executed one, and recent; None: there is none."""
    order = record.order if record is not None else None
    if order is None or order.id <= last or abs((now - order.at).total_seconds()) > ORDER_SECONDS:
        return None
    return order
