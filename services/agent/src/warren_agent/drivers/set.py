"""The drivers of one host: a tunnel belongs to the driver that serves its kind of link, and each driver has a state of its own."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from warren_agent.drivers.port import ApplyEffect, Bypassed, Children, DaemonDown, DaemonUp, Driver, DriverEvent
from warren_agent.errors import ConfigRefusedError, DriverError, DriverUnavailableError, UnknownTunnelError
from warren_contracts.peers import DriverCapabilities
from warren_contracts.status import DriverState, DriverStatus, TunnelStatus
from warren_contracts.tunnel import Tunnel

log = structlog.get_logger("warren_agent")

MAX_DETAIL = 255  # characters, of DriverStatus.detail
MAX_SOCKET = 128  # characters, of DriverStatus.socket


@dataclass(frozen=True)
class HostedDriver:
    """One driver of this host, its kind, and the kinds of links that it serves."""

    kind: str
    links: tuple[str, ...]
    driver: Driver


class CapabilityMemory(Protocol):
    """Capabilities by kind of driver, from one run of the agent to the next."""

    def load(self) -> dict[str, DriverCapabilities]:
        """What was saved last; empty if nothing was."""

    def save(self, known: dict[str, DriverCapabilities]) -> None:
        """Replace it."""


class DriverSet:
    """Routes each tunnel to its driver. A driver whose daemon does not answer leaves the tunnels of the others alone."""

    def __init__(self, drivers: Sequence[HostedDriver], memory: CapabilityMemory | None = None) -> None:
        """`memory` has the capabilities that an earlier run announced."""
        self._memory = memory
        self._drivers = {hosted.kind: hosted for hosted in drivers}
        self._states = dict.fromkeys(self._drivers, DriverState.UNKNOWN)
        self._details: dict[str, str] = {}  # by kind: why its daemon is unreachable
        self._daemons = dict.fromkeys(self._drivers, DaemonUp(""))  # as they last answered
        self._kind_of: dict[str, str] = {}  # by tunnel
        known = memory.load() if memory is not None else {}
        self._capabilities = {kind: it for kind, it in known.items() if kind in self._drivers}  # as last announced
        self._passing: frozenset[str] = frozenset()  # kinds that keep packets out of their tunnels by themselves
        self._known = asyncio.Event()

    async def initialize(self) -> None:
        """Let every driver look for its daemon; DaemonUp or DaemonDown follows for each in `events()`."""
        for hosted in self._drivers.values():
            await hosted.driver.initialize()

    async def wait_until_known(self) -> None:
        """Return as soon as every daemon has answered, or is known not to answer."""
        await self._known.wait()

    def states(self) -> tuple[DriverStatus, ...]:
        """The state of each driver's daemon."""
        return tuple(
            DriverStatus(
                kind=kind,
                state=state,
                detail=self._details.get(kind, "")[:MAX_DETAIL],
                socket=self._daemons[kind].socket[:MAX_SOCKET],
                plugins=self._daemons[kind].plugins,
            )
            for kind, state in self._states.items()
        )

    @property
    def is_any_up(self) -> bool:
        """Whether at least one daemon answers."""
        return DriverState.UP in self._states.values()

    def is_up_for(self, tunnel: str) -> bool:
        """Whether the daemon that holds a tunnel answers."""
        return self._states.get(self._kind_of.get(tunnel, "")) is DriverState.UP

    def kind_for(self, config: Tunnel) -> str:
        """The kind of the driver that serves a tunnel.

        Raises:
            ConfigRefusedError: no driver of this host serves its kind of link.
        """
        for hosted in self._drivers.values():
            if config.link.kind in hosted.links:
                return hosted.kind
        raise ConfigRefusedError(f"{config.name}: link: no driver of this host serves {config.link.kind}")

    async def capabilities(self) -> tuple[DriverCapabilities, ...]:
        """The capabilities of every driver; the last known ones, marked as unreachable, while its daemon does not answer.

        A peer that is announced as unreachable is left by others for another way: until a daemon is known not to answer, the
        announcement of the agent's last run stands.
        """
        found = []
        for kind, hosted in self._drivers.items():
            try:
                known = self._capabilities[kind] = await hosted.driver.capabilities()
            except DriverUnavailableError:
                last = self._capabilities.get(kind)
                if last is not None and self._states[kind] is DriverState.UNKNOWN:
                    known = last  # the agent has just started, and nothing speaks against its daemon yet
                else:
                    last = last or DriverCapabilities(kind=kind, links=hosted.links)
                    known = last.model_copy(update={"reachable": False})
            found.append(known)
        if self._memory is not None:
            self._memory.save(self._capabilities)
        return tuple(found)

    async def pass_by(self, bypassed: Bypassed) -> None:
        """Let every driver keep these packets out of its tunnels."""
        for kind, hosted in self._drivers.items():
            try:
                passes = await hosted.driver.pass_by(bypassed)
            except DriverUnavailableError:
                continue  # the next round, when it is back
            except DriverError as error:
                log.error("bypass.refused", driver=kind, error=str(error))
                passes = False
            self._passing = self._passing | {kind} if passes else self._passing - {kind}

    def routes_changed(self) -> None:
        """Let every driver see whether packets still reach its tunnels."""
        for hosted in self._drivers.values():
            hosted.driver.routes_changed()

    def passes_by(self, config: Tunnel) -> bool:
        """Whether a tunnel's driver keeps out of it what was given to `pass_by`."""
        return any(config.link.kind in hosted.links and kind in self._passing for kind, hosted in self._drivers.items())

    async def put(self, config: Tunnel, *, exists: bool) -> ApplyEffect:
        """Create the tunnel, or update it if it `exists`. A tunnel whose kind of link has changed moves to its new driver.

        Raises:
            ConfigRefusedError: its driver refuses it, or there is none; what exists stays.
            DriverUnavailableError: the daemon does not answer.
        """
        kind = self.kind_for(config)
        driver, former = self._drivers[kind].driver, self._kind_of.get(config.name)
        driver.validate(config)
        if former is not None and former != kind:
            await self._drivers[former].driver.delete_tunnel(config.name)
            exists = False
        effect = await (driver.update_tunnel(config) if exists else driver.create_tunnel(config))
        self._kind_of[config.name] = kind
        return effect

    async def delete_tunnel(self, name: str) -> None:
        """Delete a tunnel from its driver; harmless if there is none."""
        if (kind := self._kind_of.get(name)) is not None:
            await self._drivers[kind].driver.delete_tunnel(name)
            del self._kind_of[name]

    async def start_tunnel(self, name: str) -> None:
        """Try once to bring a tunnel up. UnknownTunnelError if no driver has it."""
        if (kind := self._kind_of.get(name)) is None:
            raise UnknownTunnelError(f"{name}: no such tunnel")
        await self._drivers[kind].driver.start_tunnel(name)

    async def give_up(self, name: str, force: bool = False) -> bool:
        """Give up a tunnel's attempt, unless its peer has answered; True if there is none any more."""
        if (kind := self._kind_of.get(name)) is None:
            return True
        return await self._drivers[kind].driver.give_up(name, force)

    async def renew_tunnel(self, name: str) -> None:
        """Let the next start of a tunnel make new SAs. UnknownTunnelError if no driver has it."""
        if (kind := self._kind_of.get(name)) is None:
            raise UnknownTunnelError(f"{name}: no such tunnel")
        await self._drivers[kind].driver.renew_tunnel(name)

    async def rekey_tunnel(self, name: str, *, ike: bool = True, children: Children = None) -> None:
        """Give what is up of a tunnel, or of these SAs, new keys. UnknownTunnelError if no driver has it."""
        if (kind := self._kind_of.get(name)) is None:
            raise UnknownTunnelError(f"{name}: no such tunnel")
        await self._drivers[kind].driver.rekey_tunnel(name, ike=ike, children=children)

    async def adopt(self, connection: str) -> str:
        """Take over a connection of others; returns the tunnel's name. The error of the last driver if none can.

        Raises:
            DriverError: no daemon has such a connection, or it differs from every tunnel.
        """
        errors: list[DriverError] = []
        for hosted in self._drivers.values():
            try:
                return await hosted.driver.adopt(connection)
            except DriverError as error:
                errors.append(error)
        raise errors[-1]

    async def stop_tunnel(self, name: str, *, force: bool = False, children: Children = None) -> None:
        """Close a tunnel's SAs, or the CHILD_SAs of some children; harmless if no driver has it."""
        if (kind := self._kind_of.get(name)) is not None:
            await self._drivers[kind].driver.stop_tunnel(name, force=force, children=children)

    async def list_tunnels(self) -> tuple[TunnelStatus, ...]:
        """All tunnels of the drivers whose daemons answer, with fresh counters."""
        found: list[TunnelStatus] = []
        for kind, hosted in self._drivers.items():
            try:
                statuses = await hosted.driver.list_tunnels()
            except DriverUnavailableError:
                continue
            for status in statuses:
                self._kind_of.setdefault(status.name, kind)
            found += statuses
        return tuple(found)

    async def tunnel_status(self, name: str) -> TunnelStatus:
        """A tunnel as its daemon has it now. UnknownTunnelError if no driver has it."""
        if (kind := self._kind_of.get(name)) is None:
            raise UnknownTunnelError(f"{name}: no such tunnel")
        return await self._drivers[kind].driver.tunnel_status(name)

    async def cleanup(self, teardown: bool = False) -> None:
        """Let go of every daemon. Tunnels stay up unless `teardown`. The first error is raised when all were asked."""
        results = await asyncio.gather(
            *(hosted.driver.cleanup(teardown) for hosted in self._drivers.values()), return_exceptions=True
        )
        for error in results:
            if isinstance(error, BaseException):
                raise error

    async def events(self) -> AsyncIterator[DriverEvent]:
        """What happens in any driver, in each one's order, until cancelled. One reader.

        Raises:
            Exception: the defect by which a driver's events ended.
        """
        queue: asyncio.Queue[tuple[str, DriverEvent | Exception]] = asyncio.Queue()
        readers = [asyncio.create_task(_forward(hosted, queue)) for hosted in self._drivers.values()]
        try:
            while True:
                kind, event = await queue.get()
                if isinstance(event, Exception):
                    raise event
                self._note_state(kind, event)
                yield event
        finally:
            for reader in readers:
                reader.cancel()

    def kind_of(self, tunnel: str) -> str | None:
        """The kind of the driver that holds a tunnel."""
        return self._kind_of.get(tunnel)

    def _note_state(self, kind: str, event: DriverEvent) -> None:
        if isinstance(event, DaemonUp):
            self._states[kind] = DriverState.UP
            self._details.pop(kind, None)
            self._daemons[kind] = event
        elif isinstance(event, DaemonDown):
            self._states[kind] = DriverState.UNREACHABLE
            self._details[kind] = event.detail
        if DriverState.UNKNOWN not in self._states.values():
            self._known.set()


async def _forward(hosted: HostedDriver, queue: asyncio.Queue[tuple[str, DriverEvent | Exception]]) -> None:
    try:
        async for event in hosted.driver.events():
            queue.put_nowait((hosted.kind, event))
    except Exception as error:  # noqa: BLE001 - a driver that has lost its events must not go on unnoticed
        queue.put_nowait((hosted.kind, error))
