"""The announcer: keeps the registry informed of this peer's addresses, networks, keys and drivers."""

import asyncio
import contextlib
from collections.abc import Callable

import structlog

from warren_agent.aio import checkpoint
from warren_agent.clocks import Clocks
from warren_agent.drivers.set import DriverSet
from warren_agent.errors import AnnouncementRefusedError, NotDeliveredError
from warren_agent.ports import RegistryClient
from warren_contracts.addresses import IPAddress
from warren_contracts.peers import Announcement

log = structlog.get_logger("warren_agent")

# s at most, a third of it at least, at random: a registry that returns does not get the whole fleet at once
ANNOUNCE_RETRY = 15.0
MAX_ECHO_ADDRESSES = 4  # of Announcement.echo_addresses
REFUSED_RETRY = 30.0  # s after which a refused announcement is sent again


class Announcer:
    """Sends the announcement, with the capabilities of the drivers, whenever `announce_soon` asks for it."""

    def __init__(
        self, registry: RegistryClient, drivers: DriverSet, announcement: Announcement, clocks: Clocks,
        own_addresses: Callable[[], tuple[IPAddress, ...]] = tuple,
    ) -> None:  # fmt: skip
        """`own_addresses` are the host's; those within its subnets answer echoes of its peers."""
        self._own_addresses = own_addresses
        self._registry = registry
        self._drivers = drivers
        self._announcement = announcement
        self._clocks = clocks
        self._due = asyncio.Event()

    def announce_soon(self) -> None:
        """Announce again: a daemon has returned, or the registry may have forgotten."""
        self._due.set()

    async def run(self) -> None:
        """Announce now and whenever asked to. A refused announcement is repeated, since the conflicting peer may withdraw."""
        refusal = ""
        while True:
            self._due.clear()
            try:
                more = {"drivers": await self._drivers.capabilities(), "echo_addresses": self._echo_addresses()}
                await self._registry.announce(self._announcement.model_copy(update=more))
                await checkpoint()
            except NotDeliveredError as error:
                log.info("announcement.delayed", error=str(error))
                await asyncio.sleep(ANNOUNCE_RETRY * (1 + 2 * self._clocks.jitter()) / 3)
            except AnnouncementRefusedError as error:
                if str(error) != refusal:  # one line for each reason, not for each attempt
                    log.error("announcement.refused", error=str(error))
                refusal = str(error)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(REFUSED_RETRY):
                        await self._due.wait()
            else:
                await self._due.wait()

    def _echo_addresses(self) -> tuple[IPAddress, ...]:
        """The first address of the host in each of its subnets."""
        own, subnets = self._own_addresses(), self._announcement.subnets
        firsts = (next((it for it in own if it in subnet), None) for subnet in subnets)
        return tuple(dict.fromkeys(it for it in firsts if it is not None))[:MAX_ECHO_ADDRESSES]
