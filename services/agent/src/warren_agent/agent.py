"""The agent at work: intents in, rounds through the driver, tunnels watched, everything told.

One task owns the tunnels (`_work`): it applies the newest intent and starts what is due, and nobody else gives the driver
anything to do, so that rounds never overlap. The other tasks leave notes for it and wake it.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from warren_agent.aio import checkpoint
from warren_agent.domain import watchdog
from warren_agent.domain.missing import missing
from warren_agent.domain.reconcile import plan
from warren_agent.domain.states import Trigger, next_state
from warren_agent.domain.watchdog import Watch
from warren_agent.drivers.port import AttemptFailed, DaemonDown, DaemonUp, Driver, DriverEvent, TunnelChanged
from warren_agent.errors import AnnouncementRefusedError, DriverError, DriverUnavailableError, NotDeliveredError
from warren_agent.ports import Intent, IntentSource, Registry
from warren_agent.rounds import ApplyResult, carry_out
from warren_agent.store import Store
from warren_agent.teller import TelemetryReporter
from warren_bus.feed.state import FeedState
from warren_contracts.peers import Announcement
from warren_contracts.status import DriverState, DriverStatus, ReasonCode, TunnelState, TunnelStatus
from warren_contracts.telemetry import REPORT_INTERVAL, AgentState
from warren_contracts.tunnel import Tunnel
from warren_intent.expand import Expansion, explain

log = structlog.get_logger("warren_agent")

GOODBYE_TIMEOUT = 3.0  # s for the last telemetry of a clean stop
# s at most, a third of it at least, at random: a registry that returns is not met by a whole fleet
ANNOUNCE_RETRY = 15.0
REFUSED_RETRY = 30.0  # s after which a refused announcement is said again
DAEMON_GRACE = 2.0  # s after the start, in which a daemon that has not answered yet is not called away
STARTS_AT_ONCE = 50  # tunnels started before the next look for news


@dataclass(frozen=True)
class Clocks:
    """Where time and chance come from; tests give their own."""

    monotonic: Callable[[], float] = time.monotonic
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    jitter: Callable[[], float] = random.random
    report_interval: float = REPORT_INTERVAL


class Agent:
    """One peer's agent. `run` works until it is cancelled; then `close` says goodbye and lets go of the daemon."""

    def __init__(
        self,
        peer: str,
        driver: Driver,
        source: IntentSource,
        registry: Registry,
        store: Store,
        teller: TelemetryReporter,
        announcement: Announcement,
        clocks: Clocks | None = None,
        driver_kind: str = "strongswan",
    ) -> None:
        self._driver_kind = driver_kind
        self.peer = peer
        self.state = next_state(AgentState.START, Trigger.IDENTITY_READ)
        self._driver = driver
        self._source = source
        self._registry = registry
        self._store = store
        self._teller = teller
        self._announcement = announcement
        self._clocks = clocks or Clocks()
        self._watches: dict[str, Watch] = {}
        self._applied: dict[str, Tunnel] = {}
        self._missing: dict[str, TunnelStatus] = {}  # wanted, and not in the driver
        self._intent: Intent | None = None
        self._wanted = Expansion((), ())
        self._saved: FeedState | None = None
        self._to_apply: Trigger | None = None
        self._swept = False  # what an earlier run left and nobody wants is gone
        self._daemon = DriverState.UNKNOWN
        self._last_reported: tuple[int, int, str] | None = None  # the round that was told to have met no daemon
        self._daemon_known = asyncio.Event()
        self._wake = asyncio.Event()
        self._announce_now = asyncio.Event()

    async def run(self) -> None:
        """Work forever; ends by cancellation, or by a defect."""
        await self._driver.initialize()
        saved = self._store.intent()
        if saved is not None:
            log.info("agent.intent_restored", revision=saved.policy_revision, peers=len(saved.directory))
            self._saved = saved
            self._take(Intent(saved, self._clocks.now()))
        async with asyncio.TaskGroup() as tasks:
            for work in (self._receive, self._hear, self._work, self._report, self._teller.spool.run, self._announce):
                tasks.create_task(work())

    async def close(self, teardown: bool = False) -> None:
        """Say goodbye. Tunnels stay up unless `teardown`."""
        self._teller.presence(self.state, self._driver_states(), "stopping")
        sending = asyncio.create_task(self._teller.spool.run())
        await self._teller.spool.flush(GOODBYE_TIMEOUT)
        sending.cancel()
        try:
            await self._driver.cleanup(teardown)
        except DriverError as error:
            log.warning("agent.cleanup_failed", error=str(error))

    # intents

    async def _receive(self) -> None:
        async for intent in self._source.intents():
            known = self._intent
            if known is None or known.state != intent.state:
                self._take(intent)

    def _take(self, intent: Intent) -> None:
        if self._intent is not None and self._intent.state.trust.epoch != intent.state.trust.epoch:
            self._announce_now.set()  # a restored registry knows what was said before the backup
        self._intent = intent
        self._to_apply = Trigger.INTENT_CAME
        self._wake.set()

    async def _work(self) -> None:
        await self._wait_for_daemon()
        while True:
            self._wake.clear()
            trigger, self._to_apply = self._to_apply, None
            if trigger is not None and self._intent is not None:
                self.state = next_state(self.state, trigger)
                await self._apply(self._intent)
                self._save(self._intent)
            waits = await self._start_due()
            if self._to_apply is not None or waits == 0:
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(waits):
                    await self._wake.wait()

    async def _apply(self, intent: Intent) -> None:
        began = self._clocks.monotonic()
        outcome = await self._round(intent)
        duration = (self._clocks.monotonic() - began) * 1_000
        self._note(outcome, intent.traceparent)
        self._note_missing(intent, outcome)
        self._report_applied(intent, outcome, duration)
        self.state = next_state(self.state, Trigger.DAEMON_LOST if outcome.daemon_lost else Trigger.APPLIED)

    def _report_applied(self, intent: Intent, outcome: ApplyResult, duration: float) -> None:
        lost = (intent.epoch, intent.revision, outcome.daemon_lost) if outcome.daemon_lost else None
        if lost is not None and lost == self._last_reported:
            return  # a record changed meanwhile; that nothing could be applied is known
        self._last_reported = lost
        self._teller.applied(intent, outcome, duration)
        level = log.info if outcome.ok else log.warning
        level(
            "intent.applied" if outcome.ok else "intent.partially_applied", revision=intent.revision, steps=len(outcome.results),
            unchanged=outcome.unchanged, duration_ms=round(duration, 1), **({"error": outcome.error} if outcome.error else {}),
        )  # fmt: skip

    def _save(self, intent: Intent) -> None:
        """After the round, not before: the disk is for the next start, the tunnels are for now."""
        if intent.state is self._saved:
            return
        try:
            self._store.save_intent(intent.state)
            self._saved = intent.state
        except OSError as error:
            log.error("intent.not_saved", error=str(error))

    async def _round(self, intent: Intent) -> ApplyResult:
        self._wanted = explain(intent.state.published, intent.state.directory, self.peer)
        if self._daemon is not DriverState.UP:
            return ApplyResult(daemon_lost="the IPsec daemon does not answer; the change is applied when it returns")
        try:
            held = [] if self._swept else [status.name for status in await self._driver.list_tunnels()]
        except DriverUnavailableError as error:
            return ApplyResult(daemon_lost=str(error))
        outcome = await carry_out(plan(self._wanted.tunnels, self._applied, held), self._driver)
        self._swept = self._swept or outcome.ok
        return outcome

    def _note(self, outcome: ApplyResult, traceparent: str) -> None:
        now = self._clocks.monotonic()
        for name in outcome.deleted:
            self._applied.pop(name, None)
            self._watches.pop(name, None)
            self._teller.removed(name, traceparent)
        for name, config in outcome.put.items():
            self._applied[name] = config
            if name in outcome.changed or name not in self._watches:
                self._watches[name] = watchdog.put(config, now, self._watches.get(name))

    def _note_missing(self, intent: Intent, outcome: ApplyResult) -> None:
        """Tell what is wanted and not there, where that is news."""
        found = missing(self.peer, self._wanted, self._applied, outcome.failed, outcome.daemon_lost)
        for name in self._missing.keys() - found.keys() - self._applied.keys():
            self._teller.removed(name, intent.traceparent)
        for name, status in found.items():
            if self._missing.get(name) != status:
                self._teller.changed(status, 0, intent.traceparent)
        self._missing = found

    # the watchdog

    async def _start_due(self) -> float | None:
        """Start what is due. Returns the seconds until the next is; None when nothing will be."""
        if self._daemon is not DriverState.UP:
            return None
        now = self._clocks.monotonic()
        waiting = [(due, name) for name, watch in self._watches.items() if (due := watchdog.due_at(watch)) is not None]
        for due, name in sorted(waiting)[:STARTS_AT_ONCE]:
            if due > now:
                return due - now
            await self._start(name)
        return 0.0 if waiting else None

    async def _start(self, name: str) -> None:
        now = self._clocks.monotonic()
        watch = self._watches[name]
        if watch.failures == 0 and not watch.initiator:
            log.info("tunnel.takeover", tunnel=name)
        self._watches[name] = watchdog.started(watch, now)
        try:
            await self._driver.start_tunnel(name)
        except DriverUnavailableError:
            return  # DaemonDown comes by the events
        except DriverError as error:
            log.warning("tunnel.start_failed", tunnel=name, error=str(error))
            self._watches[name] = watchdog.failed(self._watches[name], now, self._clocks.jitter())

    # the driver's events

    async def _hear(self) -> None:
        async for event in self._driver.events():
            self._handle(event)
            self._wake.set()

    def _handle(self, event: DriverEvent) -> None:
        if isinstance(event, TunnelChanged):
            self._tunnel_changed(event)
        elif isinstance(event, AttemptFailed):
            self._attempt_failed(event)
        elif isinstance(event, DaemonUp):
            self._daemon_came()
        elif isinstance(event, DaemonDown):
            self._daemon_is(DriverState.UNREACHABLE)

    def _tunnel_changed(self, event: TunnelChanged) -> None:
        watch = self._watches.get(event.name)
        if watch is None:
            return  # not wanted (any more)
        connecting = event.status.state is TunnelState.CONNECTING
        watch = watchdog.observed(watch, event.settled, connecting, self._clocks.monotonic())
        self._watches[event.name] = watch
        previous = self._teller.changed(event.status, watch.restarts)
        if previous is not event.status.state:
            status = event.status
            log.info(
                "tunnel.state_changed", tunnel=status.name, state=status.state.value, peer=status.peer,
                **({"reason": status.reason.value, "detail": status.detail} if status.reason is not ReasonCode.NONE else {}),
            )  # fmt: skip

    def _attempt_failed(self, event: AttemptFailed) -> None:
        watch = self._watches.get(event.name)
        if watch is None:
            return
        self._teller.reason(event.name, event.code, event.detail)
        if event.final:
            if event.code is ReasonCode.PEER_UNREACHABLE and watch.settled:
                self._teller.dpd_failures += 1
            self._watches[event.name] = watchdog.failed(watch, self._clocks.monotonic(), self._clocks.jitter())

    def _daemon_came(self) -> None:
        now = self._clocks.monotonic()
        self._daemon_is(DriverState.UP)
        self._watches = {name: watchdog.resumed(watch, now) for name, watch in self._watches.items()}
        if self._to_apply is None and self._intent is not None:
            self._to_apply = Trigger.DAEMON_CAME
        self._announce_now.set()

    def _daemon_is(self, state: DriverState) -> None:
        if state is not self._daemon:
            self._daemon = state
            self._teller.presence(self.state, self._driver_states())
        self._daemon_known.set()

    def _driver_states(self) -> tuple[DriverStatus, ...]:
        return (DriverStatus(kind=self._driver_kind, state=self._daemon),)

    # telling

    async def _report(self) -> None:
        while True:
            self._teller.presence(self.state, self._driver_states())
            if self.state is AgentState.WATCH:
                await self._report_tunnels()
            await asyncio.sleep(self._clocks.report_interval)

    async def _report_tunnels(self) -> None:
        try:
            statuses = await self._driver.list_tunnels()
        except DriverError as error:
            log.debug("telemetry.report_skipped", error=str(error))
            return
        wanted = [status for status in statuses if status.name in self._watches]
        wanted += [status for name, status in self._missing.items() if name not in self._watches]
        self._teller.report(wanted, self._restarts, self._source.sync_errors)

    def _restarts(self, name: str) -> int:
        watch = self._watches.get(name)
        return 0 if watch is None else watch.restarts

    async def _announce(self) -> None:
        """Tell the registry what this peer is, with what its daemon can do; again when the daemon has returned. What is
        refused is said again: another peer may have given up what stood against it."""
        refusal = ""
        await self._wait_for_daemon()
        while True:
            self._announce_now.clear()
            try:
                await self._registry.announce(await self._present())
                await checkpoint()
            except NotDeliveredError as error:
                log.info("announcement.delayed", error=str(error))
                await asyncio.sleep(ANNOUNCE_RETRY * (1 + 2 * self._clocks.jitter()) / 3)
            except AnnouncementRefusedError as error:
                if str(error) != refusal:  # one line for each reason, not for each try
                    log.error("announcement.refused", error=str(error))
                refusal = str(error)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(REFUSED_RETRY):
                        await self._announce_now.wait()
            else:
                await self._announce_now.wait()

    async def _present(self) -> Announcement:
        try:
            driver = await self._driver.capabilities()
        except DriverUnavailableError:
            return self._announcement
        return self._announcement.model_copy(update={"drivers": (driver,)})

    async def _wait_for_daemon(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DAEMON_GRACE):
                await self._daemon_known.wait()
