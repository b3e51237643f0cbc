"""One round of the reconciler: the steps of a plan, each through the driver, and what became of each.

A step that fails leaves its tunnel as it was (the driver's promise) and does not keep the others from theirs. When the
daemon becomes unavailable in the middle, the rest is left undone and the round is done again when it returns.
"""

from dataclasses import dataclass, field

from warren_agent.domain.reconcile import Action, Plan, Step
from warren_agent.drivers.port import Driver, Effect
from warren_agent.errors import ConfigRefusedError, DriverError, DriverUnavailableError
from warren_contracts.status import ReasonCode
from warren_contracts.telemetry import AppliedTunnel
from warren_contracts.tunnel import Tunnel

MAX_DETAIL = 512  # characters, of AppliedTunnel.detail


@dataclass
class ApplyResult:
    """What a round did. `put` are the configurations that the driver took, `deleted` the names that are gone."""

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


async def carry_out(plan: Plan, driver: Driver) -> ApplyResult:
    """Do every step. Never raises a DriverError: what went wrong is in the outcome."""
    outcome = ApplyResult(unchanged=plan.unchanged)
    for step in plan.steps:
        try:
            await _do(step, driver, outcome)
        except DriverUnavailableError as error:
            outcome.daemon_lost = str(error)
            break
        except DriverError as error:
            code = ReasonCode.CONFIG_REFUSED if isinstance(error, ConfigRefusedError) else ReasonCode.OTHER
            detail = str(error)[:MAX_DETAIL]
            outcome.results.append(AppliedTunnel(name=step.name, step="failed", reason=code, detail=detail))
    return outcome


async def _do(step: Step, driver: Driver, outcome: ApplyResult) -> None:
    if step.config is None:
        await driver.delete_tunnel(step.name)
        outcome.deleted.append(step.name)
        outcome.results.append(AppliedTunnel(name=step.name, step="deleted"))
        return
    put = driver.create_tunnel if step.action is Action.CREATE else driver.update_tunnel
    effect = await put(step.config)
    outcome.put[step.name] = step.config
    if effect is Effect.UNCHANGED:
        outcome.unchanged += 1
    else:
        outcome.changed.add(step.name)
        outcome.results.append(AppliedTunnel(name=step.name, step=effect.value))
