"""The health of the API server and of everything that it depends on.

`live`: this process answers. `ready`: the bus answers and every service reports that it is ready. Names and booleans need no token
(load balancers and `warren up` have none); the details do. Results are cached for a second. The dependencies that a service without a
reply had named before (`registry/postgres`) stay in the listing, not ready and unknown: otherwise the cause would disappear with it.
"""

import asyncio
import time
from collections.abc import Callable

from warren_api.ports import Bus
from warren_contracts.commands import Empty, Health
from warren_contracts.problems import WarrenError

SERVICES = ("registry", "policy", "metrics")
CACHE_SECONDS = 1.0
CACHE_UNREADY_SECONDS = 0.2  # a client that waits for a start gets the change soon
CACHE_CALLOUT_SECONDS = 10.0  # while it answers: each probe is a connection to the bus
PROBE_SECONDS = 2.5  # a service that takes longer is not ready; PostgreSQL has 2 s there (warren_store)

_UNREACHED = "unknown: not reachable without NATS"


class HealthProbe:
    """Probes all services at once; concurrent requests share the result."""

    def __init__(self, bus: Bus, clock: Callable[[], float] = time.monotonic) -> None:
        self._bus = bus
        self._clock = clock
        self._answer: tuple[float, Health] | None = None
        self._lock = asyncio.Lock()
        self._callout_until = 0.0
        self._named: dict[str, tuple[str, ...]] = {}  # the dependencies that each service named in its last reply

    async def health(self) -> Health:
        """The state of `nats`, `callout`, each service, and each service's dependencies (`registry/postgres`)."""
        async with self._lock:
            if self._answer is None or self._answer[0] <= self._clock():
                health = await self._probe_all()
                self._answer = (self._clock() + (CACHE_SECONDS if health.ready else CACHE_UNREADY_SECONDS), health)
            return self._answer[1]

    async def _probe_all(self) -> Health:
        nats = await self._nats()
        dependencies = {"nats": nats is None}
        detail: dict[str, str] = {} if nats is None else {"nats": nats}
        remarks: dict[str, str] = {}
        callout, answers = await self._probe_services(nats is None)
        dependencies["callout"] = callout is None
        detail |= {} if callout is None else {"callout": callout}
        for service, answer in zip(SERVICES, answers, strict=True):
            if isinstance(answer, str):
                dependencies[service] = False
                detail[service] = answer
                for name in self._named.get(service, ()):
                    dependencies[f"{service}/{name}"] = False
                    detail[f"{service}/{name}"] = f"unknown: {answer.removeprefix('unknown: ')}"
                continue
            self._named[service] = tuple(answer.dependencies)
            dependencies[service] = answer.live and answer.ready
            dependencies |= {f"{service}/{name}": up for name, up in answer.dependencies.items()}
            detail |= {f"{service}/{name}": text for name, text in answer.detail.items()}
            remarks |= {f"{service}/{name}": text for name, text in answer.remarks.items()}
        ready = all(dependencies.values())
        return Health(service="api", ready=ready, dependencies=dependencies, detail=detail, remarks=remarks)

    async def _nats(self) -> str | None:
        if not self._bus.is_connected:
            return "not connected"
        return None if await self._bus.answers() else "connected, but does not answer: it hangs, or is unreachable"

    async def _probe_services(self, reached: bool) -> tuple[str | None, list[Health | str]]:
        """Probe the callout and the services, all at once."""
        if not reached:
            self._callout_until = 0.0
            return _UNREACHED, [_UNREACHED] * len(SERVICES)
        return await asyncio.gather(self._callout(), asyncio.gather(*map(self._probe, SERVICES)))

    async def _callout(self) -> str | None:
        if self._clock() < self._callout_until:
            return None
        if not await self._bus.callout_answers():
            self._callout_until = 0.0
            return "no reply to the connection of a probe"
        self._callout_until = self._clock() + CACHE_CALLOUT_SECONDS
        return None

    async def _probe(self, service: str) -> Health | str:
        try:
            return await self._bus.call(service, "health", Empty(), Health, timeout=PROBE_SECONDS)
        except WarrenError as error:
            return error.detail
