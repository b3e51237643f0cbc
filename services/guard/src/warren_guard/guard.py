"""The guard at work: it handles requests, ends what has expired, and keeps its table in the kernel.

Every change of the table takes one path, `_install`, under one lock: build, apply as one transaction, then write to disk. What nft
refuses leaves the kernel's table, the file and the memory as they were.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import NamedTuple, Protocol

import structlog

from warren_contracts.guard import (
    Bypass,
    EventKind,
    GuardEvent,
    GuardReply,
    HeldRequest,
    HostFinding,
    InspectRequest,
    LocalNetwork,
    ProtectRequest,
    ReleaseRequest,
    Request,
    WatchRequest,
)
from warren_contracts.leftovers import LeftoversReply, LeftoversRequest, RemoveLeftoversRequest
from warren_contracts.tunnel_routes import TunnelRoute, TunnelRoutesReply, TunnelRoutesRequest
from warren_guard import leftovers
from warren_guard.adapters.state_file import Staged, StateFile, stored
from warren_guard.domain import holdings
from warren_guard.domain.holdings import Holdings
from warren_guard.domain.leftovers import ROUTING_TABLE
from warren_guard.domain.ruleset import build_table
from warren_guard.errors import BadStateError, GuardError
from warren_guard.interfaces import Interfaces, LinkKernel
from warren_guard.leftovers import IpsecKernel
from warren_guard.rules import RuleKernel, Rules
from warren_guard.table import Firewall, TableKeeper

log = structlog.get_logger("warren_guard")

RETRY_S = 1.0  # s between attempts to restore a table that nft refuses
MAX_WAIT_S = 3_600.0  # s between two looks for expired entries, when there are none


class Inspector(Protocol):
    """Looks for what contradicts the tunnels."""

    async def inspect(self, held: Holdings, devices: tuple[str, ...], keep_sources: bool) -> tuple[HostFinding, ...]:
        """The findings now; GuardError if the host cannot be read."""


class Kernel(IpsecKernel, LinkKernel, RuleKernel, Protocol):
    """What the guard changes besides its table."""


class Clear(NamedTuple):
    """What passes in clear although tunnels' selectors cover it."""

    bypass: tuple[Bypass, ...] = ()
    networks: tuple[LocalNetwork, ...] = ()


