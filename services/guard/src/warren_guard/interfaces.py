"""Keeps the XFRM interfaces of route-based tunnels in the kernel."""

from collections.abc import Collection, Iterable, Sequence
from typing import Protocol

import structlog

from warren_contracts.guard import InterfaceError
from warren_contracts.protection import ProtectedTraffic
from warren_guard.domain.interfaces import (
    ROUTE_PROTOCOL,
    KernelLinks,
    WantedInterface,
    missing,
    name_of,
    obsolete,
    wanted,
)
from warren_guard.errors import GuardError

log = structlog.get_logger("warren_guard")


class LinkKernel(Protocol):
    """The kernel's links and routes."""

    async def surroundings(self, routes_of: str) -> KernelLinks:
        """What is there now; GuardError if it cannot be read."""

    async def devices_down(self, devices: Collection[str]) -> list[str]:
        """Those of these devices that exist and are down; GuardError if links are unreadable."""

    async def batch(self, lines: Sequence[str]) -> None:
        """Run commands of ip(8); GuardError with the reason of the first that is refused."""


class Interfaces:
    """The interfaces that the held traffic needs, and what could not be made."""

    def __init__(self, kernel: LinkKernel) -> None:
        self._kernel = kernel
        self._wanted: dict[int, WantedInterface] = {}
        self._known_empty = False  # nothing of ours is in the kernel
        self.errors: tuple[InterfaceError, ...] = ()

    async def devices(self, traffic: Iterable[ProtectedTraffic]) -> tuple[str, ...]:
        """The names of the interfaces of this traffic, as they are or will be called. GuardError if links are unreadable."""
        needed = wanted(traffic)
        if not needed:
            return ()
        links = (await self._kernel.surroundings(ROUTE_PROTOCOL)).links
        return tuple(sorted(name_of(if_id, links) for if_id in needed))

    async def apply(self, traffic: Iterable[ProtectedTraffic]) -> None:
        """Make what is missing, and remove what nothing needs; `errors` are the interfaces that could not be made."""
        self._wanted = wanted(traffic)
        await self.repair()

    async def raise_devices(self, devices: Collection[str]) -> None:
        """Set these up where somebody has set them down: no packet enters a tunnel then, and no daemon looks at it."""
        try:
            if devices and (down := await self._kernel.devices_down(devices)):
                await self._kernel.batch([f"link set dev {name} up" for name in down])
                log.warning("guard.devices_raised", devices=", ".join(down))
        except GuardError as error:
            log.error("guard.devices_down", error=str(error))

    async def repair(self) -> None:
        """The same for the traffic of the last call: another program may have changed links."""
        if not self._wanted and self._known_empty:
            self.errors = ()
            return
        try:
            kernel = await self._kernel.surroundings(ROUTE_PROTOCOL)
            if lines := obsolete(self._wanted, kernel):
                await self._kernel.batch(lines)
                log.info("guard.interfaces_removed", commands=len(lines))
            self._known_empty = not self._wanted
        except GuardError as error:
            log.error("guard.interfaces_unreadable", error=str(error))
            self.errors = tuple(InterfaceError(if_id=it, detail=str(error)[:1_000]) for it in sorted(self._wanted))
            return
        failed = []
        for if_id, needed in sorted(self._wanted.items()):
            if lines := missing(if_id, needed, kernel):
                try:
                    await self._kernel.batch(lines)
                    log.info("guard.interface_made", if_id=if_id, routes=len(needed.remote))
                except GuardError as error:
                    log.error("guard.interface_failed", if_id=if_id, error=str(error))
                    failed.append(InterfaceError(if_id=if_id, detail=str(error)[:1_000]))
        self.errors = tuple(failed)
