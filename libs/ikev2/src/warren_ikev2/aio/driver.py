"""Connects the engine, ESP, the sockets and the clock.

The driver holds no protocol state: the engine has the protocol's, the dispatcher the sessions'.
"""

import asyncio
from collections.abc import Callable, Sequence
from ipaddress import ip_address

from warren_ikev2.addresses import Path, SocketAddress
from warren_ikev2.aio.dispatch import Dispatcher
from warren_ikev2.aio.handshakes import PendingHandshake
from warren_ikev2.aio.logins import Logins
from warren_ikev2.aio.logs import log_event
from warren_ikev2.aio.metrics import Metrics
from warren_ikev2.aio.ports import Ports
from warren_ikev2.aio.session import Session, Transport
from warren_ikev2.aio.udp import UdpPort
from warren_ikev2.engine import Engine
from warren_ikev2.errors import SessionClosedError
from warren_ikev2.esp.drops import DropReason, PacketDroppedError
from warren_ikev2.esp.udp import DatagramKind, classify
from warren_ikev2.events import Event, IkeSaEstablished, LoginRequested, SessionId
from warren_ikev2.keylog import build_line

BATCH = 64
"""Datagrams read before timers and other tasks get their turn."""
USAGE_INTERVAL = 1.0
"""Seconds between reports of traffic to the engine: the precision of lifetimes by bytes and packets."""