class Guard:
    """One host's leak protection."""

    def __init__(
        self,
        firewall: Firewall,
        inspector: Inspector,
        kernel: Kernel,
        file: StateFile,
        *,
        keep_sources: bool,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._inspector, self._file = inspector, file
        self._table = TableKeeper(firewall, self.publish)
        self._kernel = kernel
        self._interfaces = Interfaces(kernel)
        self._rules = Rules(kernel)
        self._keep_sources = keep_sources
        self._monotonic = monotonic
        self._held: Holdings = {}
        self._devices: tuple[str, ...] = ()
        self._clear = Clear()
        self._is_saved = True
        self._findings: tuple[HostFinding, ...] = ()  # last published
        self._lock = asyncio.Lock()
        self._wake = asyncio.Event()
        self._watchers: set[asyncio.Queue[GuardEvent]] = set()
        self._to_inspect = asyncio.Event()

    async def load(self) -> None:
        """Put the stored table into the kernel: at boot, and after a restart.

        Raises:
            GuardError: nft refuses it.
        """
        self._file.prepare()
        try:
            state = self._file.read()
        except BadStateError as error:
            log.error("guard.state_damaged", error=str(error))
            if (text := self._file.read_table()) is not None:
                await self._table.put(text)
            return
        if state is None:
            return
        now = self._monotonic()
        async with self._lock:
            self._devices, self._clear = state.devices, Clear(state.bypass, state.networks)
            await self._install(state.holdings(now), state.devices, self._clear)
        log.info("guard.loaded", tunnels=len(self._held))

    # requests

    async def handle(self, request: Request) -> GuardReply:
        """Do what is asked; what cannot be done is the reply's error."""
        try:
            match request:
                case ProtectRequest():
                    return await self._protect(request)
                case ReleaseRequest():
                    return await self._release(request)
                case InspectRequest():
                    return GuardReply(findings=await self._inspect())
                case HeldRequest() | WatchRequest():
                    return self._reply()
        except GuardError as error:
            log.error("guard.request_failed", request=request.request, error=str(error))
            return GuardReply(error=str(error)[:1_000])

    async def _protect(self, request: ProtectRequest) -> GuardReply:
        async with self._lock:
            held = holdings.protect(self._held, request, self._monotonic())
            changed = await self._install(held, request.devices, Clear(request.bypass, request.networks))
        self._wake.set()
        if changed:
            log.info("guard.protects", tunnels=len(held))
        return self._reply(changed=changed)

    async def _release(self, request: ReleaseRequest) -> GuardReply:
        async with self._lock:
            held = holdings.release(self._held, request.policy)
            released = len(self._held) - len(held)
            changed = await self._install(held, self._devices, self._clear)
        log.info("guard.released", policy=request.policy or "all", tunnels=released)
        return self._reply(changed=changed, released=released)

    async def handle_leftovers(self, request: LeftoversRequest | RemoveLeftoversRequest) -> LeftoversReply:
        """As `handle`. Removed is only while the table is in the kernel: what no policy encrypts any more is dropped by it."""
        try:
            if isinstance(request, LeftoversRequest):
                return LeftoversReply(leftovers=await leftovers.look(self._kernel, request.sas))
            async with self._lock:
                if self._table.is_missing:
                    raise GuardError("the table is not in the kernel: leftovers stay until it is")
                removed = await leftovers.remove(self._kernel, request)
        except GuardError as error:
            log.error("guard.request_failed", request=request.request, error=str(error))
            return LeftoversReply(error=str(error)[:1_000])
        log.warning("guard.leftovers_removed", sas=len(request.sas), removed=len(removed))
        return LeftoversReply(leftovers=removed)

    async def _inspect(self) -> tuple[HostFinding, ...]:
        devices = (*self._devices, *await self._interfaces.devices(holdings.traffic(self._held)))
        return await self._inspector.inspect(self._held, devices, self._keep_sources)

    def _reply(self, *, changed: bool = False, released: int = 0) -> GuardReply:
        described = holdings.describe(self._held, self._monotonic(), datetime.now(UTC))
        return GuardReply(
            changed=changed, released=released, held=described, interface_errors=self._interfaces.errors,
            bypass_error=self._rules.error, restored_at=self._table.restored_at,
        )  # fmt: skip

    # the table

    async def _install(self, held: Holdings, devices: tuple[str, ...], clear: "Clear") -> bool:
        """Bring a state into force; returns whether the table changed. Raises GuardError."""
        carrying = (*devices, *await self._interfaces.devices(holdings.traffic(held)))
        text = build_table(holdings.traffic(held), carrying, *clear, keep_sources=self._keep_sources)
        changed = text != self._table.text
        is_same = held == self._held and (devices, clear) == (self._devices, self._clear)
        staged: asyncio.Task[Staged] | None = None
        if changed or not is_same or not self._is_saved:  # written while nft works
            staged = asyncio.create_task(asyncio.to_thread(self._stage, held, devices, clear, text))
        try:
            if changed:
                await self._table.put(text)
        except BaseException:
            if staged is not None:
                staged.add_done_callback(_discard)
            raise
        self._held, self._devices, self._clear = held, devices, clear
        if staged is not None:
            self._is_saved = False
            (await staged).commit()
            self._is_saved = True
        await self._interfaces.apply(holdings.traffic(held))
        await self._rules.apply(*(clear if held else Clear()))
        return changed

    def _stage(self, held: Holdings, devices: tuple[str, ...], clear: "Clear", text: str) -> Staged:
        """Runs in a thread: what it reads is never changed."""
        return self._file.stage(stored(held, devices, *clear, self._monotonic()), text)

    async def links_changed(self) -> None:
        """Look at the links of tunnels again: another program may have removed an XFRM interface, or set a device down."""
        async with self._lock:
            await self._interfaces.repair()
            if self._held:
                await self._interfaces.raise_devices(self._devices)

    async def handle_routes(self, request: TunnelRoutesRequest) -> TunnelRoutesReply:
        """As `handle`."""
        try:
            found = await self._kernel.tunnel_routes()
            rules = [rule for family in (4, 6) for rule in await self._kernel.rules(family)]
        except GuardError as error:
            log.error("guard.request_failed", request=request.request, error=str(error))
            return TunnelRoutesReply(error=str(error)[:1_000])
        return TunnelRoutesReply(
            in_use=any(str(rule.get("table")) == str(ROUTING_TABLE) for rule in rules),
            routes=tuple(TunnelRoute(destination=it.destination, device=it.device) for it in found),
        )

    async def rules_changed(self) -> None:
        """Look at the rules of routing again: another program may have removed some."""
        async with self._lock:
            await self._rules.repair()

    async def nftables_changed(self, datagram: bytes | None) -> None:
        """Look at a message of the kernel about nftables, and restore the table if another program changed it.

        None: messages were lost, so that anything may have changed.
        """
        exists = self._table.feed(datagram)
        if self._table.others_changed():
            self.inspect_soon()
        if exists is None:
            return
        async with self._lock:
            await self._table.check(exists)
        if self._table.is_missing:
            self._wake.set()

    async def expire(self) -> None:
        """End the protection of what has expired, and try again to restore a table, forever."""
        while True:
            self._wake.clear()
            if self._table.is_missing:
                await self.nftables_changed(None)
            now = self._monotonic()
            async with self._lock:
                held = holdings.expire(self._held, now)
                if len(held) < len(self._held):
                    log.info("guard.expired", tunnels=len(self._held) - len(held))
                    with contextlib.suppress(GuardError):  # the traffic stays protected, and the next round tries again
                        await self._install(held, self._devices, self._clear)
                deadline = holdings.next_deadline(self._held)
            wait = MAX_WAIT_S if deadline is None else max(0.05, deadline - self._monotonic())
            wait = min(wait, RETRY_S) if self._table.is_missing else wait
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._wake.wait()

    # events

    def inspect_soon(self) -> None:
        """Something of the host's network has changed that may contradict the tunnels."""
        self._to_inspect.set()

    async def inspect_due(self, limit_s: float) -> None:
        """Return when it is time to look: something has changed, or `limit_s` has passed."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._to_inspect.wait()
        self._to_inspect.clear()

    async def report_findings(self) -> None:
        """Look for what contradicts the tunnels, and publish it if that changed since the last look."""
        if not self._held or not self._watchers:
            return
        try:
            found = await self._inspect()
        except GuardError as error:
            log.warning("guard.not_inspected", error=str(error))
            return
        if found != self._findings:
            self._findings = found
            self.publish(GuardEvent(event=EventKind.FINDINGS_CHANGED, findings=found))

    @contextlib.contextmanager
    def watching(self) -> Iterator[asyncio.Queue[GuardEvent]]:
        """A queue of the events from now on."""
        queue: asyncio.Queue[GuardEvent] = asyncio.Queue(64)
        self._watchers.add(queue)
        try:
            yield queue
        finally:
            self._watchers.discard(queue)

    def publish(self, event: GuardEvent) -> None:
        """Send an event to every watcher; one that does not read loses it."""
        for queue in self._watchers:
            with contextlib.suppress(asyncio.QueueFull):
                queue.put_nowait(event)


def _discard(staged: "asyncio.Task[Staged]") -> None:
    """Remove the files of a table that nft refused."""
    if not staged.cancelled() and staged.exception() is None:
        staged.result().discard()
