"""Keeps the rules of routing in the kernel that lead the bypass past the tunnels."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import structlog

from warren_contracts.guard import Bypass, LocalNetwork
from warren_guard.domain.rules import Rule, changes, held_rules, wanted_rules
from warren_guard.errors import GuardError

log = structlog.get_logger("warren_guard")


class RuleKernel(Protocol):
    """The kernel's rules of routing."""

    async def rules(self, family: int) -> Sequence[Mapping[str, Any]]:
        """The rules of a family (4 or 6); GuardError if they cannot be read."""

    async def change_rules(self, family: int, lines: Sequence[str]) -> None:
        """Run commands of ip(8); GuardError with the reason of the first that is refused."""


class Rules:
    """The rules of the last request, and why they could not be made."""

    def __init__(self, kernel: RuleKernel) -> None:
        self._kernel = kernel
        self._wanted: dict[int, set[Rule]] = wanted_rules((), ())
        self._is_empty = False  # no rule of ours is in the kernel
        self.error = ""

    async def apply(self, bypass: Sequence[Bypass], networks: Sequence[LocalNetwork]) -> None:
        """Make what is missing, and remove what nothing needs."""
        self._wanted = wanted_rules(bypass, networks)
        if changed := await self._make():
            log.info("guard.rules_changed", commands=changed)

    async def repair(self) -> None:
        """The same for what was last wanted: another program may have changed rules."""
        if changed := await self._make():
            log.warning("guard.rules_restored", commands=changed, cause="another program had changed them")

    async def _make(self) -> int:
        """Returns the number of commands that it took."""
        if self._is_empty and not any(self._wanted.values()):
            return 0
        failed: list[str] = []
        changed = 0
        for family, rules in self._wanted.items():
            try:
                lines = changes(rules, held_rules(await self._kernel.rules(family)))
                if lines:
                    await self._kernel.change_rules(family, lines)
                    changed += len(lines)
            except GuardError as error:
                if rules or not failed:
                    log.error("guard.rules_failed", family=family, error=str(error))
                failed += [str(error)] if rules else []
        self.error = "; ".join(failed)[:1_000]
        self._is_empty = not self.error and not any(self._wanted.values())
        return changed
