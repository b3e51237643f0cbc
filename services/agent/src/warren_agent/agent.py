"""The agent at work: its tasks and its state.

One task owns the tunnels (`_work`): it applies the newest intent and starts what is due, and no other task gives commands to
the drivers, so that two runs of the reconciler never overlap. The other tasks set what it is to do and wake it.
"""

import asyncio
import contextlib

import structlog

from warren_agent.announcer import Announcer
from warren_agent.clocks import Clocks
from warren_agent.domain.orders import due_order
from warren_agent.domain.states import Trigger, next_state
from warren_agent.drivers.port import AttemptFailed, DaemonDown, DaemonTunnelChanged, DaemonUp, DriftFound, DriverEvent
from warren_agent.drivers.set import DriverSet
from warren_agent.errors import DriverError
from warren_agent.intents import Intents
from warren_agent.ports import Intent
from warren_agent.reconciler import ApplyResult, Reconciler
from warren_agent.safeguards import Safeguards
from warren_agent.supervisor import Supervisor
from warren_agent.systemd import notify
from warren_contracts.guard import EventKind
from warren_contracts.status import DriverState, ReasonCode, TunnelState
from warren_contracts.telemetry import AgentState

log = structlog.get_logger("warren_agent")

STOP_TIMEOUT = 3.0  # s for the last telemetry of a clean stop
DAEMON_GRACE = 2.0  # s after the start, in which a daemon that has not answered yet is not reported as unreachable


_ROUTES = (EventKind.ADDRESSES_CHANGED, EventKind.ROUTES_CHANGED, EventKind.TUNNEL_ROUTES_CHANGED)
"""After which routes into tunnels may be missing. The kernel reports none of those that a link takes with it."""


