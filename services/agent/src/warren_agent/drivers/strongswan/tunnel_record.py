"""What the driver remembers of one tunnel while it runs: its SAs, why it is not up, and its counters over rekeyings."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from ipaddress import ip_address

from warren_agent.drivers.strongswan.convergence import DesiredHandles, carrying_children, is_converged, state_of
from warren_agent.drivers.strongswan.error_notify import ErrorNotifyType, Notification
from warren_agent.drivers.strongswan.reason_expiry import Seen, is_refuted, is_waiting, seen
from warren_agent.drivers.strongswan.sas import CONNECTING, ChildSa, IkeSa
from warren_contracts.status import (
    MAX_DETAIL,
    Evidence,
    EvidenceKind,
    IpsecStatus,
    ReasonCode,
    TrafficStats,
    TunnelState,
    TunnelStatus,
)
from warren_contracts.tunnel import Tunnel

# Less specific than any other reason of the same attempt.
_WEAK = frozenset(
    {
        ReasonCode.NONE,
        ReasonCode.PEER_UNREACHABLE,
        ReasonCode.PEER_NOT_ANSWERING,
        ReasonCode.OTHER,
        ReasonCode.DAEMON_UNREACHABLE,
    }
)
# s within which a converged tunnel is lost after charon has given up on an IKE_SA: else that IKE_SA was a superseded one
SUSPICION_LIMIT = 10.0


@dataclass(frozen=True)
class Silence:
    """A peer that does not answer on an IKE_SA of a converged tunnel, which may be a superseded one: charon names the
    connection only."""

    detail: str
    final: bool  # charon has given up
    at: float  # monotonic s
    since: datetime  # of the first unanswered request


@dataclass
class SaCounters:
    """The traffic of a tunnel: what its present CHILD_SAs count, and what the former ones had counted when last seen."""

    former: TrafficStats = field(default_factory=TrafficStats)
    present: dict[int, TrafficStats] = field(default_factory=dict)

    def observe(self, sas: list[IkeSa]) -> None:
        """Take the counters of these SAs; the others are former ones from now on."""
        seen = {child.unique_id: child.traffic for sa in sas for child in sa.children}
        for unique_id in self.present.keys() - seen.keys():
            self.former = add(self.former, self.present[unique_id])
        self.present = seen

    @property
    def total(self) -> TrafficStats:
        total = self.former
        for traffic in self.present.values():
            total = add(total, traffic)
        return total


def add(one: TrafficStats, other: TrafficStats) -> TrafficStats:
    """Both together."""
    return TrafficStats(
        bytes_in=one.bytes_in + other.bytes_in,
        bytes_out=one.bytes_out + other.bytes_out,
        packets_in=one.packets_in + other.packets_in,
        packets_out=one.packets_out + other.packets_out,
    )


@dataclass
class TunnelRecord:
    """One tunnel. `config` is None for one that an earlier run of the agent left in charon and nobody asked for yet."""

    name: str
    desired: DesiredHandles
    config: Tunnel | None = None
    sas: list[IkeSa] = field(default_factory=list)
    counters: SaCounters = field(default_factory=SaCounters)
    rekeys: int = 0
    rekey_seconds: float | None = None  # of the last rekeying, if this end has ordered it
    # The SAs whose rekeying this end has ordered last, by kind and unique id, and when (monotonic s). None: behind another one.
    ordered: dict[tuple[str, int], float | None] = field(default_factory=dict)
    reason: ReasonCode = ReasonCode.NONE
    detail: str = ""
    attempt_explained: bool = False  # the present attempt has its reason
    attempt_over: bool = False  # the attempt that gave the reason has ended
    known: Seen = field(default_factory=Seen)  # the SAs when the reason was noted, and those seen since
    converged_since: float | None = None  # monotonic s
    last_reported: tuple[object, ...] = ()  # what was last reported of it
    silence: Silence | None = None
    given_up: set[int] = field(default_factory=set)  # unique ids of attempts that this end has closed
    doubtful: bool = False  # its proposals were refused: maybe they are not those that were loaded
    traffic_at: datetime | None = None  # when the last packet of the peer was decrypted
    is_answered: bool = False  # in the present attempt of this end the peer has answered IKE_SA_INIT

    @property
    def converged(self) -> bool:
        return is_converged(self.sas, self.desired)

    @property
    def state(self) -> TunnelState:
        return state_of(self.sas, self.reason, self.desired)

    def want(self, desired: DesiredHandles, config: Tunnel | None) -> None:
        """Take another configuration. How long the former one was converged counts nothing for it: else the old SAs would be
        surplus in the very moment in which the new ones are seen first, at both ends."""
        if desired != self.desired:
            self.converged_since = None
        self.desired, self.config = desired, config

    def observe(self, sas: list[IkeSa], clock: float) -> None:
        """Take what charon holds now."""
        self.sas = sas
        attempts = [sa for sa in sas if sa.initiator and sa.state in CONNECTING]
        self.is_answered = any(sa.answered for sa in attempts) if attempts else self.is_answered
        self.counters.observe(sas)
        if not self.converged:
            self.converged_since = None
        elif self.converged_since is None:
            self.converged_since = clock
            self.clear_reason()
        elif self.reason is not ReasonCode.NONE:
            self._reconsider()

    def _reconsider(self) -> None:
        """It is up and stays up: whether what was in trouble works again, or is there no more."""
        if is_refuted(self.reason, self.attempt_over, self.known, self.sas, self.desired):
            self.clear_reason()
        else:
            self.known |= seen(self.sas, self.desired)

    def note_traffic(self, now: datetime) -> None:
        """Remember when the last packet of the peer came, as charon counted it at `now`."""
        idle = [child.idle_in for child in carrying_children(self.sas) if child.traffic.packets_in]
        if (least := min((it for it in idle if it is not None), default=None)) is not None:
            self.traffic_at = now - timedelta(seconds=least)  # not the maximum: the clock may have been set back

    def rekeyed(self, kind: str, unique_id: int, clock: float) -> None:
        """An SA was rekeyed. charon reports the end of a rekeying only: how long it took is known of the first one that was ordered,
        which nothing else of the tunnel was in front of."""
        self.rekeys += 1
        begun = self.ordered.get((kind, unique_id))
        if begun is not None:
            self.rekey_seconds = max(0.0, clock - begun)
        elif (kind, unique_id) not in self.ordered:
            self.rekey_seconds = None

    def suspect(self, detail: str, final: bool, clock: float, now: datetime) -> None:
        """A peer does not answer while the tunnel is converged; `judge_silence` decides after the next reading."""
        since = self.silence.since if self.silence is not None else now
        self.silence = Silence(detail, final, clock, since)

    def judge_silence(self, clock: float) -> bool:
        """Decide what a silence of the peer means for the tunnel; True if it is the reason of its loss.

        Only the newest IKE_SA that carries the tunnel speaks for it: that a superseded one is not answered is not a reason.
        """
        silence = self.silence
        if silence is None:
            return False
        if not self.converged:
            self.silence = None
            return self.explain(ReasonCode.PEER_UNREACHABLE, silence.detail, over=silence.final)
        if is_waiting(self.sas, self.desired):
            since = f"requests are not answered since {silence.since:%Y-%m-%d %H:%M:%S} UTC"
            if self.reason is not ReasonCode.PEER_NOT_ANSWERING:
                self.explain(ReasonCode.PEER_NOT_ANSWERING, since)
        elif not silence.final or clock - silence.at > SUSPICION_LIMIT:
            self.silence = None
        return False

    def silence_of_attempt(self, detail: str) -> tuple[ReasonCode, str]:
        """The reason of an attempt whose peer does not answer: which message it is that stays without an answer."""
        if not self.desired.owner:
            return ReasonCode.PEER_UNREACHABLE, detail
        stage = "IKE_SA_INIT was answered, IKE_AUTH is not" if self.is_answered else "IKE_SA_INIT is not answered"
        return ReasonCode.PEER_UNREACHABLE, f"{detail}: {stage}"

    def converged_for(self, clock: float) -> float:
        """Seconds since it was first seen converged."""
        return 0.0 if self.converged_since is None else clock - self.converged_since

    def clear_reason(self) -> None:
        self.reason, self.detail, self.attempt_explained, self.attempt_over = ReasonCode.NONE, "", False, False
        self.is_answered = False

    def explain(self, code: ReasonCode, detail: str, over: bool = False) -> bool:
        """Note why it is not up, or what an up one has failed in; `over`: charon does not try any more.

        The first specific reason of an attempt is kept; False if nothing changed.
        """
        if self.attempt_explained and self.reason not in _WEAK:
            return False
        if code in _WEAK and self.reason not in _WEAK:
            return False  # an earlier attempt said more, and nothing says that it has changed
        self.reason, self.detail, self.attempt_explained, self.attempt_over = code, detail[:MAX_DETAIL], True, over
        self.known = seen(self.sas, self.desired)
        return True

    def fingerprint(self) -> tuple[object, ...]:
        """Changes exactly when there is something to report: state, reason, or the SPIs in use."""
        spis = tuple(sorted((child.spi_in, child.spi_out) for child in carrying_children(self.sas)))
        return (self.state, self.converged, self.reason, self.detail, spis)

    def status(self, now: datetime) -> TunnelStatus:
        """As it is reported; `name` carries no generation."""
        up = [sa for sa in self.sas if sa.up]
        ike = max(up, key=lambda sa: (any(c.carries for c in sa.children), sa.unique_id), default=None)
        config = self.config
        return TunnelStatus(
            name=self.name,
            policy=config.policy if config else None,
            peer=config.peer if config else None,
            state=self.state,
            initiator=self.desired.owner,
            link=_link_status(ike, carrying_children(self.sas), now),
            traffic=self.counters.total,
            rekeys=self.rekeys,
            rekey_seconds=self.rekey_seconds,
            reason=self.reason,
            detail=self.detail,
            evidence=Evidence(kind=EvidenceKind.TRAFFIC, at=self.traffic_at) if self.traffic_at else Evidence(),
        )


def _link_status(ike: IkeSa | None, children: list[ChildSa], now: datetime) -> IpsecStatus:
    sas = tuple(child.info(now) for child in children)
    if ike is None:
        return IpsecStatus(children=sas)
    return IpsecStatus(
        ike_cipher=ike.cipher,
        ike_established_at=None if ike.established is None else now - timedelta(seconds=ike.established),
        local_address=ike.local_host,
        remote_address=ike.remote_host,
        local_vips=tuple(ip_address(text) for text in ike.local_vips),
        remote_vips=tuple(ip_address(text) for text in ike.remote_vips),
        children=sas,
    )


def is_final(notification: Notification) -> bool:
    """Whether the attempt is over; after RETRANSMIT_SEND charon still tries."""
    return notification.type is not ErrorNotifyType.RETRANSMIT_SEND
