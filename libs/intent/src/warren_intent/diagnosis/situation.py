"""What is known of a tunnel at one moment: what each end reports, what it derives from the policies, and what its agent says."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from warren_contracts.names import PeerId
from warren_contracts.peers import PeerSummary, PresenceState
from warren_contracts.policy import PublishedPolicy
from warren_contracts.status import DriverState, FleetTunnel, ReasonCode, TunnelState, TunnelStatus
from warren_contracts.tunnel import Tunnel
from warren_intent.expand import explain as expansion_of

INSTALLED = frozenset({TunnelState.UP, TunnelState.DEGRADED})


@dataclass(frozen=True, slots=True)
class End:
    """One end. `config` is the tunnel as this end derives it, None with the reason in `skipped` if it does not."""

    peer: PeerId
    status: TunnelStatus | None = None  # None: it does not report the tunnel
    is_stale: bool = False
    reported_at: datetime | None = None
    config: Tunnel | None = None
    skipped: str = ""
    summary: PeerSummary | None = None  # None: the registry does not know it

    @property
    def is_current(self) -> bool:
        """Whether what it reports holds now."""
        return self.status is not None and not self.is_stale

    @property
    def is_offline(self) -> bool:
        """Whether its agent is known to be offline."""
        return self.summary is not None and self.summary.presence is not PresenceState.ONLINE

    @property
    def reason(self) -> ReasonCode:
        """Of a current report; else none."""
        return self.status.reason if self.status is not None and self.is_current else ReasonCode.NONE

    @property
    def detail(self) -> str:
        """Of a current report; else empty."""
        return self.status.detail if self.status is not None and self.is_current else ""

    @property
    def is_installed(self) -> bool:
        """Whether it has CHILD_SAs, by a current report."""
        return self.status is not None and self.is_current and self.status.state in INSTALLED

    @property
    def is_behind_nat(self) -> bool:
        """Whether an endpoint that it announces does not belong to its host."""
        return self.summary is not None and self.summary.host is not None and bool(self.summary.host.behind_nat)

    @property
    def stopped_daemon(self) -> str | None:
        """Why a daemon of it does not answer; None if all answer, or none is known."""
        for driver in self.summary.drivers if self.summary is not None else ():
            if driver.state is DriverState.UNREACHABLE:
                return f"{driver.kind}: {driver.detail}" if driver.detail else driver.kind
        return None

    @property
    def clock_skew_s(self) -> float:
        """How far its clock is ahead of the bus's; 0 if that is not known."""
        return (self.summary.clock_skew_s or 0.0) if self.summary is not None else 0.0


@dataclass(frozen=True, slots=True)
class Situation:
    """A tunnel and its ends: two, or one of a tunnel to a foreign gateway."""

    tunnel: FleetTunnel
    ends: tuple[End, ...]
    now: datetime

    def other(self, end: End) -> End | None:
        """The end at the far side; None: a foreign gateway."""
        return next((it for it in self.ends if it.peer != end.peer), None)

    def with_reason(self, *codes: ReasonCode) -> End | None:
        """The first end with one of these reasons, that of the earlier code first."""
        for code in codes:
            for end in self.ends:
                if end.reason is code:
                    return end
        return None

    def far_name(self, end: End) -> str:
        """What the other side is called: its peer, or the identity of a foreign gateway."""
        if (other := self.other(end)) is not None:
            return other.peer
        if end.config is not None:
            return f"the foreign gateway {end.config.link.remote_auth.identity}"
        return "the foreign gateway"


def situation_of(
    tunnel: FleetTunnel, policies: Iterable[PublishedPolicy], peers: Mapping[PeerId, PeerSummary], now: datetime
) -> Situation:
    """Join what both ends report with what they derive. `peers` are the tunnel's ends; others are not needed."""
    stated = list(policies)
    directory = {peer: summary.record for peer, summary in peers.items() if not summary.revoked}
    ends = []
    for peer in tunnel.peers:
        expansion = expansion_of(stated, directory, peer)
        skipped = next((it for it in expansion.skipped if it.name == tunnel.name), None)
        ends.append(
            End(
                peer=peer,
                status=tunnel.ends.get(peer),
                is_stale=peer in tunnel.stale,
                reported_at=tunnel.reported_at.get(peer),
                config=next((it for it in expansion.tunnels if it.name == tunnel.name), None),
                skipped=skipped.message if skipped is not None else "",
                summary=peers.get(peer),
            )
        )
    return Situation(tunnel, tuple(ends), now)
