"""The reconciler: make the drivers' tunnels those of the newest intent, by the difference only.

Before the first step the guard knows the traffic of all tunnels; a tunnel that it cannot protect is not applied.
A step that fails leaves its tunnel as it was (the driver's promise) and does not keep the others from theirs. When a daemon
becomes unavailable meanwhile, the steps of its driver are left undone and applied when it returns.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from warren_agent.domain.changes import also_protected
from warren_agent.domain.peer_runs import Runs, restarted, runs_of, without_daemon
from warren_agent.domain.reconcile import Action, Plan, Step, plan
from warren_agent.domain.undeployed import undeployed
from warren_agent.drivers.port import ApplyEffect
from warren_agent.drivers.set import DriverSet
from warren_agent.errors import ConfigRefusedError, DriverError, DriverUnavailableError
from warren_agent.paths.manager import PathManager
from warren_agent.ports import Intent
from warren_agent.protection import Protection
from warren_bus.feed.state import FeedState
from warren_contracts.status import MAX_DETAIL, DriverState, ReasonCode, TunnelStatus
from warren_contracts.telemetry import AppliedTunnel
from warren_contracts.tunnel import Tunnel
from warren_intent.expand import Expansion, explain

if TYPE_CHECKING:
    from warren_intent.incremental import Expander

INCREMENTAL_FROM = 500  # peers; with fewer, deriving everything takes some 30 ms, and no memory in between


@dataclass
class ApplyResult:
    """What one run did. `put` are the configurations that drivers accepted, `deleted` the names that are gone."""

    unchanged: int = 0
    results: list[AppliedTunnel] = field(default_factory=list)
    put: dict[str, Tunnel] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)
    deleted: list[str] = field(default_factory=list)
    daemon_lost: str = ""

    @property
    def failed(self) -> dict[str, AppliedTunnel]:
        """The steps that failed, by their tunnels."""
        return {result.name: result for result in self.results if result.step == "failed"}

    @property
    def ok(self) -> bool:
        return not self.daemon_lost and not self.failed

    @property
    def error(self) -> str:
        failed = list(self.failed.values())
        if self.daemon_lost:
            return self.daemon_lost
        return f"{len(failed)} of {len(self.results) + self.unchanged} tunnels: {failed[0].detail}" if failed else ""


class Rollbacks(Protocol):
    """Which tunnels have their former configuration (`warren_agent.change_control`)."""

    def in_effect(self, tunnels: Iterable[Tunnel], intent: Intent) -> tuple[Tunnel, ...]:
        """The tunnels that are to be in force of those that an intent derives."""

    def former(self) -> tuple[Tunnel, ...]:
        """The former configurations among them."""

    def undeployed(self) -> Mapping[str, TunnelStatus]:
        """The derived tunnels that were rolled back to nothing."""


class Reconciler:
    """Desired and actual tunnels of one peer."""

    def __init__(
        self, peer: str, drivers: DriverSet, protection: Protection, paths: PathManager, rollbacks: Rollbacks
    ) -> None:
        self.applied: dict[str, Tunnel] = {}
        self.undeployed: dict[str, TunnelStatus] = {}  # desired, and in no driver
        self._peer = peer
        self._drivers = drivers
        self._protection = protection
        self._paths = paths
        self._rollbacks = rollbacks
        self._expansion: tuple[FeedState, Expansion] | None = None  # of the newest intent
        self._expander: Expander | None = None
        self._desired = Expansion((), ())  # with the rollbacks
        self._orphans_removed = False  # tunnels of an earlier run that nobody desires
        self._runs: Runs = {}  # of the peers' daemons

    def derive(self, intent: Intent) -> tuple[Tunnel, ...]:
        """The tunnels that are to be in force with an intent."""
        state = intent.state
        if self._expansion is None or self._expansion[0] is not state:
            self._expansion = state, self._explain(state)
        derived = self._expansion[1]
        tunnels = self._rollbacks.in_effect(derived.tunnels, intent)
        protected = also_protected(derived.protected, self._rollbacks.former())
        self._desired = replace(derived, tunnels=tunnels, protected=protected)
        return tunnels

    def _explain(self, state: FeedState) -> Expansion:
        if len(state.directory) < INCREMENTAL_FROM:
            self._expander = None
            return explain(state.published, state.directory, self._peer)
        if self._expander is None:
            from warren_intent.incremental import Expander  # only large gateways have the memory for it

            self._expander = Expander(self._peer)
        return self._expander.explain(state.published, state.directory)

    async def protect(self, intent: Intent) -> None:
        """Hand the traffic of an intent to the guard."""
        self.derive(intent)
        await self._protection.secure(self._desired, intent.state, self.applied)

    async def reconcile(self, intent: Intent) -> ApplyResult:
        """Apply what `derive` returned; what went wrong is in the result."""
        is_listed = self._drivers.is_any_up and not self._orphans_removed
        held = [status.name for status in await self._drivers.list_tunnels()] if is_listed else []
        await self._protection.secure(self._desired, intent.state, self._running(held))
        directory = intent.state.directory
        echo_addresses = {
            tunnel.name: directory[tunnel.peer].echo_addresses
            for tunnel in self._desired.tunnels
            if tunnel.peer in directory
        }
        self._paths.desire(self._desired.tunnels, echo_addresses)
        if not self._drivers.is_any_up:
            return ApplyResult(daemon_lost="no IPsec daemon answers; the change is applied when it returns")
        await self._drivers.pass_by(self._protection.reach.bypassed())
        outcome = await apply_plan(plan(self._paths.tunnels(), self.applied, held), self._drivers, self._protection)
        every_daemon_answers = all(driver.state is DriverState.UP for driver in self._drivers.states())
        self._orphans_removed = self._orphans_removed or (outcome.ok and every_daemon_answers)
        self._applied(outcome)
        return outcome

    def _running(self, held: Iterable[str]) -> dict[str, Tunnel]:
        """The configurations in the drivers. Of a tunnel of an earlier run only the name is known: it is taken to have the desired one."""
        names = {*held}
        return {it.name: it for it in self._desired.tunnels if it.name in names} | self.applied

    async def apply_paths(self) -> ApplyResult:
        """Apply the addresses that are in use now; the tunnels that are not concerned are not touched."""
        if not self._drivers.is_any_up:
            return ApplyResult()
        wanted = [tunnel for tunnel in self._paths.tunnels() if tunnel.name in self.applied]
        steps = tuple(Step(Action.UPDATE, it.name, it) for it in wanted if self.applied[it.name] != it)
        outcome = await apply_plan(Plan(steps, len(wanted) - len(steps)), self._drivers, self._protection)
        self._applied(outcome)
        return outcome

    def _applied(self, outcome: ApplyResult) -> None:
        for name in outcome.deleted:
            self.applied.pop(name, None)
        self.applied |= outcome.put

    @property
    def standbys_of_peers(self) -> Mapping[str, str]:
        """The tunnels that their other end keeps as standbys, each with one that it uses instead."""
        return self._desired.standbys_of_peers

    def lost_by_peers(self, intent: Intent) -> list[str]:
        """The tunnels that this end starts, and whose peer's daemon was restarted since the last call: it has no SA of them."""
        runs = runs_of(intent.state.directory)
        peers = restarted(self._runs, runs)
        self._runs = {**self._runs, **runs}  # a daemon that does not answer has announced no run
        return sorted(name for name, it in self.applied.items() if it.initiator and it.peer in peers)

    def resume(self, saved: FeedState) -> None:
        """Take up after an earlier run of the agent, which has seen to all that its last intent says: a daemon that has another run
        since then was restarted while no agent was here."""
        self._runs = runs_of(saved.directory)

    def without_peer_daemon(self, intent: Intent) -> frozenset[str]:
        """The applied tunnels whose peer announces that its daemon does not answer."""
        return without_daemon(self.applied.values(), intent.state.directory)

    def update_undeployed(self, outcome: ApplyResult) -> tuple[list[str], list[TunnelStatus]]:
        """Find what is desired and not deployed; returns the names that no longer are, and the statuses that are new."""
        found = undeployed(self._peer, self._desired, self.applied, outcome.failed, outcome.daemon_lost)
        found |= self._rollbacks.undeployed()
        gone = sorted(self.undeployed.keys() - found.keys() - self.applied.keys())
        new = [status for name, status in found.items() if self.undeployed.get(name) != status]
        self.undeployed = found
        return gone, new