class EngineDriver:
    """One endpoint on its bound ports. Make it, and call it, within the event loop."""

    def __init__(self, engine: Engine, ports: tuple[UdpPort, ...], ike_port: int, path_mtu: int) -> None:
        """`ike_port`: the local port without the non-ESP marker, where no ESP is expected either; the last of `ports` is
        where IKE floats to and ESP arrives.
        """
        self.metrics = Metrics()
        self._engine = engine
        self.ike_port = ike_port
        self.natt_port = ports[-1].address.port
        self._loop = asyncio.get_running_loop()
        self.dispatcher = Dispatcher(engine.commands, self, self.metrics, self._loop, path_mtu, self._make_session)
        self.logins = Logins(engine.commands, self.command)
        self.on_event: Callable[[Event], None] | None = None
        """Called with each event of the engine, after the sessions have changed by it."""
        self._busy: set[SessionId] = set()
        self._report_at: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._ports = Ports(ports, self._watch)

    def _make_session(
        self, transport: Transport, session_id: SessionId, info: IkeSaEstablished, path_mtu: int
    ) -> Session:
        return Session(transport, session_id, info, path_mtu)

    def _watch(self, port: UdpPort) -> None:
        self._loop.add_reader(port.fileno(), self._readable, port)

    def stop(self) -> None:
        """Stop at once, without a message to the peers; open sessions end. May be called twice."""
        self._ports.close()
        self.logins.stop()
        if self._timer is not None:
            self._timer.cancel()
        self.dispatcher.end_all(SessionClosedError("the endpoint was stopped"))

    def address_of(self, port: int) -> SocketAddress:
        """Return the bound address of a port."""
        return self._ports.address_of(port)

    def rebind(self, address: SocketAddress) -> None:
        """Send from this address: see `Ports.rebind`."""
        self._ports.rebind(address)

    def initiate(self, connection: str, path: Path, *, childless: bool) -> PendingHandshake:
        """Begin a handshake; its `done` yields the session or raises the error."""
        handshake = self.dispatcher.handshakes.begin(connection, path, childless=childless)
        self._after()
        return handshake

    def abandon(self, handshake: PendingHandshake) -> None:
        """End a handshake whose caller no longer waits."""
        self.dispatcher.handshakes.abandon(handshake)
        self._after()

    # ---- session.Transport

    def send_esp(self, session: Session, packet: bytes, tos: int) -> None:
        """See `session.Carrier`."""
        port = self._ports.at(session.path.local)
        if port is not None and port.send(packet, session.path, tos):
            self.metrics.esp_packets_encrypted += 1
        self._record_traffic(session)

    def count_drop(self, reason: DropReason) -> None:
        """See `session.Carrier`."""
        self.metrics.drops[reason] += 1

    def rekey_session(self, session: Session, spi_in: int | None) -> None:
        """See `session.Carrier`."""
        self.dispatcher.rekeyings.begin(session, spi_in)
        self._after()

    def close_session(self, session: Session) -> None:
        """See `session.Carrier`."""
        self.command(lambda now: self._engine.commands.delete(session.id, now))

    def export_keys(self, session: Session) -> str:
        """See `session.Carrier`."""
        return build_line(self._engine.commands.decryption_keys(session.id))

    def set_addresses(self, session: Session, hosts: Sequence[str]) -> None:
        """Announce our addresses. `CommandError`: the peer does not support MOBIKE, or there is no path from them."""
        addresses = [ip_address(host) for host in hosts]
        self.command(lambda now: self._engine.commands.set_addresses(session.id, addresses, now))

    def command(self, command: Callable[[float], None]) -> None:
        """Run a command of the engine with the current time; `CommandError`: the state does not allow it."""
        command(self._loop.time())
        self._after()

    # ---- bytes and time

    def _readable(self, port: UdpPort) -> None:
        esp_here = port.address.port != self.ike_port
        for _ in range(BATCH):
            received = port.receive()
            if received is None:
                break
            data, path, tos = received
            if esp_here and classify(data) is DatagramKind.ESP:
                self._receive_esp(data, path, tos)
            else:
                self._engine.receive_datagram(data, path, self._loop.time())
        self._after()

    def _receive_esp(self, data: bytes, path: Path, tos: int) -> None:
        session = self.dispatcher.by_spi.get(data[:4])
        if session is None:
            self.count_drop(DropReason.NO_SA)
            return
        try:
            packet = session.table.open(data, tos)
        except PacketDroppedError as dropped:
            self.count_drop(dropped.reason)
            return
        self.metrics.esp_packets_decrypted += 1
        if path is not session.path and path != session.path and session.table.is_newest(data):
            self._engine.reports.child_path(int.from_bytes(data[:4], "big"), path, self._loop.time())
        self._record_traffic(session)
        session.deliver(packet)

    def _record_traffic(self, session: Session) -> None:
        self._busy.add(session.id)
        if self._report_at is None:
            self._report_at = self._loop.time() + USAGE_INTERVAL
            self._arm()

    def _report_usage(self, now: float) -> None:
        self._report_at = None
        busy, self._busy = self._busy, set()
        for session_id in busy:
            session = self.dispatcher.sessions.get(session_id)
            if session is None:
                continue
            for spi_in, usage in session.usage().items():
                self._engine.reports.child_usage(spi_in, usage, now)
            for spi_in in session.nearly_exhausted():
                self._engine.reports.sequence_exhausted(spi_in, now)

    def _wake(self) -> None:
        self._timer = None
        now = self._loop.time()
        if self._report_at is not None and self._report_at <= now:
            self._report_usage(now)
        self.dispatcher.tick(now)
        self._engine.handle_timer(now)
        self._after()

    def _after(self) -> None:
        """After each call of the engine: handle its events, send its datagrams, arm its timer.

        The events come first: a CHILD_SA is installed before the peer learns of it, or its first packets would be dropped.
        """
        while self._handle_events() or self._send_datagrams():
            pass
        self._arm()

    def _handle_events(self) -> bool:
        handled = False
        while (event := self._engine.next_event()) is not None:
            log_event(event)
            if isinstance(event, LoginRequested):
                self.logins.begin(event)
            self.dispatcher.handle(event)
            if self.on_event is not None:
                self.on_event(event)
            handled = True
        return handled

    def _send_datagrams(self) -> bool:
        datagrams = self._engine.datagrams_to_send(self._loop.time())
        for datagram in datagrams:
            port = self._ports.at(datagram.path.local)
            if port is not None:
                port.send(datagram.data, datagram.path)
        return bool(datagrams)

    def _arm(self) -> None:
        lingering = (session.table.get_timer() for session in self.dispatcher.lingering)
        times = [time for time in (self._engine.get_timer(), self._report_at, *lingering) if time is not None]
        if not times:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        elif self._timer is None or self._timer.when() != min(times):
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_at(min(times), self._wake)
