"""A driver of a daemon in memory, for the tests of the agent."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from warren_agent.drivers.port import (
    ApplyEffect,
    AttemptFailed,
    Bypassed,
    Children,
    DaemonDown,
    DaemonTunnelChanged,
    DaemonUp,
    DriverEvent,
)
from warren_agent.errors import (
    ConfigRefusedError,
    DriverUnavailableError,
    UnknownTunnelError,
)
from warren_contracts.ipsec import Mode
from warren_contracts.peers import DriverCapabilities
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

    @property
    def is_converged(self) -> bool:
        """Up on its newest configuration."""
        return self.running == self.config and not self.renewing

    def status(self) -> TunnelStatus:
        """As the daemon reports it."""
        config = self.config
        spi = f"{self.spi:08x}"
        sas = tuple(
            ChildSaStatus(
                child=it.name, spi_in=spi, spi_out=spi, cipher="aes256gcm16", local_ts=it.local_ts,
                remote_ts=self.narrowed_to or it.remote_ts,
            )
            for it in (self.running or config).link.children
        )  # fmt: skip
        down = TunnelState.ERROR if self.reason is not ReasonCode.NONE else TunnelState.DOWN
        return TunnelStatus(
            name=config.name,
            policy=config.policy,
            peer=config.peer,
            initiator=config.initiator,
            state=TunnelState.UP if self.running else down,
            reason=self.reason,
            traffic=self.traffic,
            link=IpsecStatus(children=sas if self.running else ()),
        )


class FakeDaemon:
    """A daemon in memory. `refusals` name tunnels whose peer refuses; `stop_daemon` and `start_daemon` interrupt it."""

    def __init__(self) -> None:
        self.tunnels: dict[str, FakeTunnel] = {}
        self.refusals: dict[str, ReasonCode] = {}
        self.silent: set[str] = set()  # tunnels whose peer never answers
        self.calls: list[tuple[str, str]] = []
        self.route_looks = 0
        self.passes = True  # it can keep packets out of its tunnels
        self.bypassed = Bypassed()
        self.there = True  # the daemon runs when the agent starts
        self.up = False
        self._spi = 0
        self._events: asyncio.Queue[DriverEvent] = asyncio.Queue()

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

    def is_read(self) -> bool:
        """Whether every event was taken."""
        return self._events.empty()

    def _present(self) -> None:
        if not self.up:
            raise DriverUnavailableError(AWAY)

    def _known(self, name: str) -> FakeTunnel:
        self._present()
        if name not in self.tunnels:
            raise UnknownTunnelError(f"{name}: no such tunnel")
        return self.tunnels[name]

    def _report(self, tunnel: FakeTunnel) -> None:
        self._events.put_nowait(DaemonTunnelChanged(tunnel.config.name, tunnel.status(), tunnel.is_converged))


def _of_sas(call: str, ike: bool, children: Children) -> str:
    """A call as it is recorded: with the SAs that it means, unless it means all."""
    return call if children is None else " ".join([call, *(["ike"] if ike else []), *sorted(children)])


class FakeDriver(FakeDaemon):
    """The driver of a daemon in memory."""

    async def initialize(self) -> None:
        if self.there:
            self.start_daemon()
        else:
            self.stop_daemon()

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

    def routes_changed(self) -> None:
        self.route_looks += 1

    async def create_tunnel(self, config: Tunnel) -> ApplyEffect:
        return self._put("create", config)

    async def update_tunnel(self, config: Tunnel) -> ApplyEffect:
        return self._put("update", config)

    def _put(self, word: str, config: Tunnel) -> ApplyEffect:
        self._present()
        self.calls.append((word, config.name))
        self.validate(config)
        old = self.tunnels.get(config.name)
        changed = old is not None and old.config != config
        tunnel = self.tunnels.setdefault(config.name, FakeTunnel(config))
        tunnel.config, tunnel.reason = config, ReasonCode.NONE
        self._report(tunnel)
        return ApplyEffect.CREATED if old is None else ApplyEffect.UPDATED_IKE if changed else ApplyEffect.UNCHANGED

    async def delete_tunnel(self, name: str) -> None:
        self._present()
        self.calls.append(("delete", name))
        self.tunnels.pop(name, None)

    async def start_tunnel(self, name: str) -> None:
        tunnel = self._known(name)
        self.calls.append(("start", name))
        if tunnel.is_converged:
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

    async def rekey_tunnel(self, name: str, *, ike: bool = True, children: Children = None) -> None:
        tunnel = self._known(name)
        self.calls.append((_of_sas("rekey", ike, children), name))
        if tunnel.running is not None:
            self._spi += 1
            tunnel.spi = self._spi
            self._report(tunnel)

    async def adopt(self, connection: str) -> str:
        raise UnknownTunnelError(f"{connection}: the fake daemon has no connection of others")

    async def stop_tunnel(self, name: str, *, force: bool = False, children: Children = None) -> None:
        tunnel = self._known(name)
        self.calls.append((_of_sas("stop", children is None, children), name))
        tunnel.running = None
        self._report(tunnel)

    async def tunnel_status(self, name: str) -> TunnelStatus:
        return self._known(name).status()

    async def list_tunnels(self) -> tuple[TunnelStatus, ...]:
        return tuple(tunnel.status() for tunnel in self.tunnels.values())

    async def statistics(self, name: str) -> TrafficStats:
        return self._known(name).status().traffic

    async def sa_info(self, name: str) -> tuple[ChildSaStatus, ...]:
        return self._known(name).status().link.children

    async def cleanup(self, teardown: bool = False) -> None:
        if teardown:
            self.tunnels.clear()

    async def events(self) -> AsyncIterator[DriverEvent]:
        while True:
            yield await self._events.get()
