"""Fakes of the agent's ports. The driver's fake obeys the same contract suite as the real driver."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from warren_agent.drivers.port import AttemptFailed, Bypassed, DaemonDown, DaemonUp, DriverEvent, Effect, TunnelChanged
from warren_agent.errors import (
    AnnouncementRefusedError,
    ConfigRefusedError,
    DriverUnavailableError,
    GuardRefusedError,
    GuardUnavailableError,
    NotDeliveredError,
    UnknownTunnelError,
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
from warren_contracts.ipsec import Mode
from warren_contracts.peers import Announcement, DriverCapabilities
from warren_contracts.protection import ProtectedTraffic
from warren_contracts.selectors import TrafficSelector
from warren_contracts.status import ChildSaStatus, IpsecStatus, ReasonCode, TrafficStats, TunnelState, TunnelStatus
from warren_contracts.tunnel import Tunnel

AWAY = "the fake daemon is unreachable"


@dataclass
class FakeTunnel:
    """One tunnel of the fake daemon: what it was given, what runs, and the SPI that identifies its SAs."""

    config: Tunnel
    running: Tunnel | None = None
    spi: int = 0
    reason: ReasonCode = ReasonCode.NONE
    narrowed_to: tuple[TrafficSelector, ...] = ()  # what the peer agrees to of the remote selectors; empty: all
    traffic: TrafficStats = field(default_factory=TrafficStats)
    renewing: bool = False  # the next start makes other SAs


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


class FakeDriver:
    """A daemon in memory. `refusals` name tunnels whose peer refuses; `stop_daemon` and `start_daemon` interrupt it."""

    def __init__(self) -> None:
        self.tunnels: dict[str, FakeTunnel] = {}
        self.refusals: dict[str, ReasonCode] = {}
        self.silent: set[str] = set()  # tunnels whose peer never answers
        self.calls: list[tuple[str, str]] = []
        self.passes = True  # it can keep packets out of its tunnels
        self.bypassed = Bypassed()
        self.there = True  # the daemon runs when the agent starts
        self.up = False
        self._spi = 0
        self._events: asyncio.Queue[DriverEvent] = asyncio.Queue()

    async def initialize(self) -> None:
        if self.there:
            self.start_daemon()
        else:
            self.stop_daemon()

    def start_daemon(self) -> None:
        """The daemon answers and holds every configuration, but no SA."""
        self.up = True
        self._events.put_nowait(DaemonUp("fake"))

    def stop_daemon(self) -> None:
        """The daemon stops; its SAs are gone."""
        self.up = False
        for tunnel in self.tunnels.values():
            tunnel.running, tunnel.reason = None, ReasonCode.DAEMON_UNREACHABLE
            self._report(tunnel)
        self._events.put_nowait(DaemonDown(AWAY))

    def lose(self, name: str) -> None:
        """The tunnel's SAs vanish: its peer said goodbye."""
        self.tunnels[name].running = None
        self._report(self.tunnels[name])

    def refuse(self, name: str, code: ReasonCode) -> None:
        """A negotiation that the peer began fails at this end."""
        self._events.put_nowait(AttemptFailed(name, code, "the fake daemon refuses"))

    async def capabilities(self) -> DriverCapabilities:
        self._present()
        return DriverCapabilities(kind="fake", version="1")

    def validate(self, config: Tunnel) -> None:
        if any(child.mode is Mode.TRANSPORT for child in config.link.children):
            raise ConfigRefusedError(f"{config.name}: options.child.mode: the fake daemon cannot do transport")

    async def pass_by(self, bypassed: Bypassed) -> bool:
        self._present()
        self.bypassed = bypassed
        return self.passes

    async def create_tunnel(self, config: Tunnel) -> Effect:
        return self._put("create", config)

    async def update_tunnel(self, config: Tunnel) -> Effect:
        return self._put("update", config)

    def _put(self, word: str, config: Tunnel) -> Effect:
        self._present()
        self.calls.append((word, config.name))
        self.validate(config)
        old = self.tunnels.get(config.name)
        changed = old is not None and old.config != config
        tunnel = self.tunnels.setdefault(config.name, FakeTunnel(config))
        tunnel.config, tunnel.reason = config, ReasonCode.NONE
        self._report(tunnel)
        return Effect.CREATED if old is None else Effect.UPDATED_IKE if changed else Effect.UNCHANGED

    async def delete_tunnel(self, name: str) -> None:
        self._present()
        self.calls.append(("delete", name))
        self.tunnels.pop(name, None)

    async def start_tunnel(self, name: str) -> None:
        tunnel = self._known(name)
        self.calls.append(("start", name))
        if tunnel.running == tunnel.config and not tunnel.renewing:
            return
        if name in self.silent:
            return
        if name in self.refusals:
            tunnel.reason = self.refusals[name]
            self._events.put_nowait(AttemptFailed(name, tunnel.reason, "the fake peer refuses"))
        else:
            self._spi += 1
            tunnel.running, tunnel.spi, tunnel.reason = tunnel.config, self._spi, ReasonCode.NONE
            tunnel.renewing = False
        self._report(tunnel)

    async def give_up(self, name: str, force: bool = False) -> bool:
        self._known(name)
        self.calls.append(("give_up", name))
        return True

    async def renew_tunnel(self, name: str) -> None:
        tunnel = self._known(name)
        self.calls.append(("renew", name))
        if tunnel.running is not None:
            tunnel.renewing = True
            self._report(tunnel)

    async def rekey_tunnel(self, name: str) -> None:
        tunnel = self._known(name)
        self.calls.append(("rekey", name))
        if tunnel.running is not None:
            self._spi += 1
            tunnel.spi = self._spi
            self._report(tunnel)

    async def adopt(self, connection: str) -> str:
        raise UnknownTunnelError(f"{connection}: the fake daemon has no connection of others")

    async def stop_tunnel(self, name: str, *, force: bool = False) -> None:
        tunnel = self._known(name)
        self.calls.append(("stop", name))
        tunnel.running = None
        self._report(tunnel)

    async def tunnel_status(self, name: str) -> TunnelStatus:
        return self._status(self._known(name))

    async def list_tunnels(self) -> tuple[TunnelStatus, ...]:
        return tuple(self._status(tunnel) for tunnel in self.tunnels.values())

    async def statistics(self, name: str) -> TrafficStats:
        return self._status(self._known(name)).traffic

    async def sa_info(self, name: str) -> tuple[ChildSaStatus, ...]:
        return self._status(self._known(name)).link.children

    async def cleanup(self, teardown: bool = False) -> None:
        if teardown:
            self.tunnels.clear()

    async def events(self) -> AsyncIterator[DriverEvent]:
        while True:
            yield await self._events.get()

    def _present(self) -> None:
        if not self.up:
            raise DriverUnavailableError(AWAY)

    def _known(self, name: str) -> FakeTunnel:
        self._present()
        if name not in self.tunnels:
            raise UnknownTunnelError(f"{name}: no such tunnel")
        return self.tunnels[name]

    def _report(self, tunnel: FakeTunnel) -> None:
        converged = tunnel.running == tunnel.config and not tunnel.renewing
        self._events.put_nowait(TunnelChanged(tunnel.config.name, self._status(tunnel), converged))

    def _status(self, tunnel: FakeTunnel) -> TunnelStatus:
        config = tunnel.config
        spi = f"{tunnel.spi:08x}"
        sas = tuple(
            ChildSaStatus(
                child=it.name, spi_in=spi, spi_out=spi, cipher="aes256gcm16", local_ts=it.local_ts,
                remote_ts=tunnel.narrowed_to or it.remote_ts,
            )
            for it in (tunnel.running or config).link.children
        )  # fmt: skip
        down = TunnelState.ERROR if tunnel.reason is not ReasonCode.NONE else TunnelState.DOWN
        return TunnelStatus(
            name=config.name,
            policy=config.policy,
            peer=config.peer,
            initiator=config.initiator,
            state=TunnelState.UP if tunnel.running else down,
            reason=tunnel.reason,
            traffic=tunnel.traffic,
            link=IpsecStatus(children=sas if tunnel.running else ()),
        )


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

    async def wait_for(self, count: int, kind: str, within: float = 5.0) -> list[TelemetryMessage]:
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
