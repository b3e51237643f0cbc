"""All telemetry of the agent, in order, through the spool."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Literal

from warren_agent.errors import NotDeliveredError
from warren_agent.host import HostSurvey
from warren_agent.ports import Intent, TelemetrySink
from warren_agent.process import cpu_seconds, resident_bytes
from warren_agent.reconciler import ApplyResult
from warren_agent.telemetry.awaited_packets import AwaitedPackets
from warren_agent.telemetry.disk_spool import DiskSpool
from warren_agent.telemetry.messages import telemetry_message
from warren_agent.telemetry.reports import StateHistory, in_chunks, in_parts
from warren_agent.telemetry.spool import Spool
from warren_contracts.status import DriverStatus, HostFacts, ReasonCode, TunnelState, TunnelStatus
from warren_contracts.telemetry import AgentState, Applied, AttemptFailure, Presence, TunnelChange

_TOUCHED = frozenset({"created", "updated-child", "updated-ike"})  # steps that make new SAs
FIRST_PACKETS_AT_ONCE = 32  # tunnels whose first packet is reported at once; a change of a hub touches thousands
_INSTALLED = frozenset({TunnelState.UP, TunnelState.DEGRADED})
MAX_TEXT = 512  # characters, of contracts' ShortText


class TelemetryReporter:
    """Writes telemetry of one peer."""

    def __init__(
        self,
        peer: str,
        version: str,
        outlet: TelemetrySink,
        now: Callable[[], datetime],
        disk: DiskSpool | None = None,
        survey: HostSurvey | None = None,
        *,
        instance: str = "",
    ) -> None:
        """`instance`: a number of this process, as its connection to the bus names it."""
        self.spool = Spool(outlet.send, (NotDeliveredError,), disk)
        self._survey = survey
        self._remotes: tuple[str, ...] = ()  # addresses of the peers, by the last report
        self._peer = peer
        self._version = version
        self._now = now
        self._history = StateHistory()
        self._awaited = AwaitedPackets()
        self._started_at = now()
        self._instance = instance
        self._received = self._applied = 0  # policy revisions
        self._drifted_at: datetime | None = None
        self.dpd_failures = 0

    def presence(
        self, agent: AgentState, drivers: tuple[DriverStatus, ...], state: Literal["online", "stopping"] = "online"
    ) -> None:
        """Send a heartbeat, or the last message of a clean stop."""
        document = Presence(
            state=state,
            at=self._now(),
            agent=agent,
            started_at=self._started_at,
            instance=self._instance,
            version=self._version,
            resident_bytes=resident_bytes(),
            cpu_seconds=cpu_seconds(),
            queued=len(self.spool),
            queued_bytes=self.spool.stored_bytes,
            dropped=self.spool.dropped,
            drivers=drivers,
            host=self._facts(),
        )
        self.spool.put(telemetry_message(self._peer, document))

    def _facts(self) -> HostFacts | None:
        if self._survey is None:
            return None
        own = {"received_revision": self._received, "applied_revision": self._applied, "drifted_at": self._drifted_at}
        return self._survey.facts(self._remotes).model_copy(update=own)

    def report(self, statuses: Sequence[TunnelStatus], restarts: Callable[[str], int], sync_errors: int) -> None:
        """All tunnels."""
        now = self._now()
        self._remotes = tuple({it.link.remote_address for it in statuses if it.link.remote_address})
        entered = [self._history.record(status, restarts(status.name), now) for status in statuses]
        for part in in_parts(entered, now, sync_errors, self.dpd_failures):
            self.spool.put(telemetry_message(self._peer, part))
        self._first_packets(entered, now)

    def _first_packets(self, statuses: Sequence[TunnelStatus], now: datetime) -> None:
        """What packets have come through first since a change, a few at once: the others are in the next report's."""
        left = FIRST_PACKETS_AT_ONCE
        for status in statuses:
            trace = self._awaited.trace_of(status.name, now)
            if left and trace and (at := self._awaited.take(status)) is not None:
                left -= 1
                seen = TunnelChange(at=now, previous=status.state, status=status, first_packet_at=at)
                self.spool.put(telemetry_message(self._peer, seen, trace))

    def previous_state(self, tunnel: str) -> TunnelState | None:
        """The state that was last reported of a tunnel."""
        return self._history.previous(tunnel)

    def changed(self, status: TunnelStatus, restarts: int, traceparent: str = "") -> TunnelState | None:
        """One tunnel changed; returns the state that was reported before."""
        now = self._now()
        previous = self._history.previous(status.name)
        entered = self._history.record(status, restarts, now)
        if previous in _INSTALLED and status.state not in _INSTALLED:
            self._awaited.forget(status.name)  # it was up: that it is lost now has another cause than the change
        trace = traceparent or self._awaited.trace_of(status.name, now)
        self.spool.put(telemetry_message(self._peer, TunnelChange(at=now, previous=previous, status=entered), trace))
        return previous

    def removed(self, name: str, traceparent: str = "") -> None:
        """One tunnel is gone."""
        self._awaited.forget(name)
        self.spool.put(telemetry_message(self._peer, self._history.remove(name, self._now()), traceparent))

    def reason(self, tunnel: str, code: ReasonCode, detail: str) -> None:
        """Why an attempt failed."""
        if code is ReasonCode.CONFIG_DRIFT:
            self._drifted_at = self._now()
        self.spool.put(
            telemetry_message(
                self._peer, AttemptFailure(at=self._now(), tunnel=tunnel, code=code, detail=detail[:MAX_TEXT])
            )
        )

    def applied(self, intent: Intent, outcome: ApplyResult, duration_ms: float) -> None:
        """One round, in the trace of the change that made it."""
        self._received = intent.revision
        if outcome.ok:
            self._applied = intent.revision
        touched = [it.name for it in outcome.results if it.step in _TOUCHED]
        self._awaited.applied(touched, intent.revision, intent.traceparent, intent.delivered_at)
        document = Applied(
            at=self._now(),
            epoch=intent.epoch,
            revision=intent.revision,
            ok=outcome.ok,
            duration_ms=duration_ms,
            delivered_at=intent.delivered_at,
            unchanged=outcome.unchanged,
            tunnels=next(iter(in_chunks(outcome.results)), ()),  # what is beyond is in the tunnels' own events
            error=outcome.error[:MAX_TEXT],
        )
        self.spool.put(telemetry_message(self._peer, document, intent.traceparent))
