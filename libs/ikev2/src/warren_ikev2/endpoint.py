"""Many IKE_SAs behind one or more UDP ports: routing by SPI, commands and timers.

The implementation of `engine.Engine`. A datagram goes to the IKE_SA whose SPI it names; the others go to `admission`. The state
is in `endpoint_state`. Timers are in a heap, and an IKE_SA's deadline is computed again when its entry is due.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from warren_ikev2 import maintenance, retransmission
from warren_ikev2.addresses import Datagram, IPAddress, Path
from warren_ikev2.admission import Admission
from warren_ikev2.auth.login import LoginVerdict
from warren_ikev2.children import ChildUsage
from warren_ikev2.configuration import ConnectionConfiguration, EndpointConfiguration
from warren_ikev2.constants import NON_ESP_MARKER
from warren_ikev2.dispatch import receive
from warren_ikev2.endpoint_state import EndpointState
from warren_ikev2.errors import CommandError, IkeError, UnsupportedCriticalPayloadError
from warren_ikev2.events import DatagramDropped, DeleteReason, Event, SessionId, SessionRole, State
from warren_ikev2.exchanges.create_child_sa import CreateChild
from warren_ikev2.exchanges.ike_auth_responder import conclude_login, login_deadline, refuse_late_login
from warren_ikev2.exchanges.ike_sa_init import IkeSaInit
from warren_ikev2.exchanges.informational import DeleteChild, DeleteIke, Liveness, SendRedirect
from warren_ikev2.exchanges.mobike import change_addresses, follows_nat, move, start_move
from warren_ikev2.exchanges.redirect import build_gateway
from warren_ikev2.exchanges.rekey_ike import RekeyIke
from warren_ikev2.handshake import Handshake
from warren_ikev2.ike_sa import IkeSa, IkeSession, Task
from warren_ikev2.keylog import DecryptionKeys
from warren_ikev2.randomness import RandomBytes
from warren_ikev2.session import Session
from warren_ikev2.timers import Timers
from warren_ikev2.wire.header import parse_header
from warren_ikev2.wire.message import parse_message


class Endpoint:
    """See the module; `engine.Engine` documents the calls.

    `random_bytes` makes nonces, SPIs, IVs and cookies. `utc_now` is the wall clock, aware, for the validity of certificates.
    """

    def __init__(
        self, configuration: EndpointConfiguration, random_bytes: RandomBytes, utc_now: Callable[[], datetime]
    ) -> None:
        self.state = EndpointState(configuration, random_bytes, utc_now)
        self._admission = Admission(self.state)
        self._timers = Timers(self.state.is_known)

    # Bytes and time

    def receive_datagram(self, data: bytes, path: Path, now: float) -> None:
        """See Engine."""
        if path.local.port == self.state.configuration.ike_port:
            self._receive(data, path, now)
        elif data.startswith(NON_ESP_MARKER):
            self._receive(data[len(NON_ESP_MARKER) :], path, now)
        elif len(data) > 1:  # a NAT keepalive has one byte (RFC 3948, 2.3)
            self.state.emit(DatagramDropped(path, "esp"))
        self._schedule()

    def datagrams_to_send(self, now: float) -> list[Datagram]:
        """See Engine."""
        out, self.state.datagrams = self.state.datagrams, []
        return out

    def get_timer(self) -> float | None:
        """See Engine."""
        return self._timers.next()

    def handle_timer(self, now: float) -> None:
        """See Engine."""
        while (sa := self._timers.pop_due(now)) is not None:
            refuse_late_login(sa, now)
            retransmission.handle_timer(sa, now)
            maintenance.handle_timer(sa, now)
            self.state.touch(sa)
        self._schedule()

    def next_event(self) -> Event | None:
        """See Engine."""
        return self.state.events.popleft() if self.state.events else None

    def _receive(self, data: bytes, path: Path, now: float) -> None:
        state = self.state
        try:
            header = parse_header(data)
            sa = state.ike_sas.get(header.spi_r if header.from_initiator else header.spi_i)
            if sa is None or (sa.spi_i != header.spi_i):
                self._admission.handle(data, header, path, now)
                return
            message = parse_message(data)
        except UnsupportedCriticalPayloadError:
            state.emit(DatagramDropped(path, "critical"))
        except IkeError:
            state.emit(DatagramDropped(path, "malformed"))
        else:
            if sa.state != State.INIT_SENT and sa.spi_r != header.spi_r:
                state.emit(DatagramDropped(path, "unknown-spi"))
                return
            receive(sa, message, data, path, now)
            state.touch(sa)

    def _schedule(self) -> None:
        """Compute again the deadlines of the IKE_SAs that a call touched."""
        touched, self.state.touched = self.state.touched, {}
        for sa in touched.values():
            current = sa.session.ike_sa
            _arm(self.state, self._timers, sa)
            if current is not None and current is not sa:
                _arm(self.state, self._timers, current)

    # Commands

    @property
    def size(self) -> int:
        """The number of IKE_SAs, half-open and lingering ones included."""
        return self.state.size

    def set_connections(self, connections: Sequence[ConnectionConfiguration]) -> None:
        """See Engine."""
        self.state.configuration = replace(self.state.configuration, connections=tuple(connections))

    def initiate(
        self, connection: str, path: Path, now: float, *, redirected_from: IPAddress | None = None
    ) -> SessionId:
        """See Engine."""
        state = self.state
        configuration = state.configuration.connection(connection)
        if configuration is None:
            raise CommandError(f"no connection {connection!r} is configured")
        session: IkeSession = Session(state.new_session_id(), SessionRole.INITIATOR, path, configuration)
        handshake = Handshake((configuration,))
        if redirected_from is not None:
            handshake.redirected_from = build_gateway(str(redirected_from))
        sa = IkeSa(state, session, initiator=True, spi_i=state.new_ike_spi(), handshake=handshake)
        session.ike_sa = sa
        state.open_session(session)
        state.add(sa)
        self._enqueue(sa, IkeSaInit(), now)
        return session.id

    def answer_login(self, session: SessionId, verdict: LoginVerdict, now: float) -> None:
        """See Engine."""
        found = self.state.sessions.get(session)
        if found is None or found.ike_sa is None or not conclude_login(found.ike_sa, verdict, now):
            raise CommandError(f"no login of session {session} waits for a verdict")
        self._finish(found.ike_sa)

    def create_child(self, session: SessionId, name: str, now: float) -> None:
        """See Engine."""
        sa = self.state.established_ike_sa(session)
        configuration = sa.session.connection.child(name)
        if configuration is None:
            raise CommandError(f"connection {sa.session.connection.name!r} has no child {name!r}")
        self._enqueue(sa, CreateChild(configuration), now)

    def rekey_ike(self, session: SessionId, now: float) -> None:
        """See Engine."""
        self._enqueue(self.state.established_ike_sa(session), RekeyIke(), now)

    def rekey_child(self, session: SessionId, spi_in: int, now: float) -> None:
        """See Engine."""
        sa, child = self.state.child_of(session, spi_in)
        maintenance.rekey_child(sa, child, now)
        self._finish(sa)

    def delete_child(self, session: SessionId, spi_in: int, now: float) -> None:
        """See Engine."""
        sa, child = self.state.child_of(session, spi_in)
        self._enqueue(sa, DeleteChild(child, DeleteReason.LOCAL), now)

    def delete(self, session: SessionId, now: float) -> None:
        """See Engine."""
        found = self.state.sessions.get(session)
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
        self._enqueue(self.state.established_ike_sa(session), Liveness(), now)

    def change_path(self, session: SessionId, path: Path, now: float) -> None:
        """See Engine."""
        sa = self.state.established_ike_sa(session)
        if not sa.session.peer.mobike or sa.session.role != SessionRole.INITIATOR:
            raise CommandError("only the initiator changes the path, and only if both sides support MOBIKE")
        own = sa.session.mobility.own
        sa.session.mobility.own = own if not own or path.local.host in own else (path.local.host, *own)
        start_move(sa, path, now)
        self._finish(sa)

    def set_addresses(self, session: SessionId, addresses: Sequence[IPAddress], now: float) -> None:
        """See Engine."""
        sa = self.state.established_ike_sa(session)
        if not sa.session.peer.mobike:
            raise CommandError("the peer does not support MOBIKE")
        change_addresses(sa, tuple(addresses), now)
        self._finish(sa)

    def redirect(self, session: SessionId, gateway: str, now: float) -> None:
        """See Engine."""
        sa = self.state.established_ike_sa(session)
        if not sa.session.peer.redirect:
            raise CommandError("the peer does not support redirection")
        self._enqueue(sa, SendRedirect(gateway), now)

    def decryption_keys(self, session: SessionId) -> DecryptionKeys:
        """See Engine."""
        sa = self.state.established_ike_sa(session)
        suite, keys = sa.protection.suite_and_keys()
        algorithms = (suite.encryption, suite.key_length, suite.integrity)
        return DecryptionKeys(sa.spi_i, sa.spi_r, *algorithms, keys.ei, keys.er, keys.ai, keys.ar)

    def child_usage(self, spi_in: int, usage: ChildUsage, now: float) -> None:
        """See Engine."""
        if (found := self.state.find_child(spi_in)) is not None:
            maintenance.count_usage(*found, usage, now)
            self._finish(found[0])

    def child_path(self, spi_in: int, path: Path, now: float) -> None:
        """See Engine."""
        found = self.state.find_child(spi_in)
        if found is not None and follows_nat(found[0], path):
            move(found[0], path)
            self._finish(found[0])

    def sequence_exhausted(self, spi_in: int, now: float) -> None:
        """See Engine."""
        if (found := self.state.find_child(spi_in)) is not None:
            maintenance.rekey_child(*found, now)
            self._finish(found[0])

    def _enqueue(self, sa: IkeSa, task: Task, now: float) -> None:
        sa.enqueue(task, now)
        self._finish(sa)

    def _finish(self, sa: IkeSa) -> None:
        self.state.touch(sa)
        self._schedule()


def _arm(state: EndpointState, timers: Timers, sa: IkeSa) -> None:
    if not state.is_known(sa):
        return
    # a failed handshake counts as half-open until its IKE_SA is removed: otherwise failing would cost a peer nothing
    if sa.session.established:
        state.half_open.remove(sa)
    deadlines = (login_deadline(sa), retransmission.deadline(sa), maintenance.deadline(sa))
    times = [time for time in deadlines if time is not None]
    timers.arm(sa, min(times, default=None))
