"""The supervisor: starts tunnels that are due, and takes what the drivers report of them."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import structlog

from warren_agent.clocks import Clocks
from warren_agent.domain import watchdog
from warren_agent.domain.health import Contradiction, assessed
from warren_agent.domain.orders import ordered_sas
from warren_agent.domain.peer_runs import with_peer_daemon_lost, with_peer_daemon_restarted
from warren_agent.domain.slots import schedule
from warren_agent.domain.watchdog import Watch
from warren_agent.drivers.port import AttemptFailed, DaemonTunnelChanged, DriftFound
from warren_agent.drivers.set import DriverSet
from warren_agent.errors import DriverError, DriverUnavailableError
from warren_agent.health import TunnelHealth
from warren_agent.paths.manager import PathManager
from warren_agent.paths.standby import standing_by
from warren_agent.reconciler import ApplyResult
from warren_agent.telemetry.reporter import TelemetryReporter
from warren_contracts.peers import TunnelOrder
from warren_contracts.status import ReasonCode, TunnelState, TunnelStatus

log = structlog.get_logger("warren_agent")


REPORTED_AT_ONCE = 16  # tunnels of one change of the directory; the others are in the next report
ECHOES_LOST = Contradiction(
    ReasonCode.PATH_PROBE_FAILED,
    "echoes between the gateways through the tunnel are not answered any more: look for a filter of ESP or UDP 4500",
)
# Reasons of an attempt in which the peer has sent nothing.
UNANSWERED = frozenset({ReasonCode.PEER_UNREACHABLE, ReasonCode.ADDRESS_FAILED})


# Changes of the host's network that start what is down, in a period of s: where a routing daemon changes routes all the time, dead
# peers are left to their backoff.
NETWORK_LIMIT, NETWORK_PERIOD = 3, 60.0


class Supervisor:
    """The watchdogs of all applied tunnels, and what is reported of them."""

    def __init__(
        self, drivers: DriverSet, reporter: TelemetryReporter, clocks: Clocks,
        health: TunnelHealth | None = None, paths: PathManager | None = None,
    ) -> None:  # fmt: skip
        self.reporter = reporter
        self._drivers = drivers
        self._clocks = clocks
        self._health = health or TunnelHealth(clocks)
        self.paths = paths or PathManager(clocks.monotonic)
        self._held: set[str] = set()
        self._without_daemon: frozenset[str] = frozenset()  # tunnels whose peer's daemon does not answer
        self._lost_by_peer: set[str] = set()  # tunnels whose peer's daemon was restarted, until new SAs are up
        self.standbys_of_peers: Mapping[str, str] = {}  # tunnels that their other end keeps as standbys, of which one
        self._watches: dict[str, Watch] = {}
        self._network_changes: list[float] = []  # when the last ones were, monotonic s

    def is_watched(self, tunnel: str) -> bool:
        """Whether a tunnel is applied, so that its reports count."""
        return tunnel in self._watches

    def carrying(self) -> set[str]:
        """The tunnels that carry traffic, on whatever configuration."""
        return {name for name, watch in self._watches.items() if watch.converged or watch.carrying}

    def restarts(self, tunnel: str) -> int:
        """How often a tunnel was started again after it had been up."""
        watch = self._watches.get(tunnel)
        return 0 if watch is None else watch.restarts

    def record(self, outcome: ApplyResult) -> None:
        """Watch what was applied, and no longer what was deleted."""
        now = self._clocks.monotonic()
        for name in outcome.deleted:
            self._watches.pop(name, None)
            self._lost_by_peer.discard(name)
            self._health.forget(name)
        for name, config in outcome.put.items():
            self._health.watch(config)
            if name in outcome.changed or name not in self._watches:
                self._watches[name] = watchdog.put(config, now, self._watches.get(name))

    def peer_returned(self, peer: str) -> None:
        """An event says that a peer is back: its tunnels are due at once."""
        now = self._clocks.monotonic()
        for name, config in self._health.configs.items():
            if config.peer == peer and name in self._watches:
                self._watches[name] = watchdog.returned(self._watches[name], now)

    def network_changed(self) -> None:
        """Addresses or routes of this host changed: what is not up is due at once. What is up moves by MOBIKE (RFC 4555)."""
        now = self._clocks.monotonic()
        self._network_changes = [at for at in self._network_changes if now - at < NETWORK_PERIOD]
        if len(self._network_changes) >= NETWORK_LIMIT:
            return
        self._network_changes.append(now)
        self._watches = {name: watchdog.returned(watch, now) for name, watch in self._watches.items()}
        self.paths.probe_soon()

    async def renew(self, names: Iterable[str]) -> None:
        """Make new SAs of these tunnels, whose peer has lost them: start them at once, whatever this end still holds."""
        now = self._clocks.monotonic()
        for name in names:
            watch = self._watches.get(name)
            if watch is None or not self._drivers.is_up_for(name):
                continue
            log.info("tunnel.renewed", tunnel=name, cause="the peer's daemon was restarted")
            self._watches[name] = watchdog.returned(watch, now)
            if watch.converged or watch.carrying:  # the peer has none of these SAs
                self._lost_by_peer.add(name)
            try:
                await self._drivers.renew_tunnel(name)
            except DriverError as error:
                log.warning("tunnel.renewal_failed", tunnel=name, error=str(error))

    async def execute(self, order: TunnelOrder) -> None:
        """Do what an operator wants of a tunnel of this host. One that is not applied here, or not in use, is left alone."""
        name, sas = order.tunnel, ordered_sas(order)
        in_use = name in self._watches and self._drivers.is_up_for(name) and not self.paths.is_held(name)
        if sas is None or order.action not in ("rekey", "restart") or not in_use:
            log.warning("tunnel.order_ignored", tunnel=name, action=order.action, sa=order.sa)
            return
        log.info("tunnel.order_executed", tunnel=name, action=order.action, sa=order.sa)
        try:
            if order.action == "rekey":
                await self._drivers.rekey_tunnel(name, ike=sas.ike, children=sas.children)
            else:  # without its IKE_SA, no CHILD_SA stays
                await self._drivers.stop_tunnel(name, children=None if sas.ike else sas.children)
        except DriverError as error:
            log.warning("tunnel.order_failed", tunnel=name, action=order.action, error=str(error))
        # What was closed starts again once the driver reports it; what was down already is due now.
        self._watches[name] = watchdog.returned(self._watches[name], self._clocks.monotonic())

    async def note_without_daemon(self, tunnels: frozenset[str]) -> None:
        """Take note of the tunnels whose peer's daemon does not answer, and report at once those of which that is new."""
        changed, self._without_daemon = tunnels ^ self._without_daemon, tunnels
        self.paths.note_unreachable(sorted(changed & tunnels))
        for name in sorted(changed & self._watches.keys())[:REPORTED_AT_ONCE]:
            try:
                status = await self._drivers.tunnel_status(name)
            except DriverError:
                continue  # the next report has it
            self._report_change(self._assessed(status, self._watches[name].converged), self._watches[name])

    async def start_due(self) -> float | None:
        """Start what is due. Returns the seconds until the next is; None if nothing will be before an event."""
        answering = {
            name: watch
            for name, watch in self._watches.items()
            if self._drivers.is_up_for(name) and not self.paths.is_held(name)
        }
        plan = schedule(answering, self._clocks.monotonic())
        freed = [await self._give_up(name) for name in plan.give_up]
        if not all(freed):
            return 0.0  # a peer has answered meanwhile: its attempt goes on, and keeps its slot
        for name in plan.start:
            await self._start(name)
        return plan.wait

    async def _give_up(self, name: str) -> bool:
        """Give up an attempt that nobody answered; False if the peer has answered after all."""
        watch = self._watches[name]
        now = self._clocks.monotonic()
        overdue = watch.attempt is not None and now - watch.attempt >= watchdog.attempt_limit(watch)
        try:
            given_up = await self._drivers.give_up(name, force=overdue)
        except DriverUnavailableError:
            return True  # DaemonDown follows in the events
        except DriverError as error:
            log.warning("tunnel.give_up_failed", tunnel=name, error=str(error))
            given_up = True
        if given_up:
            last = self._watches[name]
            self._watches[name] = (
                watchdog.failed(last, now, self._clocks.jitter(), answered=last.answered)
                if overdue
                else watchdog.preempted(last, now)
            )
        else:
            self._watches[name] = replace(self._watches[name], answered=True)
        return given_up

    async def _start(self, name: str) -> None:
        now = self._clocks.monotonic()
        watch = self._watches[name]
        if watch.failures == 0 and not watch.initiator:
            log.info("tunnel.takeover", tunnel=name)
        self._watches[name] = watchdog.started(watch, now)
        try:
            await self._drivers.start_tunnel(name)
        except DriverUnavailableError:
            return  # DaemonDown follows in the events
        except DriverError as error:
            log.warning("tunnel.start_failed", tunnel=name, error=str(error))
            self._watches[name] = watchdog.failed(self._watches[name], now, self._clocks.jitter())

    def resume(self) -> None:
        """A daemon is back: what is not up starts again."""
        now = self._clocks.monotonic()
        self._watches = {name: watchdog.resumed(watch, now) for name, watch in self._watches.items()}

    def tunnel_changed(self, event: DaemonTunnelChanged) -> None:
        """Report a tunnel's change, unless it is not applied any more."""
        watch = self._watches.get(event.name)
        if watch is None:
            return
        connecting = event.status.state is TunnelState.CONNECTING
        carrying = event.status.state in (TunnelState.UP, TunnelState.DEGRADED)
        watch = watchdog.observed(watch, event.converged, connecting, self._clocks.monotonic(), carrying)
        self._watches[event.name] = watch
        if event.converged or not carrying:
            self._lost_by_peer.discard(event.name)
        self.paths.observed(event.name, event.converged)
        self._report_change(self._assessed(event.status, event.converged), watch)

    def assess(self, status: TunnelStatus) -> TunnelStatus:
        """The status of a watched tunnel as it goes into a report. A change of its state is reported at once too."""
        watch = self._watches[status.name]
        found = self._assessed(status, watch.converged)
        if self.reporter.previous_state(status.name) is not found.state:
            self._report_change(found, watch)
        return found

    def _assessed(self, status: TunnelStatus, converged: bool) -> TunnelStatus:
        found = self._assessed_by_path(status, converged)
        if status.name in self._without_daemon:
            return with_peer_daemon_lost(found)
        return with_peer_daemon_restarted(found) if status.name in self._lost_by_peer else found

    def _assessed_by_path(self, status: TunnelStatus, converged: bool) -> TunnelStatus:
        if instead := self.paths.in_use_instead(status.name):
            return standing_by(status, instead, self.paths.failure_of_standby(status.name))
        if failure := self.paths.unresolved(status.name):
            reason = {"reason": ReasonCode.ADDRESS_FAILED, "detail": failure}
            return status.model_copy(update=reason if status.state is not TunnelState.UP else {})
        if (
            status.state is TunnelState.DOWN
            and status.reason is ReasonCode.NONE
            and status.name in self.standbys_of_peers
        ):
            return standing_by(status, self.standbys_of_peers[status.name], None)
        found = self._health.assess(status, converged)
        return assessed(found, [ECHOES_LOST] if self.paths.loses_packets(status.name) else [])

    async def stop_replaced(self) -> None:
        """Close the SAs of tunnels in whose place another one is used, before that one is started."""
        for name in sorted(self.paths.take_stops()):
            log.info("tunnel.standby", tunnel=name, instead=self.paths.in_use_instead(name))
            try:
                await self._drivers.stop_tunnel(name, force=True)
            except DriverError as error:
                log.warning("tunnel.stop_failed", tunnel=name, error=str(error))
        now = self._clocks.monotonic()
        for name, watch in self._watches.items():
            held = self.paths.is_held(name)
            if not held and name in self._held:
                self._watches[name] = watchdog.resumed(watch, now)
        self._held = {name for name in self._watches if self.paths.is_held(name)}

    def _report_change(self, status: TunnelStatus, watch: Watch) -> None:
        previous = self.reporter.changed(status, watch.restarts)
        if previous is not status.state:
            log.info(
                "tunnel.state_changed", tunnel=status.name, state=status.state.value, peer=status.peer,
                **({"reason": status.reason.value, "detail": status.detail} if status.reason is not ReasonCode.NONE else {}),
            )  # fmt: skip

    def drift_found(self, event: DriftFound) -> None:
        """Report drift of a tunnel; one that was repaired and is not up is started again at once."""
        watch = self._watches.get(event.name)
        if watch is None:
            return
        self.reporter.reason(event.name, event.code, event.detail)
        if event.corrected:
            self._watches[event.name] = watchdog.returned(watch, self._clocks.monotonic())

    def attempt_failed(self, event: AttemptFailed) -> None:
        """Report why an attempt failed; the next one waits longer."""
        watch = self._watches.get(event.name)
        if watch is None:
            return
        self.reporter.reason(event.name, event.code, event.detail)
        if event.final:
            if event.code is ReasonCode.PEER_UNREACHABLE and watch.converged:
                self.reporter.dpd_failures += 1
            answered = event.code not in UNANSWERED
            self._watches[event.name] = watchdog.failed(
                watch, self._clocks.monotonic(), self._clocks.jitter(), answered=answered
            )
