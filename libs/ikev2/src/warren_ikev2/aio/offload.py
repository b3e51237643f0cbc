"""The driver whose ESP runs in a data process of its own (see `data_plane`), attached to a TUN device with offloads.

The engine, the IKE ports and the timers stay here. The sockets of the NAT traversal port are read by the data process, which
passes on the IKE messages; both processes send on them.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from warren_ikev2.addresses import Path, SocketAddress
from warren_ikev2.aio.data_plane import DataPlane
from warren_ikev2.aio.driver import EngineDriver
from warren_ikev2.aio.session import EXHAUSTION, Session, Transport
from warren_ikev2.aio.udp import UdpPort
from warren_ikev2.children import ChildSa, ChildUsage
from warren_ikev2.dataplane import control
from warren_ikev2.dataplane.privileges import NOBODY
from warren_ikev2.dataplane.tun import OffloadTun
from warren_ikev2.engine import Engine
from warren_ikev2.errors import CommandError, IkeError, NotConnectedError
from warren_ikev2.esp import pmtu
from warren_ikev2.esp.drops import DropReason
from warren_ikev2.esp.table import LINGER, SaTable
from warren_ikev2.esp.transforms import build_transform
from warren_ikev2.events import IkeSaEstablished, SessionId

_LAST_REPORT = 2.0
"""Seconds after which the data process reports nothing more of a CHILD_SA that it no longer has."""
_RETRY_SECONDS = 5.0
"""Between attempts to rekey a CHILD_SA that a lost data process carried."""


@dataclass(frozen=True, slots=True)
class DataPlaneOptions:
    """The data process of an endpoint."""

    tun: OffloadTun
    """Where its packets enter and leave. It stays the caller's, who closes it after the endpoint."""
    vectorised: bool = True
    """False: as without numpy, which costs twice the CPU time."""
    udp_gso: bool = True
    """False: datagrams are sent one at a time, as over a device that cannot segment."""
    rate_of: Callable[[IkeSaEstablished], int | None] = lambda info: None
    """The limit of a session in bytes per second each way; None: no limit. Packets beyond it are dropped."""
    on_ended: Callable[[int | None], None] = lambda exit_code: None
    """Called when the data process has ended by itself. Another one is started, and the CHILD_SAs are rekeyed."""


class RemoteTable(SaTable):
    """No SA is here; only the times until which the data process accepts replaced ones."""

    def __init__(self, plane: DataPlane) -> None:
        super().__init__()
        self._plane = plane

    def linger_until(self, spi_in: int, until: float) -> None:
        """Note that an inbound SPI is in use until then."""
        self._lingering[spi_in.to_bytes(4, "big")] = until

    def handle_timer(self, now: float) -> list[bytes]:
        """See `SaTable.handle_timer`."""
        over = [key for key, until in self._lingering.items() if until <= now]
        for key in over:
            del self._lingering[key]
            self._plane.children.pop(int.from_bytes(key, "big"), None)
        return over


class OffloadSession(Session):
    """A session whose packets the data process carries, between its TUN device and the peer."""

    def __init__(
        self,
        transport: Transport,
        session_id: SessionId,
        info: IkeSaEstablished,
        path_mtu: int,
        plane: DataPlane,
        rate: int | None = None,
    ) -> None:
        super().__init__(transport, session_id, info, path_mtu)
        self.plane = plane
        self.rate = rate
        self._lingering = self.table = RemoteTable(plane)

    def send_nowait(self, packet: bytes) -> None:
        """Raises `CommandError`: the packets of this session enter by the TUN device."""
        raise CommandError("the data process carries this session's packets: send them through its TUN device")

    def install(self, child: ChildSa, waits_for: int | None = None) -> None:
        """See `Session.install`."""
        limit = None if self.rate is None else control.RateLimit(self.id, self.rate)
        self.plane.send(control.InstallChild(child, waits_for, limit))
        self.children[child.spi_in] = child
        self.path = child.path
        self._notify_watchers()

    def remove(self, child: ChildSa, now: float) -> None:
        """See `Session.remove`."""
        self.plane.send(control.RemoveChild(child.spi_in, LINGER))
        self._lingering.linger_until(child.spi_in, now + LINGER + _LAST_REPORT)
        super().remove(child, now)

    def move(self, path: Path, children: tuple[ChildSa, ...]) -> None:
        """See `Session.move`."""
        for child in children:
            if child.spi_in in self.children:
                self.plane.send(control.MoveChild(child.spi_in, child.path))
        super().move(path, children)

    def mark_closed(self, reason: IkeError) -> None:
        """See `Session.mark_closed`: without an IKE_SA there are no CHILD_SAs either."""
        for spi_in in self.children:
            self.plane.send(control.RemoveChild(spi_in, 0.0))
            self.plane.children.pop(spi_in, None)
        super().mark_closed(reason)

    @property
    def mtu(self) -> int:
        """See `Session.mtu`."""
        for child in self.children.values():
            transform = build_transform(child.suite, child.keys_out, os.urandom)  # for its sizes only
            return pmtu.inner_mtu(self._path_mtu, transform, self.path.remote.host.version)
        raise NotConnectedError("the session has no CHILD_SA")

    def usage(self) -> dict[int, ChildUsage]:
        """See `Session.usage`; up to a second old."""
        known = self.plane.children
        return {
            spi_in: ChildUsage(one.bytes_in, one.packets_in, one.bytes_out, one.packets_out)
            for spi_in in self.children
            if (one := known.get(spi_in)) is not None
        }

    def nearly_exhausted(self) -> list[int]:
        """See `Session.nearly_exhausted`."""
        known = self.plane.children
        return [spi for spi in self.children if spi in known and known[spi].remaining < EXHAUSTION]


