"""What contradicts that packets pass a tunnel whose CHILD_SAs are installed. Pure: statuses, counters and times in, findings out.

A driver reports what its daemon holds. That is not enough for `up`: the peer may have agreed to a part of the selectors only,
or packets may leave and never come back. Each contradiction is a finding; a tunnel with one is `degraded`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import NamedTuple

from warren_contracts.selectors import TrafficSelector, covered
from warren_contracts.status import MAX_DETAIL, ReasonCode, TrafficStats, TunnelState, TunnelStatus
from warren_contracts.tunnel import Tunnel

# s; while a CHILD_SA is rekeyed there are two of them (RFC 7296, 2.8): charon removes the old one after 5 s
REKEYING_LIMIT = 30

# The first one of a tunnel is its reason: what loses traffic for certain comes before what may.
_PRECEDENCE = (
    ReasonCode.NARROWED, ReasonCode.MASQUERADE, ReasonCode.FORWARD_DROP, ReasonCode.FORWARDING_OFF, ReasonCode.RP_FILTER,
    ReasonCode.PATH_PROBE_FAILED, ReasonCode.ONE_WAY_TRAFFIC, ReasonCode.PATH_MTU, ReasonCode.DUPLICATE_SAS,
    ReasonCode.ROLLED_BACK,
)  # fmt: skip


class Contradiction(NamedTuple):
    """One contradiction, with the remedy in its detail."""

    code: ReasonCode
    detail: str


def assessed(status: TunnelStatus, findings: Iterable[Contradiction]) -> TunnelStatus:
    """The status with what was found: an `up` tunnel with a finding is degraded. Other states have reasons of their own."""
    found = sorted(findings, key=lambda it: _PRECEDENCE.index(it.code))
    if not found or status.state is not TunnelState.UP:
        return status
    first, others = found[0], found[1:]
    also = f"; also {', '.join(dict.fromkeys(it.code.value for it in others))}" if others else ""
    detail = first.detail[: MAX_DETAIL - len(also)] + also
    return status.model_copy(update={"state": TunnelState.DEGRADED, "reason": first.code, "detail": detail})


def find_narrowed(config: Tunnel, status: TunnelStatus) -> Iterable[Contradiction]:
    """The selectors of the configuration that no CHILD_SA has."""
    missing: dict[str, list[TrafficSelector]] = {"local": [], "remote": []}
    for child in config.link.children:
        sas = [sa for sa in status.link.children if sa.child == child.name and (sa.local_ts or sa.remote_ts)]
        if not sas:
            continue  # not installed at all, which is the driver's state; or its driver reports no selectors
        missing["local"] += uncovered(child.local_ts, [it for sa in sas for it in sa.local_ts])
        missing["remote"] += uncovered(child.remote_ts, [it for sa in sas for it in sa.remote_ts])
    sides = [f"{side} {', '.join(map(str, found))}" for side, found in missing.items() if found]
    if sides:
        yield Contradiction(
            ReasonCode.NARROWED,
            f"the peer did not agree to {'; '.join(sides)}: give it the same networks",
        )


def uncovered(desired: Sequence[TrafficSelector], actual: Sequence[TrafficSelector]) -> list[TrafficSelector]:
    """The desired selectors that the actual ones do not contain wholly. A dynamic one is any address, and never missing."""
    if tuple(desired) == tuple(actual):
        return []
    return [it for it in desired if it.addresses is not None and not covered(it, actual)]


def find_duplicates(status: TunnelStatus, now: datetime) -> Iterable[Contradiction]:
    """Children with several CHILD_SAs that are older than a rekeying takes."""
    limit = now - timedelta(seconds=REKEYING_LIMIT)
    count: dict[str, int] = {}
    for sa in status.link.children:
        if sa.established_at is not None and sa.established_at < limit:
            count[sa.child] = count.get(sa.child, 0) + 1
    several = [f"{number} of {child or status.name}" for child, number in sorted(count.items()) if number > 1]
    if several:
        yield Contradiction(ReasonCode.DUPLICATE_SAS, f"more CHILD_SAs than children: {', '.join(several)}")


@dataclass(frozen=True, slots=True)
class PacketFlow:
    """The packets of a tunnel over time (monotonic s): when each direction last advanced, and since when it does so alone."""

    packets_in: int
    packets_out: int
    in_at: float
    out_at: float
    in_alone_since: float | None = None
    out_alone_since: float | None = None


def begin_flow(traffic: TrafficStats, clock: float) -> PacketFlow:
    """The first reading."""
    return PacketFlow(traffic.packets_in, traffic.packets_out, clock, clock)


def advance(flow: PacketFlow, traffic: TrafficStats, clock: float) -> PacketFlow:
    """The flow after another reading of the counters."""
    came, went = traffic.packets_in > flow.packets_in, traffic.packets_out > flow.packets_out
    flow = replace(flow, packets_in=traffic.packets_in, packets_out=traffic.packets_out)
    if came:
        flow = replace(flow, in_at=clock, out_alone_since=None)
    if went:
        flow = replace(flow, out_at=clock, in_alone_since=None)
    if came and not went and flow.in_alone_since is None:
        flow = replace(flow, in_alone_since=clock)
    if went and not came and flow.out_alone_since is None:
        flow = replace(flow, out_alone_since=clock)
    return flow


def find_one_way(flow: PacketFlow, clock: float, limit: float) -> Iterable[Contradiction]:
    """Packets in one direction only, for `limit` seconds (0: never looked for). It ends when none were sent for that long."""
    if limit <= 0:
        return
    for alone_since, last_at, words in (
        (flow.out_alone_since, flow.out_at, "packets leave and none arrive"),
        (flow.in_alone_since, flow.in_at, "packets arrive and none leave"),
    ):
        if alone_since is not None and last_at - alone_since >= limit and clock - last_at < limit:
            yield Contradiction(
                ReasonCode.ONE_WAY_TRAFFIC,
                f"{words} for {last_at - alone_since:.0f} s: look for a filter, a missing route or forwarding at either end",
            )
