"""Fakes of the agent's ports. The driver's fake obeys the same contract suite as the real driver."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from warren_agent.errors import (
    AnnouncementRefusedError,
    GuardRefusedError,
    GuardUnavailableError,
    NotDeliveredError,
)
from warren_agent.ports import Intent
from warren_agent.telemetry.message import TelemetryMessage
from warren_contracts.guard import (
    GuardEvent,
    GuardReply,
    Held,
    HeldState,
    HostFinding,
    InterfaceError,
    ProtectRequest,
    Request,
)
from warren_contracts.peers import Announcement
from warren_contracts.protection import ProtectedTraffic
from warren_testkit.waiting import LIMIT_S


@dataclass
class FakeLink:
    """A bus that can be cut."""

    is_connected: bool = True
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    async def answers(self) -> bool:
        self.asked.set()
        return self.is_connected


class FakeGuard:
    """A guard in memory: it protects what it is asked to, unless it is stopped or has a `refusal`."""

    def __init__(self) -> None:
        self.is_running = True
        self.refusal = ""
        self.requests: list[Request] = []
        self.held: tuple[Held, ...] = ()
        self.findings: tuple[HostFinding, ...] = ()
        self.interface_errors: tuple[InterfaceError, ...] = ()
        self.bypass_error = ""
        self._events: asyncio.Queue[GuardEvent | None] = asyncio.Queue()

    async def ask(self, request: Request) -> GuardReply:
        if not self.is_running:
            raise GuardUnavailableError("the fake guard is stopped")
        self.requests.append(request)
        if self.refusal:
            raise GuardRefusedError(self.refusal)
        if isinstance(request, ProtectRequest):
            before = {(it.policy, it.tunnel): it for it in self.held}
            wanted = [_held(entry, HeldState.WANTED) for entry in request.traffic]
            self.held = (*wanted, *(_held(before[key], HeldState.RETAINED) for key in request.retained))
        return GuardReply(
            held=self.held,
            findings=self.findings,
            interface_errors=self.interface_errors,
            bypass_error=self.bypass_error,
        )

    def protected(self) -> set[str]:
        """The tunnels whose traffic is protected."""
        return {entry.tunnel for entry in self.held}

    def send(self, event: GuardEvent | None) -> None:
        """An event; None: the guard was started."""
        self._events.put_nowait(event)

    def is_read(self) -> bool:
        """Whether every event was taken."""
        return self._events.empty()

    async def events(self) -> AsyncIterator[GuardEvent | None]:
        while True:
            yield await self._events.get()


def _held(entry: ProtectedTraffic | Held, state: HeldState) -> Held:
    return Held(policy=entry.policy, tunnel=entry.tunnel, peer=entry.peer, protect=entry.protect, state=state)


class FakeSource:
    """Intents that a test gives."""

    def __init__(self) -> None:
        self._intents: asyncio.Queue[Intent] = asyncio.Queue()
        self.sync_errors = 0

    def give(self, intent: Intent) -> None:
        self._intents.put_nowait(intent)

    async def intents(self) -> AsyncIterator[Intent]:
        while True:
            yield await self._intents.get()


@dataclass
class FakeOutlet:
    """Keeps what is sent. While `unavailable`, nothing is taken."""

    unavailable: bool = False
    tried: list[TelemetryMessage] = field(default_factory=list)
    messages: list[TelemetryMessage] = field(default_factory=list)
    _more: asyncio.Event = field(default_factory=asyncio.Event)

    async def send(self, telemetry_message: TelemetryMessage) -> None:
        self.tried.append(telemetry_message)
        if self.unavailable:
            raise NotDeliveredError("the fake bus is unavailable")
        self.messages.append(telemetry_message)
        self._more.set()

    async def wait_for(self, count: int, kind: str, within: float = LIMIT_S) -> list[TelemetryMessage]:
        """The messages of a kind, as soon as there are so many."""
        async with asyncio.timeout(within):
            while len(found := [it for it in self.messages if it.subject.endswith(f".{kind}")]) < count:
                self._more.clear()
                await self._more.wait()
        return found


@dataclass
class FakeRegistry:
    """Stores announcements, or refuses them with `refusal`."""

    announced: list[Announcement] = field(default_factory=list)
    refusal: str = ""
    refused: asyncio.Event = field(default_factory=asyncio.Event)

    async def announce(self, announcement: Announcement) -> None:
        if self.refusal:
            self.refused.set()
            raise AnnouncementRefusedError(self.refusal)
        self.announced.append(announcement)