async def apply_plan(planned: Plan, drivers: DriverSet, protection: Protection) -> ApplyResult:
    """Do every step. Never raises a DriverError: what went wrong is in the result."""
    outcome = ApplyResult(unchanged=planned.unchanged)
    lost: set[str | None] = set()  # kinds of drivers whose daemon does not answer
    for step in planned.steps:
        refused = None
        if step.config is not None:
            refused = protection.refusal(step.config, drivers.passes_by(step.config))
        if refused is not None:
            code, detail = refused[0], refused[1][:MAX_DETAIL]
            outcome.results.append(AppliedTunnel(name=step.name, step="failed", reason=code, detail=detail))
            continue
        try:
            kind = drivers.kind_of(step.name) if step.config is None else drivers.kind_for(step.config)
            if kind in lost:
                continue
            await _apply_step(step, drivers, outcome)
        except DriverUnavailableError as error:
            outcome.daemon_lost = str(error)
            lost.add(kind)
        except DriverError as error:
            code = ReasonCode.CONFIG_REFUSED if isinstance(error, ConfigRefusedError) else ReasonCode.OTHER
            detail = str(error)[:MAX_DETAIL]
            outcome.results.append(AppliedTunnel(name=step.name, step="failed", reason=code, detail=detail))
    return outcome


async def _apply_step(step: Step, drivers: DriverSet, outcome: ApplyResult) -> None:
    if step.config is None:
        await drivers.delete_tunnel(step.name)
        outcome.deleted.append(step.name)
        outcome.results.append(AppliedTunnel(name=step.name, step="deleted"))
        return
    effect = await drivers.put(step.config, exists=step.exists)
    outcome.put[step.name] = step.config
    if effect is ApplyEffect.UNCHANGED:
        outcome.unchanged += 1
    else:
        outcome.changed.add(step.name)
        outcome.results.append(AppliedTunnel(name=step.name, step=effect.value))
