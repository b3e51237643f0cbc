"""The userspace daemon as it comes and goes: the connection to it, and its reports as records of tunnels."""

import asyncio
import random
from datetime import UTC, datetime
from pathlib import Path

import structlog

from warren_agent.drivers.port import AttemptFailed, DaemonDown, DaemonTunnelChanged, DaemonUp, DriftFound, DriverEvent
from warren_agent.drivers.userspace.channel import Channel, connect, launch
from warren_agent.drivers.userspace.specification import build_specification
from warren_agent.drivers.userspace.status import DaemonTunnelRecord, reason_of
from warren_agent.errors import DriverError, DriverUnavailableError
from warren_contracts.status import ReasonCode, TunnelState
from warren_ikev2.daemon import messages
from warren_process.backoff import Backoff

log = structlog.get_logger()

SETTLE_S = 0.1
"""Between the first of several changes and a look at the routes."""
FIRST_RETRY_S, RETRY_LIMIT_S = 1.0, 30.0


class DaemonLink:
    """Keeps a connection to the daemon, and starts one where none answers, unless `options` is None."""

    def __init__(self, socket: Path, key_seed: bytes, options: tuple[str, ...] | None) -> None:
        self._socket = socket
        self._seed = key_seed
        self._options = options
        self.records: dict[str, DaemonTunnelRecord] = {}
        self.events: asyncio.Queue[DriverEvent | BaseException] = asyncio.Queue()
        self.channel: Channel | None = None
        self.version = ""
        self._backoff = Backoff(FIRST_RETRY_S, RETRY_LIMIT_S, random.random)
        self._reported_down = False
        self._routes_due = False
        self._restoring: asyncio.Task[None] | None = None

    def present(self) -> Channel:
        """The connection. DriverUnavailableError if there is none."""
        if self.channel is None:
            raise DriverUnavailableError("the userspace daemon does not answer; its tunnels are resumed when it does")
        return self.channel

    async def run(self) -> None:
        """Connect and take reports forever, through every absence of the daemon; ends by cancellation."""
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
            if self._options is None:
                raise
            return await launch(self._socket, self._options)

    async def _serve(self, channel: Channel) -> None:
        listening = asyncio.create_task(channel.listen(self._take_report))
        try:
            self.version = await channel.call(messages.Hello(self._seed))
            for record in self.records.values():
                if record.config is not None:
                    await channel.call(messages.Put(build_specification(record.config)))
            await channel.call(messages.List())
            self._backoff.reset()
            self.channel, self._reported_down = channel, False
            for record in self.records.values():
                record.reason, record.detail = ReasonCode.NONE, ""
            log.info("userspace.connected", version=self.version, tunnels=len(self.records))
            self.events.put_nowait(DaemonUp(self.version))
            await listening
        finally:
            ending = [listening, *([self._restoring] if self._restoring is not None else [])]
            for task in ending:
                task.cancel()
            await asyncio.gather(*ending, return_exceptions=True)
            self.channel = None
            channel.close()

    def _went_down(self, detail: str) -> None:
        if self._reported_down:
            return
        self._reported_down = True
        log.warning("userspace.unreachable", detail=detail)
        for record in self.records.values():
            record.report, record.reason, record.detail = None, ReasonCode.DAEMON_UNREACHABLE, detail
            self.report(record)
        self.events.put_nowait(DaemonDown(f"connect: {detail}", "connect"))

    def restore_routes_soon(self) -> None:
        """Have the daemon put back routes that others have removed."""
        self._routes_due = True
        if self._restoring is None or self._restoring.done():
            self._restoring = asyncio.create_task(self._restore_due(), name="userspace-routes")

    async def _restore_due(self) -> None:
        while self._routes_due:
            await asyncio.sleep(SETTLE_S)
            self._routes_due = False
            await self._restore_routes()

    async def _restore_routes(self) -> None:
        if self.channel is None:
            return
        try:
            outcome = await self.channel.call(messages.RestoreRoutes())
        except DriverError as error:
            log.warning("userspace.routes_not_restored", error=str(error))
            return
        for name, *networks in (line.split() for line in outcome.splitlines()):
            detail = f"its routes were missing ({', '.join(networks)}): somebody has removed them, or set the device of the tunnels down"
            log.warning("userspace.routes_restored", tunnel=name, networks=len(networks))
            self.events.put_nowait(DriftFound(name, ReasonCode.CONFIG_DRIFT, detail, corrected=True))

    def _take_report(self, report: messages.TunnelReport) -> None:
        record = self.records.setdefault(report.name, DaemonTunnelRecord(report.name))
        failed = record.report is None or record.report.reason != report.reason
        record.take(report, datetime.now(UTC))
        self.report(record)
        if report.reason and failed:
            final = report.state != TunnelState.CONNECTING
            self.events.put_nowait(AttemptFailed(report.name, reason_of(report), report.detail, final))

    def report(self, record: DaemonTunnelRecord) -> None:
        """Emit what differs from the last report of a tunnel."""
        if record.key() != record.last:
            record.last = record.key()
            self.events.put_nowait(DaemonTunnelChanged(record.name, record.status(datetime.now(UTC)), record.converged))
