"""Many IKE_SAs behind one or more UDP ports: routing by SPI, admission of unauthenticated peers, timers, commands.

The implementation of `engine.Engine`. A datagram goes to the IKE_SA whose SPI it names; an IKE_SA_INIT request without
one begins a new IKE_SA, after a cookie when there are many unauthenticated peers. Timers sit in a heap and are looked at again when
they are due.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import count

from warren_ikev2 import maintenance
from warren_ikev2.addresses import Datagram, IPAddress, Path
from warren_ikev2.admission import Admission
from warren_ikev2.children import ChildUsage
from warren_ikev2.configuration import ConnectionConfiguration, EndpointConfiguration
from warren_ikev2.constants import NON_ESP_MARKER
from warren_ikev2.cookies import CookieGenerator
from warren_ikev2.dispatch import receive
from warren_ikev2.errors import CommandError, IkeError, UnsupportedCriticalPayloadError
from warren_ikev2.events import (
    ChildSaDeleted,
    DatagramDropped,
    DeleteReason,
    Event,
    HintReceived,
    IkeSaDeleted,
    Role,
    SessionId,
    State,
)
from warren_ikev2.exchanges.create_child_sa import CreateChild
from warren_ikev2.exchanges.ike_sa_init import IkeSaInit
from warren_ikev2.exchanges.informational import DeleteChild, DeleteIke, Liveness, SendRedirect
from warren_ikev2.exchanges.mobike import change_addresses, follows_nat, move, start_move
from warren_ikev2.exchanges.redirect import build_gateway
from warren_ikev2.exchanges.rekey_ike import RekeyIke
from warren_ikev2.fragments import FragmentBudget
from warren_ikev2.half_open import HalfOpen
from warren_ikev2.handshake import Handshake
from warren_ikev2.identity import Identity
from warren_ikev2.ike_sa import IkeSa, IkeSession, Task
from warren_ikev2.keylog import DecryptionKeys
from warren_ikev2.leases import AddressLeases
from warren_ikev2.randomness import RandomBytes
from warren_ikev2.session import Child, Session
from warren_ikev2.timers import Timers
from warren_ikev2.wire.header import parse_header
from warren_ikev2.wire.message import parse_message

_SPARE_SPIS = 16  # SPIs of a session without CHILD_SA before the old ones are freed
_DIAGNOSTICS = (DatagramDropped, HintReceived)


class Endpoint:
    """See the module; `engine.Engine` documents the calls."""

    def __init__(
        self, configuration: EndpointConfiguration, random_bytes: RandomBytes, utc_now: Callable[[], datetime]
    ) -> None:
        self.configuration = configuration
        self.random_bytes = random_bytes
        """Bytes for nonces, SPIs, IVs and cookies: cryptographically secure outside of tests."""
        self.utc_now = utc_now
        """The wall clock, aware, for the validity of certificates."""
        self.leases = AddressLeases()
        self.half_open = HalfOpen(configuration.limits)
        self.cookies = CookieGenerator(random_bytes)
        self.unauthenticated_fragments = FragmentBudget(configuration.limits.unauthenticated_fragment_bytes)
        self.authenticated_fragments = FragmentBudget(configuration.limits.fragment_bytes)
        self._admission = Admission(self)
        self._ike_sas: dict[bytes, IkeSa] = {}
        self._sessions: dict[SessionId, IkeSession] = {}
        self._child_sessions: dict[int, IkeSession] = {}
        self._by_identity: dict[tuple[int, object], dict[SessionId, IkeSession]] = {}
        self._session_ids = count(1)
        self._outbox: list[Datagram] = []
        self._events: deque[Event] = deque()
        self._timers = Timers(self._is_known)
        self._touched: dict[bytes, IkeSa] = {}

    # The five calls

    def receive_datagram(self, data: bytes, path: Path, now: float) -> None:
        """See Engine."""
        message = self._strip_marker(data, path)
        if message is not None:
            self._receive(message, path, now)
        self._schedule()

    def datagrams_to_send(self, now: float) -> list[Datagram]:
        """See Engine."""
        out, self._outbox = self._outbox, []
        return out

    def get_timer(self) -> float | None:
        """See Engine."""
        return self._timers.next()

    def handle_timer(self, now: float) -> None:
        """See Engine."""
        while (sa := self._timers.pop_due(now)) is not None:
            sa.handle_timer(now)
            maintenance.handle(sa, now)
            self.touch(sa)
        self._schedule()

    def next_event(self) -> Event | None:
        """See Engine."""
        return self._events.popleft() if self._events else None

    # Commands

    def set_connections(self, connections: Sequence[ConnectionConfiguration]) -> None:
        """See Engine."""
        self.configuration = replace(self.configuration, connections=tuple(connections))

    def initiate(
        self, connection: str, path: Path, now: float, *, redirected_from: IPAddress | None = None
    ) -> SessionId:
        """See Engine."""
        configuration = self.configuration.connection(connection)
        if configuration is None:
            raise CommandError(f"no connection {connection!r} is configured")
        session: IkeSession = Session(SessionId(next(self._session_ids)), Role.INITIATOR, path, configuration)
        handshake = Handshake((configuration,))
        if redirected_from is not None:
            handshake.redirected_from = build_gateway(str(redirected_from))
        sa = IkeSa(self, session, initiator=True, spi_i=self.new_ike_spi(), handshake=handshake)
        session.ike_sa = sa
        self._sessions[session.id] = session
        self.add(sa)
        sa.enqueue(IkeSaInit(), now)
        self._schedule()
        return session.id

    def create_child(self, session: SessionId, name: str, now: float) -> None:
        """See Engine."""
        sa = self._established(session)
        configuration = sa.session.connection.child(name)
        if configuration is None:
            raise CommandError(f"connection {sa.session.connection.name!r} has no child {name!r}")
        self._enqueue(sa, CreateChild(configuration), now)

    def rekey_ike(self, session: SessionId, now: float) -> None:
        """See Engine."""
        self._enqueue(self._established(session), RekeyIke(), now)

    def rekey_child(self, session: SessionId, spi_in: int, now: float) -> None:
        """See Engine."""
        sa, child = self._child(session, spi_in)
        maintenance.rekey_child(sa, child, now)
        self._finish(sa)

    def delete_child(self, session: SessionId, spi_in: int, now: float) -> None:
        """See Engine."""
        sa, child = self._child(session, spi_in)
        self._enqueue(sa, DeleteChild(child, DeleteReason.LOCAL), now)

    def delete(self, session: SessionId, now: float) -> None:
        """See Engine."""
        found = self._sessions.get(session)
        if found is None or found.ike_sa is None:
            raise CommandError(f"no session {session}")
        sa = found.ike_sa
        if sa.state == State.ESTABLISHED:
            self._enqueue(sa, DeleteIke(DeleteReason.LOCAL), now)
        elif sa.state != State.DELETING:
            sa.close(DeleteReason.LOCAL, "deleted", now)
            self._finish(sa)

    def check_liveness(self, session: SessionId, now: float) -> None:
        """See Engine."""
        self._enqueue(self._established(session), Liveness(), now)

    def change_path(self, session: SessionId, path: Path, now: float) -> None:
        """See Engine."""
        sa = self._established(session)
        if not sa.session.peer.mobike or sa.session.role != Role.INITIATOR:
            raise CommandError("only the initiator moves, and only if both sides speak MOBIKE")
        own = sa.session.mobility.own
        sa.session.mobility.own = own if not own or path.local.host in own else (path.local.host, *own)
        start_move(sa, path, now)
        self._finish(sa)

    def set_addresses(self, session: SessionId, addresses: Sequence[IPAddress], now: float) -> None:
        """See Engine."""
        sa = self._established(session)
        if not sa.session.peer.mobike:
            raise CommandError("the peer does not speak MOBIKE")
        change_addresses(sa, tuple(addresses), now)
        self._finish(sa)

    def redirect(self, session: SessionId, gateway: str, now: float) -> None:
        """See Engine."""
        sa = self._established(session)
        if not sa.session.peer.redirect:
            raise CommandError("the peer does not support redirection")
        self._enqueue(sa, SendRedirect(gateway), now)

    def decryption_keys(self, session: SessionId) -> DecryptionKeys:
        """See Engine."""
        sa = self._established(session)
        suite, keys = sa.established_keys()
        algorithms = (suite.encryption, suite.key_length, suite.integrity)
        return DecryptionKeys(sa.spi_i, sa.spi_r, *algorithms, keys.ei, keys.er, keys.ai, keys.ar)

    def child_usage(self, spi_in: int, usage: ChildUsage, now: float) -> None:
        """See Engine."""
        for sa, child in self._children(spi_in):
            maintenance.count_usage(sa, child, usage, now)
            self._finish(sa)

    def child_path(self, spi_in: int, path: Path, now: float) -> None:
        """See Engine."""
        for sa, _ in self._children(spi_in):
            if follows_nat(sa, path):
                move(sa, path)
                self._finish(sa)

    def sequence_exhausted(self, spi_in: int, now: float) -> None:
        """See Engine."""
        for sa, child in self._children(spi_in):
            maintenance.rekey_child(sa, child, now)
            self._finish(sa)

    # What IKE_SAs ask for (ike_sa.Host)

    def emit(self, event: Event) -> None:
        """See Host; diagnostics give way when nobody takes events."""
        if len(self._events) < self.configuration.limits.events or not isinstance(event, _DIAGNOSTICS):
            self._events.append(event)

    def send(self, datagram: Datagram) -> None:
        """See Host."""
        self._outbox.append(datagram)

    def new_ike_spi(self) -> bytes:
        """See Host."""
        while True:
            spi = self.random_bytes(8)
            if any(spi) and spi not in self._ike_sas:
                return spi

    def new_child_spi(self, session: IkeSession) -> int:
        """See Host; below 256 is reserved (RFC 4303, 2.1)."""
        spi = 0
        while spi <= 0xFF or spi in self._child_sessions:
            spi = int.from_bytes(self.random_bytes(4), "big")
        self._child_sessions[spi] = session
        session.spis.append(spi)
        if len(session.spis) > 2 * len(session.children) + _SPARE_SPIS:
            self._free_spis(session)
        return spi

    def _free_spis(self, session: IkeSession) -> None:
        """Forget SPIs of CHILD_SAs that are gone; the newest few may belong to offers on the way."""
        newest = set(session.spis[-_SPARE_SPIS // 2 :])
        for spi in [spi for spi in session.spis if spi not in newest and spi not in session.children]:
            del self._child_sessions[spi]
            session.spis.remove(spi)

    def add(self, sa: IkeSa) -> None:
        """See Host."""
        self._ike_sas[sa.own_spi] = sa
        self.touch(sa)

    def touch(self, sa: IkeSa) -> None:
        """See Host."""
        self._touched[sa.own_spi] = sa

    def remove(self, sa: IkeSa) -> None:
        """See Host."""
        self._ike_sas.pop(sa.own_spi, None)
        self._admission.forget(sa)

    def end(self, session: IkeSession, reason: DeleteReason, now: float) -> None:
        """See Host."""
        if self._sessions.pop(session.id, None) is None:
            return
        for child in session.children.values():
            self.emit(ChildSaDeleted(session.id, child.sa, reason))
        session.children.clear()
        self._forget_identity(session)
        for spi in session.spis:
            self._child_sessions.pop(spi, None)
        self.leases.give_back(session.id)
        if session.established:
            self.emit(IkeSaDeleted(session.id, session.connection.name, reason))

    def established(self, session: IkeSession) -> None:
        """See Host."""
        if session.remote_identity is not None:
            self._by_identity.setdefault(session.remote_identity.comparable, {})[session.id] = session

    def sessions_with(self, identity: Identity) -> Sequence[IkeSession]:
        """See Host."""
        return list(self._by_identity.get(identity.comparable, {}).values())

    def _forget_identity(self, session: IkeSession) -> None:
        if session.remote_identity is not None:
            others = self._by_identity.get(session.remote_identity.comparable, {})
            others.pop(session.id, None)
            if not others:
                self._by_identity.pop(session.remote_identity.comparable, None)

    def open_session(self, session: IkeSession) -> None:
        """Count a responder's session among ours."""
        self._sessions[session.id] = session

    def new_session_id(self) -> SessionId:
        """The next one."""
        return SessionId(next(self._session_ids))

    @property
    def size(self) -> int:
        """IKE_SAs, half-open and lingering ones included."""
        return len(self._ike_sas)

    # Within

    def _strip_marker(self, data: bytes, path: Path) -> bytes | None:
        """The IKE message of a datagram; None if it is none (RFC 3948, 2)."""
        if path.local.port == self.configuration.ike_port:
            return data
        if data.startswith(NON_ESP_MARKER):
            return data[len(NON_ESP_MARKER) :]
        if len(data) > 1:  # a keepalive is one byte
            self.emit(DatagramDropped(path, "esp"))
        return None

    def _receive(self, data: bytes, path: Path, now: float) -> None:
        try:
            header = parse_header(data)
            sa = self._ike_sas.get(header.spi_r if header.from_initiator else header.spi_i)
            if sa is None or (sa.spi_i != header.spi_i):
                self._admission.handle(data, header, path, now)
                return
            message = parse_message(data)
        except UnsupportedCriticalPayloadError:
            self.emit(DatagramDropped(path, "critical"))
        except IkeError:
            self.emit(DatagramDropped(path, "malformed"))
        else:
            if sa.state != State.INIT_SENT and sa.spi_r != header.spi_r:
                self.emit(DatagramDropped(path, "unknown-spi"))
                return
            receive(sa, message, data, path, now)
            self.touch(sa)

    def _is_known(self, sa: IkeSa) -> bool:
        return self._ike_sas.get(sa.own_spi) is sa

    def _schedule(self) -> None:
        touched, self._touched = self._touched, {}
        for sa in touched.values():
            current = sa.session.ike_sa
            self._arm(sa)
            if current is not None and current is not sa:
                self._arm(current)

    def _arm(self, sa: IkeSa) -> None:
        if not self._is_known(sa):
            return
        if sa.session.established:  # who failed stays counted until it is removed: else failing would be free
            self._admission.forget(sa)
        times = [time for time in (sa.deadline(), maintenance.deadline(sa)) if time is not None]
        self._timers.arm(sa, min(times, default=None))

    def _enqueue(self, sa: IkeSa, task: Task, now: float) -> None:
        sa.enqueue(task, now)
        self._finish(sa)

    def _finish(self, sa: IkeSa) -> None:
        self.touch(sa)
        self._schedule()

    def _established(self, session: SessionId) -> IkeSa:
        found = self._sessions.get(session)
        sa = None if found is None else found.ike_sa
        if sa is None or sa.state != State.ESTABLISHED:
            raise CommandError(f"session {session} is not established")
        return sa

    def _child(self, session: SessionId, spi_in: int) -> tuple[IkeSa, Child]:
        sa = self._established(session)
        child = sa.session.children.get(spi_in)
        if child is None:
            raise CommandError(f"session {session} has no CHILD_SA with the SPI {spi_in:#010x}")
        return sa, child

    def _children(self, spi_in: int) -> list[tuple[IkeSa, Child]]:
        """The CHILD_SA with our SPI and its IKE_SA; none if unknown."""
        session = self._child_sessions.get(spi_in)
        if session is None or session.ike_sa is None:
            return []
        child = session.children.get(spi_in)
        return [] if child is None else [(session.ike_sa, child)]
