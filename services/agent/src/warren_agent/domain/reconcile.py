"""What is to be done to make the tunnels that are those that are wanted. Pure."""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import NamedTuple

from warren_contracts.tunnel import Tunnel


class Action(StrEnum):
    """One step with one tunnel."""

    DELETE = "delete"
    CREATE = "create"
    UPDATE = "update"


class Step(NamedTuple):
    """`config` is None for DELETE alone."""

    action: Action
    name: str
    config: Tunnel | None

    @property
    def exists(self) -> bool:
        """Whether this process has given the tunnel to a driver before."""
        return self.action is Action.UPDATE


class Plan(NamedTuple):
    """The steps in their order, and how many tunnels need none."""

    steps: tuple[Step, ...]
    unchanged: int


def plan(wanted: Iterable[Tunnel], applied: Mapping[str, Tunnel], held: Iterable[str]) -> Plan:
    """The difference between `wanted` and what is there.

    `applied` are the configurations that this process gave to the driver and that it took; `held` are the names that the
    driver has, also from an earlier run. Removals come first: a new tunnel may take over the selectors of a removed one.
    A tunnel whose configuration is equal has no step; one that only an earlier run knows is created again, which the
    driver finds to be unchanged by itself.
    """
    targets = {config.name: config for config in wanted}
    removals = sorted(({*held} | applied.keys()) - targets.keys())
    steps = [Step(Action.DELETE, name, None) for name in removals]
    for name, config in sorted(targets.items()):
        if name not in applied:
            steps.append(Step(Action.CREATE, name, config))
        elif applied[name] != config:
            steps.append(Step(Action.UPDATE, name, config))
    return Plan(tuple(steps), len(targets) - sum(step.config is not None for step in steps))
