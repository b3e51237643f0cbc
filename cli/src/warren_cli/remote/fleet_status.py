"""What is wrong with a fleet at the moment, worst first. Pure: from the API's lists to a status."""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal, NamedTuple

from warren_cli.remote.fleet_reply import (
    ListedGateway,
    ListedPolicy,
    ListedTunnel,
    ListedTunnelEnd,
    ServiceHealth,
    newest,
)
from warren_cli.remote.render import age
from warren_contracts.verdicts import identity_in_use, intent_is_stale, is_outdated

if TYPE_CHECKING:
    from warren_contracts.tunnel_history import FleetAt

Kind = Literal["service", "gateway", "tunnel"]
# The words of `warren_contracts.status.TunnelState`
GOOD = frozenset({"up", "standby"})
WORST_FIRST = ("down", "error", "unknown", "degraded", "connecting")
ONLINE, OFFLINE, UNREACHABLE, NO_REASON = "online", "offline", "unreachable", "none"
MAX_SKEW_S = 2.0
DRIFT_SHOWN = timedelta(hours=1)


class FleetFinding(NamedTuple):
    """One thing that is not as it should be: `kind` and `name` of it, its `state`, and why."""

    kind: Kind
    name: str
    state: str
    reason: str = ""


class LastChange(NamedTuple):
    """The policy that was changed last."""

    policy: str
    version: int
    at: datetime
    actor: str


class FleetStatus(NamedTuple):
    """The whole fleet, or the gateways with one tag and their tunnels."""

    tunnels: dict[str, int]
    gateways: dict[str, int]
    services_ready: bool | None  # None: of the past, which is not known
    last_change: LastChange | None = None
    findings: tuple[FleetFinding, ...] = ()
    scope: tuple[str, ...] | None = None  # the tags of the token that asked; None: the whole fleet

    @property
    def is_good(self) -> bool:
        """Whether every service is ready, every gateway is online and well, and every tunnel is up or on standby."""
        return not self.findings


def status_of(
    health: ServiceHealth, peers: Sequence[ListedGateway], tunnels: Iterable[ListedTunnel], policies: Sequence[ListedPolicy],
    tag: str | None, now: datetime,
) -> FleetStatus:  # fmt: skip
    """The status of the fleet; with `tag`, of the gateways that have it and of their tunnels."""
    members = [peer for peer in peers if not peer.revoked and (tag is None or tag in peer.tags)]
    names = {peer.peer for peer in members}
    shown = [tunnel for tunnel in tunnels if tag is None or names.intersection(tunnel.peers)]
    findings = [*_services(health), *(finding for peer in members for finding in _gateway(peer, now)), *_tunnels(shown)]
    change = None
    if (last := newest(policies)) is not None:
        change = LastChange(policy=last[0].id, version=last[0].version, at=last[1], actor=last[0].actor)
    return FleetStatus(
        tunnels=dict(Counter(tunnel.state for tunnel in shown)), gateways=dict(Counter(peer.presence for peer in members)),
        services_ready=health.ready, last_change=change, findings=tuple(findings),
    )  # fmt: skip


def status_at(pages: "Sequence[FleetAt]") -> FleetStatus:
    """The status of the fleet at an instant; `pages` are all pages of it."""
    observed, desired = pages[0].observed, pages[0].desired
    tunnels = [
        ListedTunnel(
            it.name, it.state.value, it.disagreement, it.peers, it.stale,
            {peer: ListedTunnelEnd(end.reason.value, end.detail) for peer, end in it.ends.items()},
        )
        for page in pages for it in page.observed.tunnels
    ]  # fmt: skip
    gateways = [FleetFinding(kind="gateway", name=peer, state=OFFLINE) for peer in observed.offline]
    last = max(desired.policies, key=lambda it: it.revision, default=None)
    change = None
    if last is not None and desired.stored_at is not None:
        change = LastChange(policy=last.id, version=last.version, at=desired.stored_at, actor=desired.actor)
    return FleetStatus(
        tunnels={state.value: count for state, count in observed.states.items()},
        gateways={presence.value: count for presence, count in observed.gateways.items()},
        services_ready=None, last_change=change, findings=(*gateways, *_tunnels(tunnels)),
    )  # fmt: skip


def _services(health: ServiceHealth) -> Iterable[FleetFinding]:
    for name, ready in health.dependencies.items():
        if not ready:
            yield FleetFinding(kind="service", name=name, state="not ready", reason=health.detail.get(name, ""))


def _gateway(peer: ListedGateway, now: datetime) -> Iterable[FleetFinding]:
    if peer.presence != ONLINE:
        yield FleetFinding(kind="gateway", name=peer.peer, state=peer.presence)
    if peer.refused:
        yield FleetFinding(kind="gateway", name=peer.peer, state="announcement rejected", reason=peer.refused)
    if intent_is_stale(peer.host):
        reason = "the registry's digests do not arrive: see registry and NATS"
        yield FleetFinding(kind="gateway", name=peer.peer, state="intent stale", reason=reason)
    if is_outdated(peer.host) and peer.host is not None:
        reason = f"revision {peer.host.applied_revision or 0} is applied, {peer.host.received_revision} was received"
        yield FleetFinding(kind="gateway", name=peer.peer, state="revision outdated", reason=reason)
    if peer.host is not None and peer.host.drifted_at is not None and now - peer.host.drifted_at < DRIFT_SHOWN:
        reason = f"{age(peer.host.drifted_at, now)} ago its daemon did not hold what the agent had given to it"
        yield FleetFinding(kind="gateway", name=peer.peer, state="config drift", reason=reason)
    for driver in peer.drivers:
        if driver.state == UNREACHABLE:
            yield FleetFinding(kind="gateway", name=peer.peer, state=f"{driver.kind} unreachable", reason=driver.detail)
    if reason := identity_in_use(peer.hosts):
        yield FleetFinding(kind="gateway", name=peer.peer, state="identity in use twice", reason=reason)
    if peer.clock_skew_s is not None and abs(peer.clock_skew_s) > MAX_SKEW_S:
        reason = f"{peer.clock_skew_s:+.1f} s to the bus: set its clock"
        yield FleetFinding(kind="gateway", name=peer.peer, state="clock wrong", reason=reason)


def _tunnels(tunnels: Iterable[ListedTunnel]) -> Iterable[FleetFinding]:
    """The worst state first, one that a newer server names before all; those of one state by name."""
    wrong = [tunnel for tunnel in tunnels if tunnel.state not in GOOD]
    rank = {state: number for number, state in enumerate(WORST_FIRST)}
    for tunnel in sorted(wrong, key=lambda it: (rank.get(it.state, -1), it.name)):
        yield FleetFinding(kind="tunnel", name=tunnel.name, state=tunnel.state, reason=_reason(tunnel))


def _reason(tunnel: ListedTunnel) -> str:
    said = [
        f"{peer}: {end.reason}" + (f" ({end.detail})" if end.detail else "")
        for peer, end in sorted(tunnel.ends.items())
        if end.reason != NO_REASON and peer not in tunnel.stale
    ]
    silent = [f"{peer}: no report" for peer in tunnel.stale]
    return "; ".join([*([tunnel.disagreement] if tunnel.disagreement else []), *said, *silent])
