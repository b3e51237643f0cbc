"""Keeps the rules of routing in the kernel that lead the bypass past the tunnels."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import structlog

from warren_contracts.guard import Bypass, LocalNetwork
from warren_guard.domain.rules import changes, held_rules, wanted_rules
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
        self._is_empty = False  # no rule of ours is in the kernel
        self.error = ""

    async def apply(self, bypass: Sequence[Bypass], networks: Sequence[LocalNetwork]) -> None:
        """Make what is missing, and remove what nothing needs."""
        wanted = wanted_rules(bypass, networks)
        if self._is_empty and not any(wanted.values()):
            return
        failed: list[str] = []
        for family, rules in wanted.items():
            try:
                lines = changes(rules, held_rules(await self._kernel.rules(family)))
                if lines:
                    await self._kernel.change_rules(family, lines)
                    log.info("guard.rules_changed", family=family, commands=len(lines))
            except GuardError as error:
                if rules or not failed:
                    log.error("guard.rules_failed", family=family, error=str(error))
                failed += [str(error)] if rules else []
        self.error = "; ".join(failed)[:1_000]
        self._is_empty = not self.error and not any(wanted.values())
