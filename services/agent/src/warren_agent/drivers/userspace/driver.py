"""The userspace driver: tunnels in, the daemon's reports out."""

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import structlog

from warren_agent.drivers.addresses import Owns, host_owns, with_own_addresses
from warren_agent.drivers.port import AttemptFailed, Bypassed, DaemonDown, DaemonUp, DriverEvent, Effect, TunnelChanged
from warren_agent.drivers.userspace.channel import Channel, connect, launch
from warren_agent.drivers.userspace.checks import capabilities, check
from warren_agent.drivers.userspace.specification import build_specification
from warren_agent.drivers.userspace.status import Record, reason_of
from warren_agent.errors import DriverError, DriverUnavailableError, UnknownTunnelError
from warren_contracts.backoff import Backoff
from warren_contracts.peers import DriverCapabilities
from warren_contracts.status import ChildSaStatus, ReasonCode, TrafficStats, TunnelState, TunnelStatus
from warren_contracts.tunnel import Tunnel
from warren_ikev2.daemon import messages

log = structlog.get_logger()

FIRST_RETRY_S, RETRY_LIMIT_S = 1.0, 30.0
_EFFECTS = {"created": Effect.CREATED, "updated": Effect.UPDATED_IKE, "unchanged": Effect.UNCHANGED}


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
        self._socket = socket
        self._seed = key_seed
        self._start_daemon = start_daemon
        self._daemon_options = daemon_options
        self._owns = owns
        self._records: dict[str, Record] = {}
        self._events: asyncio.Queue[DriverEvent | BaseException] = asyncio.Queue()
        self._backoff = Backoff(FIRST_RETRY_S, RETRY_LIMIT_S, random.random)
        self._channel: Channel | None = None
        self._version = ""
        self._task: asyncio.Task[None] | None = None
        self._reported_down = False

    # the port

    async def initialize(self) -> None:
        self._task = asyncio.create_task(self._run(), name="userspace-driver")
        self._task.add_done_callback(self._ended)

    async def capabilities(self) -> DriverCapabilities:
        self._present()
        return capabilities(self._version)

    def validate(self, config: Tunnel) -> None:
        check(config)

    async def pass_by(self, bypassed: Bypassed) -> bool:
        del bypassed  # its routes lead whole networks into the TUN device; the guard's rules of routing are before them
        return False

    async def create_tunnel(self, config: Tunnel) -> Effect:
        return await self._put(config)

    async def update_tunnel(self, config: Tunnel) -> Effect:
        return await self._put(config)

    async def delete_tunnel(self, name: str) -> None:
        await self._present().call(messages.Remove(name))
        self._records.pop(name, None)

    async def start_tunnel(self, name: str) -> None:
        await self._present().call(messages.StartTunnel(name))

    async def renew_tunnel(self, name: str) -> None:
        await self._present().call(messages.Renew(name))

    async def adopt(self, connection: str) -> str:
        raise UnknownTunnelError(f"{connection}: the userspace daemon has no connections of others")

    async def give_up(self, name: str, force: bool = False) -> bool:
        return await self._present().call(messages.GiveUp(name, force)) == "yes"

    async def stop_tunnel(self, name: str, *, force: bool = False) -> None:
        del force  # the daemon waits a second for the peer and then removes the SAs in any case
        await self._present().call(messages.StopTunnel(name))

    async def tunnel_status(self, name: str) -> TunnelStatus:
        await self._present().call(messages.List())
        record = self._records.get(name)
        if record is None:
            raise UnknownTunnelError(f"{name}: no such tunnel")
        return record.status(datetime.now(UTC))

    async def list_tunnels(self) -> tuple[TunnelStatus, ...]:
        if self._channel is not None:
            await self._channel.call(messages.List())
        now = datetime.now(UTC)
        return tuple(record.status(now) for record in self._records.values())

    async def statistics(self, name: str) -> TrafficStats:
        return (await self.tunnel_status(name)).traffic

    async def sa_info(self, name: str) -> tuple[ChildSaStatus, ...]:
        return (await self.tunnel_status(name)).link.children

    async def cleanup(self, teardown: bool = False) -> None:
        if self._channel is not None and teardown:
            await self._channel.call(messages.Shutdown())
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    async def events(self) -> AsyncIterator[DriverEvent]:
        while True:
            event = await self._events.get()
            if isinstance(event, BaseException):
                raise event
            yield event

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Pass on the defect that ended the task: without it the driver would stay silent."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._events.put_nowait(error)

    # configuration

    async def _put(self, given: Tunnel) -> Effect:
        channel = self._present()
        config = with_own_addresses(given, self._owns)
        check(config)
        record = self._records.setdefault(config.name, Record(config.name))
        before, record.config = record.config, config
        try:
            outcome = await channel.call(messages.Put(build_specification(config)))
        except DriverError:
            record.config = before
            if before is None and record.report is None:
                self._records.pop(config.name, None)
            raise
        record.last = ()  # an event that came before the caller knew of the tunnel was lost to it
        self._report(record)
        return _EFFECTS[outcome]

    def _present(self) -> Channel:
        if self._channel is None:
            raise DriverUnavailableError(
                "the userspace daemon does not answer; its tunnels are taken up again when it does"
            )
        return self._channel

    # the daemon

    async def _run(self) -> None:
        while True:
            try:
                channel = await self._connect()
                await self._serve(channel)
                self._went_down("the userspace daemon has ended")
            except DriverError as error:
                self._went_down(str(error))
            except OSError as error:
                self._went_down(f"no userspace daemon at {self._socket}: {error.strerror or error}")
            await asyncio.sleep(self._backoff.next_s())

    async def _connect(self) -> Channel:
        try:
            return await connect(self._socket)
        except OSError:
            if not self._start_daemon:
                raise
            return await launch(self._socket, self._daemon_options)

    async def _serve(self, channel: Channel) -> None:
        listening = asyncio.create_task(channel.listen(self._take_report))
        try:
            self._version = await channel.call(messages.Hello(self._seed))
            for record in self._records.values():
                if record.config is not None:
                    await channel.call(messages.Put(build_specification(record.config)))
            await channel.call(messages.List())
            self._backoff.reset()
            self._channel, self._reported_down = channel, False
            for record in self._records.values():
                record.reason, record.detail = ReasonCode.NONE, ""
            log.info("userspace.connected", version=self._version, tunnels=len(self._records))
            self._events.put_nowait(DaemonUp(self._version))
            await listening
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
            self._channel = None
            channel.close()

    def _went_down(self, detail: str) -> None:
        if self._reported_down:
            return
        self._reported_down = True
        log.warning("userspace.unreachable", detail=detail)
        for record in self._records.values():
            record.report, record.reason, record.detail = None, ReasonCode.DAEMON_UNREACHABLE, detail
            self._report(record)
        self._events.put_nowait(DaemonDown(f"connect: {detail}", "connect"))

    def _take_report(self, report: messages.TunnelReport) -> None:
        record = self._records.setdefault(report.name, Record(report.name))
        failed = record.report is None or record.report.reason != report.reason
        record.take(report, datetime.now(UTC))
        self._report(record)
        if report.reason and failed:
            final = report.state != TunnelState.CONNECTING
            self._events.put_nowait(AttemptFailed(report.name, reason_of(report), report.detail, final))

    def _report(self, record: Record) -> None:
        if record.key() != record.last:
            record.last = record.key()
            self._events.put_nowait(TunnelChanged(record.name, record.status(datetime.now(UTC)), record.converged))
