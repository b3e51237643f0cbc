"""The names in use: each is looked up by itself, again when its addresses expire, and keeps the last ones while that fails."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection, Mapping

import structlog

from warren_agent.errors import UnresolvedNameError
from warren_agent.paths.resolver import Resolved, resolve
from warren_contracts.addresses import IPAddress
from warren_process.backoff import Backoff

log = structlog.get_logger("warren_agent")

FIRST_RETRY = 5.0  # s
LAST_RETRY = 60.0  # s

Resolve = Callable[[str], Awaitable[Resolved]]


class Names:
    """Follows host names. `changed` is called when the addresses of one have changed, or the first look-up of one has failed."""

    def __init__(
        self,
        changed: Callable[[], None],
        resolving: Resolve = resolve,
        known: Mapping[str, tuple[IPAddress, ...]] | None = None,
    ) -> None:
        """`known` are the addresses that an earlier run found: valid until a look-up finds others."""
        self._earlier = dict(known or {})
        self._changed = changed
        self._resolve = resolving
        self._addresses: dict[str, tuple[IPAddress, ...]] = {}
        self._failures: dict[str, str] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def follow(self, names: Collection[str]) -> None:
        """Follow these names and no others."""
        for name in self._tasks.keys() - set(names):
            self._tasks.pop(name).cancel()
            self._addresses.pop(name, None)
            self._failures.pop(name, None)
        for name in set(names) - self._tasks.keys():
            if name in self._earlier:
                self._addresses[name] = self._earlier.pop(name)
            self._tasks[name] = asyncio.create_task(self._keep(name), name=f"resolve:{name}")

    def addresses(self, name: str) -> tuple[IPAddress, ...]:
        """The last known addresses; none while it was never resolved."""
        return self._addresses.get(name, ())

    def known(self) -> Mapping[str, tuple[IPAddress, ...]]:
        """The addresses of all names that are followed and have some."""
        return {name: found for name, found in self._addresses.items() if found}

    def failure(self, name: str) -> str:
        """Why a name has no addresses; empty if it has some, or was not looked up yet."""
        return "" if self.addresses(name) else self._failures.get(name, "")

    async def _keep(self, name: str) -> None:
        backoff = Backoff(FIRST_RETRY, LAST_RETRY, random.random)
        while True:
            try:
                found = await self._resolve(name)
            except UnresolvedNameError as error:
                if name not in self._failures:
                    log.warning("endpoint.unresolved", name=name, error=str(error), known=bool(self.addresses(name)))
                    self._failures[name] = str(error)
                    self._changed()
                await asyncio.sleep(backoff.next_s())
                continue
            if not found.is_complete and self.addresses(name):
                await asyncio.sleep(backoff.next_s())  # one family was not answered: its addresses are not gone
                continue
            backoff.reset()
            self._failures.pop(name, None)
            if found.addresses != self._addresses.get(name):
                log.info("endpoint.resolved", name=name, addresses=[str(it) for it in found.addresses])
                self._addresses[name] = found.addresses
                self._changed()
            await asyncio.sleep(found.ttl_s)

    def close(self) -> None:
        """Stop following."""
        self.follow(())
