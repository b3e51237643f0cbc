"""Tunnels that a change has touched, until a packet of the peer has come through their new SAs. Pure.

What is reported of them meanwhile belongs to the trace of that change. The driver's counters are read as often as they are anyway:
the packet is noticed by the next regular report.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import NamedTuple

from warren_contracts.status import ChildSaStatus, TunnelStatus

LIMIT = timedelta(minutes=10)  # without a packet: what happens later has other reasons
FOLLOWS = timedelta(
    seconds=30
)  # in which the registry sends the records that a new policy makes readable, in a trace of its own
ROUNDING = timedelta(seconds=1)  # charon counts the age of an SA in whole seconds


class _Change(NamedTuple):
    traceparent: str
    at: datetime  # when the change arrived here


class AwaitedPackets:
    """The changes whose first packet has not been seen, by tunnel."""

    def __init__(self) -> None:
        self._changes: dict[str, _Change] = {}
        self._revision = 0
        self._of_revision: _Change | None = None  # the change that brought it

    def applied(self, tunnels: Iterable[str], revision: int, traceparent: str, at: datetime) -> None:
        """A change that arrived at `at` has created or updated these tunnels. What follows a new revision soon belongs to it."""
        change = _Change(traceparent, at)
        if revision != self._revision:
            self._revision, self._of_revision = revision, change
        elif self._of_revision is not None and at - self._of_revision.at <= FOLLOWS:
            change = self._of_revision
        if change.traceparent:
            self._changes.update(dict.fromkeys(tunnels, change))

    def trace_of(self, tunnel: str, now: datetime) -> str:
        """The trace of the change that a tunnel waits in; empty if it does not."""
        change = self._changes.get(tunnel)
        if change is None or now - change.at > LIMIT:
            self._changes.pop(tunnel, None)
            return ""
        return change.traceparent

    def take(self, status: TunnelStatus) -> datetime | None:
        """When a packet of the peer has come through a new SA at the latest, once for each change; None: none has."""
        change = self._changes.get(status.name)
        if change is None:
            return None
        begins = [it.established_at for it in status.link.children if _has_carried(it, change.at) and it.established_at]
        if not begins:
            return None
        del self._changes[status.name]
        # The newest packet, which is the first one if there was no other; a clock that was set back counts for nothing
        return max([*begins, *([status.evidence.at] if status.evidence.at is not None else [])])

    def forget(self, tunnel: str) -> None:
        """The tunnel is gone."""
        self._changes.pop(tunnel, None)


def _has_carried(child: ChildSaStatus, since: datetime) -> bool:
    """Whether a packet came in through an SA that was made by the change."""
    made = child.established_at
    return made is not None and made >= since - ROUNDING and child.traffic.packets_in > 0