class OffloadDriver(EngineDriver):
    """A driver with a data process."""

    def __init__(
        self,
        engine: Engine,
        ports: tuple[UdpPort, ...],
        ike_port: int,
        path_mtu: int,
        options: DataPlaneOptions,
    ) -> None:
        """Starts the data process. Raises `OSError`."""
        self._natt = {port.address.host.version: port for port in ports if port.address.port == ports[-1].address.port}
        user = NOBODY if os.geteuid() == 0 else None
        start = control.Start(path_mtu, options.vectorised, options.udp_gso, user)
        self._rate_of = options.rate_of
        self._on_ended = options.on_ended
        self.on_statistics: Callable[[Sequence[control.ChildStatistics]], None] | None = None
        """Called with the statistics of some CHILD_SAs: at most once a second, and once more when one is removed."""
        self.plane = DataPlane(options.tun.descriptor, start, self)
        super().__init__(engine, ports, ike_port, path_mtu)
        self._stale: set[int] = set()
        self.plane.start()

    def stop(self) -> None:
        """See `EngineDriver.stop`."""
        super().stop()
        self.plane.stop()

    def rebind(self, address: SocketAddress) -> None:
        """See `EngineDriver.rebind`."""
        super().rebind(address)
        port = self._ports.at(address)
        if port is not None and address.port == self.natt_port and self._natt.get(address.host.version) is not port:
            self._natt[address.host.version] = port
            self.plane.send(control.ReplacePort(), (port.fileno(),))

    def _watch(self, port: UdpPort) -> None:
        """The sockets of the NAT traversal port are read by the data process."""
        if port.address.port != self.natt_port:
            super()._watch(port)

    def _make_session(
        self, transport: Transport, session_id: SessionId, info: IkeSaEstablished, path_mtu: int
    ) -> Session:
        return OffloadSession(transport, session_id, info, path_mtu, self.plane, self._rate_of(info))

    # ---- data_plane.DataPlaneOwner

    def natt_sockets(self) -> Sequence[int]:
        """See `DataPlaneOwner`."""
        return [port.fileno() for port in self._natt.values()]

    def take_message(self, message: control.Message) -> None:
        """See `DataPlaneOwner`."""
        now = self._loop.time()
        match message:
            case control.IkeReceived(datagram, path, _):
                self._engine.receive_datagram(datagram, path, now)
            case control.SourceChanged(spi_in, path):
                self._engine.reports.child_path(spi_in, path, now)
            case control.Statistics(children, totals):
                self._take_statistics(children, totals, now)
            case _:
                return
        self._after()

    def _take_statistics(self, children: Sequence[control.ChildStatistics], totals: dict[str, int], now: float) -> None:
        metrics = self.metrics
        metrics.esp_packets_encrypted = totals.get("packets_out", 0)
        metrics.esp_packets_decrypted = totals.get("packets_in", 0)
        for reason in DropReason:
            metrics.drops[reason] = totals.get(f"drops_{reason}", 0)
        if self.on_statistics is not None:
            self.on_statistics(children)
        for child in children:
            session = self.dispatcher.by_spi.get(child.spi_in.to_bytes(4, "big"))
            if session is None or child.spi_in not in session.children:
                continue
            usage = ChildUsage(child.bytes_in, child.packets_in, child.bytes_out, child.packets_out)
            self._engine.reports.child_usage(child.spi_in, usage, now)
            if child.remaining < EXHAUSTION:
                self._engine.reports.sequence_exhausted(child.spi_in, now)

    def data_plane_ended(self, exit_code: int | None) -> None:
        """See `DataPlaneOwner`."""
        self._on_ended(exit_code)

    def data_plane_restarted(self) -> None:
        """See `DataPlaneOwner`: no key is used again, so every CHILD_SA gets a successor."""
        self._stale = {spi for session in self.dispatcher.sessions.values() for spi in session.children}
        self._replace_stale()

    def _replace_stale(self) -> None:
        """Rekey what the lost process carried; repeated until it is replaced or gone."""
        if not self._ports.are_open:
            return
        live = {spi: session for session in self.dispatcher.sessions.values() for spi in session.children}
        self._stale &= live.keys()
        for spi_in in self._stale:
            try:
                self._engine.commands.rekey_child(live[spi_in].id, spi_in, self._loop.time())
            except CommandError:  # an exchange for it is under way
                continue
        self._after()
        if self._stale:
            self._loop.call_later(_RETRY_SECONDS, self._replace_stale)
