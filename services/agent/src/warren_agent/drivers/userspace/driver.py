"""The userspace driver: tunnels in, the daemon's reports out."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import structlog

from warren_agent.drivers.addresses import Owns, host_owns, with_own_addresses
from warren_agent.drivers.port import ApplyEffect, Bypassed, Children, DriverEvent
from warren_agent.drivers.tasks import DriverTasks
from warren_agent.drivers.userspace.checks import capabilities, check
from warren_agent.drivers.userspace.link import DaemonLink
from warren_agent.drivers.userspace.specification import build_specification
from warren_agent.drivers.userspace.status import DaemonTunnelRecord
from warren_agent.errors import DriverError, UnknownTunnelError
from warren_contracts.peers import DriverCapabilities
from warren_contracts.status import ChildSaStatus, TrafficStats, TunnelStatus
from warren_contracts.tunnel import Tunnel
from warren_ikev2.daemon import messages

log = structlog.get_logger()

_EFFECTS = {"created": ApplyEffect.CREATED, "updated": ApplyEffect.UPDATED_IKE, "unchanged": ApplyEffect.UNCHANGED}


class UserspaceDriver:
    """See `warren_agent.drivers.port.Driver`. `key_seed` is this host's raw Ed25519 IKE key (32 bytes)."""

    def __init__(
        self,
        socket: Path,
        key_seed: bytes,
        *,
        start_daemon: bool = True,
        daemon_options: tuple[str, ...] = (),
        owns: Owns = host_owns,
    ) -> None:
        self._link = DaemonLink(socket, key_seed, daemon_options if start_daemon else None)
        self._owns = owns
        self._tasks = DriverTasks(self._link.events)

    # the port

    async def initialize(self) -> None:
        self._tasks.start("userspace-driver", self._link.run())

    async def capabilities(self) -> DriverCapabilities:
        self._link.present()
        return capabilities(self._link.version)

    def validate(self, config: Tunnel) -> None:
        check(config)

    async def pass_by(self, bypassed: Bypassed) -> bool:
        del bypassed  # its routes lead whole networks into the TUN device; the guard's rules of routing are before them
        return False

    def routes_changed(self) -> None:
        self._link.restore_routes_soon()

    async def create_tunnel(self, config: Tunnel) -> ApplyEffect:
        return await self._put(config)

    async def update_tunnel(self, config: Tunnel) -> ApplyEffect:
        return await self._put(config)

    async def delete_tunnel(self, name: str) -> None:
        await self._link.present().call(messages.Remove(name))
        self._link.records.pop(name, None)

    async def start_tunnel(self, name: str) -> None:
        await self._link.present().call(messages.StartTunnel(name))

    async def renew_tunnel(self, name: str) -> None:
        await self._link.present().call(messages.Renew(name))

    async def rekey_tunnel(self, name: str, *, ike: bool = True, children: Children = None) -> None:
        channel = self._link.present()
        present = {child.child for child in (await self.tunnel_status(name)).link.children}
        if not present:
            return
        if ike and children is None:  # new SAs next to the old ones, which end once those carry traffic
            await channel.call(messages.Renew(name))
            await channel.call(messages.StartTunnel(name))
        else:
            meant = present if children is None else present & children
            await channel.call(messages.Rekey(name, ike, tuple(sorted(meant))))

    async def adopt(self, connection: str) -> str:
        raise UnknownTunnelError(f"{connection}: the userspace daemon has no connections of others")

    async def give_up(self, name: str, force: bool = False) -> bool:
        return await self._link.present().call(messages.GiveUp(name, force)) == "yes"

    async def stop_tunnel(self, name: str, *, force: bool = False, children: Children = None) -> None:
        del force  # the daemon waits a second for the peer and then removes the SAs in any case
        command = (
            messages.StopTunnel(name) if children is None else messages.CloseChildren(name, tuple(sorted(children)))
        )
        await self._link.present().call(command)

    async def tunnel_status(self, name: str) -> TunnelStatus:
        await self._link.present().call(messages.List())
        record = self._link.records.get(name)
        if record is None:
            raise UnknownTunnelError(f"{name}: no such tunnel")
        return record.status(datetime.now(UTC))

    async def list_tunnels(self) -> tuple[TunnelStatus, ...]:
        if self._link.channel is not None:
            await self._link.channel.call(messages.List())
        now = datetime.now(UTC)
        return tuple(record.status(now) for record in self._link.records.values())

    async def statistics(self, name: str) -> TrafficStats:
        return (await self.tunnel_status(name)).traffic

    async def sa_info(self, name: str) -> tuple[ChildSaStatus, ...]:
        return (await self.tunnel_status(name)).link.children

    async def cleanup(self, teardown: bool = False) -> None:
        if self._link.channel is not None and teardown:
            await self._link.channel.call(messages.Shutdown())
        await self._tasks.stop()
        if self._link.channel is not None:
            self._link.channel.close()
            self._link.channel = None

    def events(self) -> AsyncIterator[DriverEvent]:
        return self._tasks.read_events()

    # configuration

    async def _put(self, given: Tunnel) -> ApplyEffect:
        channel = self._link.present()
        config = with_own_addresses(given, self._owns)
        check(config)
        record = self._link.records.setdefault(config.name, DaemonTunnelRecord(config.name))
        before, record.config = record.config, config
        try:
            outcome = await channel.call(messages.Put(build_specification(config)))
        except DriverError:
            record.config = before
            if before is None and record.report is None:
                self._link.records.pop(config.name, None)
            raise
        record.last = ()  # an event that came before the caller knew of the tunnel was lost to it
        self._link.report(record)
        return _EFFECTS[outcome]