class Agent:
    """One peer's agent. `run` works until it is cancelled; then `close` reports the stop and lets go of the daemons."""

    def __init__(
        self,
        peer: str,
        drivers: DriverSet,
        intents: Intents,
        announcer: Announcer,
        supervisor: Supervisor,
        safeguards: Safeguards,
        clocks: Clocks,
    ) -> None:
        self.peer = peer
        self.state = next_state(AgentState.START, Trigger.IDENTITY_READ)
        self._drivers = drivers
        self._intents = intents
        self._supervisor = supervisor
        self._reporter = supervisor.reporter
        self._clocks = clocks
        self._protection = safeguards.protection
        self._paths = supervisor.paths
        self._paths.on_change(self._change_paths)
        self._paths_changed = False
        self._changes = safeguards.changes
        self._changes.connect(self._roll_back, self._report_rollback, self._may_come_up)
        self._reconciler = Reconciler(peer, drivers, self._protection, self._paths, self._changes)
        self._announcer = announcer
        self._intent: Intent | None = None
        self._last_order = 0  # the id of the last order of an operator that was executed
        self._to_apply: Trigger | None = None
        self._last_reported: tuple[int, int, str] | None = None  # the last run that found no daemon
        self._wake = asyncio.Event()
        self._report_due = asyncio.Event()

    async def run(self) -> None:
        """Work forever; ends by cancellation, or by a defect."""
        await self._drivers.initialize()
        self._changes.restore()
        saved = self._intents.restore()
        if saved is not None:
            own = saved.directory.get(self.peer)
            self._last_order = own.order.id if own is not None and own.order is not None else 0
            self._reconciler.resume(saved)
            self._accept_intent(intent := Intent(saved, self._clocks.now()))
            self._changes.assume(self._reconciler.derive(intent))
        tasks_of = (
            self._receive, self._consume_driver_events, self._work, self._report, self._reporter.spool.run, self._announce,
            self._follow_guard,
            self._paths.run,
            self._changes.run,
        )  # fmt: skip
        async with asyncio.TaskGroup() as tasks:
            for work in tasks_of:
                tasks.create_task(work())

    async def close(self, teardown: bool = False) -> None:
        """Report a clean stop. Tunnels stay up unless `teardown`."""
        self._report_presence(stopping=True)
        sending = asyncio.create_task(self._reporter.spool.run())
        await self._reporter.spool.flush(STOP_TIMEOUT)
        sending.cancel()
        try:
            await self._drivers.cleanup(teardown)
        except DriverError as error:
            log.warning("agent.cleanup_failed", error=str(error))

    # intents

    async def _receive(self) -> None:
        async for intent in self._intents.received():
            known = self._intent
            if known is None or known.state != intent.state:
                self._accept_intent(intent)

    def _accept_intent(self, intent: Intent) -> None:
        if self._intent is not None and self._intent.state.trust.epoch != intent.state.trust.epoch:
            self._announcer.announce_soon()  # a restored registry knows what was announced before the backup
        self._intent = intent
        self._to_apply = Trigger.INTENT_CAME
        self._wake.set()

    async def _work(self) -> None:
        if self._intent is not None:
            await self._reconciler.protect(self._intent)  # not only when a daemon answers
        await self._wait_for_daemons()
        while True:
            self._wake.clear()
            trigger, self._to_apply = self._to_apply, None
            if trigger is not None and self._intent is not None:
                self.state = next_state(self.state, trigger)
                await self._apply(self._intent)
                self._intents.save(self._intent.state)
            if self._paths_changed:
                await self._apply_paths()
            waits = await self._supervisor.start_due()
            if self._to_apply is not None or self._paths_changed or waits == 0:
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(waits):
                    await self._wake.wait()

    async def _apply(self, intent: Intent) -> None:
        began = self._clocks.monotonic()
        tunnels = self._reconciler.derive(intent)
        self._supervisor.standbys_of_peers = self._reconciler.standbys_of_peers
        self._changes.begin(tunnels, self._supervisor.carrying())
        outcome = await self._reconciler.reconcile(intent)
        self._changes.finish(tunnels, outcome)
        outcome.results += self._changes.failures()
        duration = (self._clocks.monotonic() - began) * 1_000
        self._supervisor.record(outcome)
        await self._supervisor.stop_replaced()
        await self._supervisor.renew(self._reconciler.lost_by_peers(intent))
        await self._supervisor.note_without_daemon(self._reconciler.without_peer_daemon(intent))
        gone, undeployed = self._reconciler.update_undeployed(outcome)
        for name in (*outcome.deleted, *gone):
            self._reporter.removed(name, intent.traceparent)
        for status in undeployed:
            self._reporter.changed(status, 0, intent.traceparent)
        await self._execute_order(intent)
        self._report_applied(intent, outcome, duration)
        self.state = next_state(self.state, Trigger.DAEMON_LOST if outcome.daemon_lost else Trigger.APPLIED)

    async def _execute_order(self, intent: Intent) -> None:
        order = due_order(intent.state.directory.get(self.peer), self._last_order, self._clocks.now())
        if order is not None:
            self._last_order = order.id
            await self._supervisor.execute(order)

    def _change_paths(self) -> None:
        self._paths_changed = True
        self._wake.set()

    async def _apply_paths(self) -> None:
        """Use the addresses and the standbys that were chosen; replaced tunnels are closed before others are started."""
        self._paths_changed = False
        outcome = await self._reconciler.apply_paths()
        self._supervisor.record(outcome)
        await self._supervisor.stop_replaced()
        for name, step in outcome.failed.items():
            log.warning("path.not_applied", tunnel=name, error=step.detail)

    def _roll_back(self) -> None:
        self._apply_again()
        self._wake.set()

    def _report_rollback(self, tunnel: str, detail: str) -> None:
        self._reporter.reason(tunnel, ReasonCode.ROLLED_BACK, detail)

    def _may_come_up(self, tunnel: str) -> bool:
        return self._drivers.is_up_for(tunnel) and not self._paths.is_held(tunnel)

    def _report_applied(self, intent: Intent, outcome: ApplyResult, duration: float) -> None:
        lost = (intent.epoch, intent.revision, outcome.daemon_lost) if outcome.daemon_lost else None
        if lost is not None and lost == self._last_reported:
            return  # a record changed meanwhile; that nothing could be applied is known
        self._last_reported = lost
        self._reporter.applied(intent, outcome, duration)
        level = log.info if outcome.ok else log.warning
        level(
            "intent.applied" if outcome.ok else "intent.partially_applied", revision=intent.revision, steps=len(outcome.results),
            unchanged=outcome.unchanged, duration_ms=round(duration, 1), **({"error": outcome.error} if outcome.error else {}),
        )  # fmt: skip

    async def _wait_for_daemons(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DAEMON_GRACE):
                await self._drivers.wait_until_known()

    # events of the drivers

    async def _consume_driver_events(self) -> None:
        async for event in self._drivers.events():
            self._handle(event)
            self._wake.set()

    def _handle(self, event: DriverEvent) -> None:
        if isinstance(event, DaemonTunnelChanged):
            self._supervisor.tunnel_changed(event)
            self._changes.observed(event.name, event.converged)
            is_established = event.status.state in (TunnelState.UP, TunnelState.DEGRADED)
            if is_established and self._protection.note_established(event.name):
                self._apply_again()
        elif isinstance(event, AttemptFailed):
            self._supervisor.attempt_failed(event)
            self._changes.attempt_failed(event.name, event.code)
        elif isinstance(event, DriftFound):
            self._supervisor.drift_found(event)
        elif isinstance(event, DaemonUp):
            self._report_presence()
            self._supervisor.resume()
            self._apply_again()
            self._announcer.announce_soon()
        elif isinstance(event, DaemonDown):
            self._report_presence()
            self._announcer.announce_soon()

    def _apply_again(self) -> None:
        """Apply the newest intent again: a daemon or the guard can do now what it could not."""
        if self._to_apply is None and self._intent is not None:
            self._to_apply = Trigger.DAEMON_CAME

    async def _follow_guard(self) -> None:
        async for event in self._protection.events():
            if event is None or event.event in _ROUTES:
                self._drivers.routes_changed()
            if event is None:
                self._apply_again()
                self._wake.set()
            elif event.event in (EventKind.ADDRESSES_CHANGED, EventKind.ROUTES_CHANGED):
                self._supervisor.network_changed()
                if await self._protection.reach.has_changed():
                    self._apply_again()  # other networks of the host's own must pass the tunnels by
                self._wake.set()
            elif event.event is EventKind.FINDINGS_CHANGED:
                self._report_due.set()

    # telemetry and the announcement

    def _report_presence(self, *, stopping: bool = False) -> None:
        self._reporter.presence(self.state, self._drivers.states(), "stopping" if stopping else "online")

    async def _report(self) -> None:
        while True:
            self._report_presence()
            if all(driver.state is not DriverState.UNREACHABLE for driver in self._drivers.states()):
                notify("WATCHDOG=1")
            if self.state is AgentState.WATCH:
                await self._report_tunnels()
            self._report_due.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._clocks.report_interval):
                    await self._report_due.wait()

    async def _report_tunnels(self) -> None:
        try:
            statuses = await self._drivers.list_tunnels()
        except DriverError as error:
            log.debug("telemetry.report_skipped", error=str(error))
            return
        watched = [self._supervisor.assess(it) for it in statuses if self._supervisor.is_watched(it.name)]
        undeployed = self._reconciler.undeployed.items()
        watched += [status for name, status in undeployed if not self._supervisor.is_watched(name)]
        self._reporter.report(watched, self._supervisor.restarts, self._intents.sync_errors)

    async def _announce(self) -> None:
        await self._wait_for_daemons()
        await self._announcer.run()
