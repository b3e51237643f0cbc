"""Maps the engine's events to sessions and counters.

Who waits for a handshake is in `handshakes`, who waits for a rekeying in `rekeyings`.
"""

from collections.abc import Callable
from typing import Any

from warren_ikev2 import events as ev
from warren_ikev2.aio.handshakes import Handshakes
from warren_ikev2.aio.metrics import Metrics
from warren_ikev2.aio.rekeyings import Rekeyings
from warren_ikev2.aio.session import Session, Transport
from warren_ikev2.aio.timed_commands import Clock, TimedCommands
from warren_ikev2.children import ChildSa
from warren_ikev2.engine import EngineCommands
from warren_ikev2.errors import (
    AuthenticationError,
    IkeError,
    PeerDeadError,
    PeerNotRespondingError,
    PeerRedirectError,
    SessionClosedError,
    SessionEndedByPeerError,
    SessionReplacedError,
    error_of_notify,
)
from warren_ikev2.events import DeleteReason, SessionId

MakeSession = Callable[[Transport, SessionId, ev.IkeSaEstablished, int], Session]


class Dispatcher:
    """The sessions of an endpoint. `handle` takes each event of the engine once, in order."""

    def __init__(
        self,
        commands: EngineCommands,
        transport: Transport,
        metrics: Metrics,
        clock: Clock,
        path_mtu: int,
        make_session: MakeSession = Session,
    ) -> None:
        self.sessions: dict[SessionId, Session] = {}
        self.by_spi: dict[bytes, Session] = {}
        self.lingering: set[Session] = set()
        """Sessions with replaced inbound SAs."""
        self.on_session: Callable[[Session], None] | None = None
        """Called for each session that a peer began, with its first CHILD_SA, or at once if it has none."""
        self._commands = TimedCommands(commands, clock)
        self.handshakes = Handshakes(self._commands)
        self.rekeyings = Rekeyings(self._commands)
        self._transport = transport
        self._metrics = metrics
        self._clock = clock
        self._path_mtu = path_mtu
        self._make_session = make_session
        self._announced: set[SessionId] = set()
        self._reauthenticating: dict[SessionId, Session] = {}

    def handle(self, event: ev.Event) -> None:
        """Handle an event; those that concern no session are only logged."""
        handler = _HANDLERS.get(type(event))
        if handler is not None:
            handler(self, event)

    def tick(self, now: float) -> None:
        """Remove replaced inbound SAs whose time is over."""
        for session in list(self.lingering):
            for key in session.table.handle_timer(now):
                self.by_spi.pop(key, None)
            if session.table.get_timer() is None:
                self.lingering.discard(session)

    def end_all(self, reason: IkeError) -> None:
        """End all sessions and handshakes."""
        for session in list(self.sessions.values()):
            session.mark_closed(reason)
        self.handshakes.fail_all(reason)
        self.sessions.clear()
        self.by_spi.clear()

    # ---- events

    def _state_changed(self, event: ev.StateChanged) -> None:
        if event.new not in (ev.State.CREATED, ev.State.INIT_SENT):
            self.handshakes.mark_answered(event.session)

    def _ike_established(self, event: ev.IkeSaEstablished) -> None:
        self._metrics.ike_handshakes_total += 1
        session = self._reauthenticating.pop(event.session, None)
        if session is not None:
            old = session.id
            session.adopt(event.session, event)
            del self.sessions[old]
            self._commands.try_delete(old)
        else:
            session = self._make_session(self._transport, event.session, event, self._path_mtu)
        self.sessions[event.session] = session
        if self.handshakes.is_childless(event.session):
            self._ready(session)

    def _ike_rekeyed(self, event: ev.IkeSaRekeyed) -> None:
        self._metrics.ike_sa_rekeyed += 1
        session = self.sessions.get(event.session)
        if session is not None:
            session.record_ike_rekey(event.seconds)
            self.rekeyings.ike_rekeyed(session)

    def _ike_deleted(self, event: ev.IkeSaDeleted) -> None:
        self._reauthenticating.pop(event.session, None)
        self.rekeyings.forget(event.session)
        self._announced.discard(event.session)
        reason = SessionClosedError(f"the IKE_SA of {event.connection} ended: {event.reason.value}")
        if event.reason is DeleteReason.PEER_DEAD:
            reason = PeerDeadError(f"the peer of {event.connection} is dead: it did not respond")
        elif event.reason is DeleteReason.PEER:
            reason = SessionEndedByPeerError(f"the peer of {event.connection} has ended the session")
        elif event.reason is DeleteReason.PEER_REPLACED:
            reason = SessionReplacedError(
                f"another login of the same user has replaced the session of {event.connection}"
            )
        self.handshakes.fail(event.session, reason)
        session = self.sessions.pop(event.session, None)
        if session is not None:
            for key in [key for key, owner in self.by_spi.items() if owner is session]:
                del self.by_spi[key]
            self.lingering.discard(session)
            session.mark_closed(reason)

    def _child_established(self, event: ev.ChildSaEstablished) -> None:
        session = self.sessions.get(event.session)
        if session is not None:
            self._install(session, event.child)
            self._ready(session)

    def _child_rekeyed(self, event: ev.ChildSaRekeyed) -> None:
        session = self.sessions.get(event.session)
        if session is not None:
            session.rekey_seconds = event.seconds
            self._install(session, event.new, None if event.initiated else event.old.spi_in)

    def _child_deleted(self, event: ev.ChildSaDeleted) -> None:
        session = self.by_spi.get(event.child.spi_in.to_bytes(4, "big"))
        if session is not None:
            session.remove(event.child, self._clock.time())
            self.lingering.add(session)
            self.rekeyings.child_deleted(session, event.child.spi_in)

    def _child_failed(self, event: ev.ChildSaFailed) -> None:
        error = error_of_notify(event.notify, event.reason)
        self.handshakes.fail(event.session, error)
        session = self.sessions.get(event.session)
        if session is not None:
            self.rekeyings.fail(session, error)

    def _address_changed(self, event: ev.AddressChanged) -> None:
        session = self.sessions.get(event.session)
        if session is not None:
            session.move(event.new_path, event.children)

    def _authentication_failed(self, event: ev.AuthenticationFailed) -> None:
        self._metrics.ike_handshake_failures += 1
        error = AuthenticationError(event.reason, by_peer=event.by_peer, peer_proven=event.peer_proven)
        self.handshakes.fail(event.session, error)

    def _handshake_failed(self, event: ev.HandshakeFailed) -> None:
        self._metrics.ike_handshake_failures += 1
        silent = event.notify is None
        self.handshakes.fail(
            event.session,
            PeerNotRespondingError(event.reason) if silent else error_of_notify(event.notify, event.reason),
        )

    def _request_refused(self, event: ev.RequestRefused) -> None:
        self._metrics.ike_requests_refused += 1

    def _unresponsive(self, event: ev.PeerUnresponsive) -> None:
        self._metrics.dpd_timeout += 1
        message = f" to {handshake.unanswered}" if (handshake := self.handshakes.of(event.session)) else ""
        self.handshakes.fail(event.session, PeerNotRespondingError(f"no answer{message} over {event.path}"))

    def _redirected(self, event: ev.PeerRedirected) -> None:
        self.handshakes.fail(event.session, PeerRedirectError(event.gateway))

    def _reauthentication_due(self, event: ev.ReauthenticationDue) -> None:
        session = self.sessions.get(event.session)
        if session is not None:
            successor = self._commands.initiate(event.connection, session.path)
            self._reauthenticating[successor] = session

    # ---- helpers

    def _install(self, session: Session, child: ChildSa, waits_for: int | None = None) -> None:
        session.install(child, waits_for)
        self.by_spi[child.spi_in.to_bytes(4, "big")] = session

    def _ready(self, session: Session) -> None:
        """Hand a session to the one who waits for it: a handshake of this side, or the server that accepts."""
        if self.handshakes.succeed(session) or session.info.role is not ev.SessionRole.RESPONDER:
            return
        if session.id not in self._announced and self.on_session is not None:
            self._announced.add(session.id)
            self.on_session(session)


_HANDLERS: dict[type[ev.Event], Callable[[Dispatcher, Any], None]] = {
    ev.StateChanged: Dispatcher._state_changed,
    ev.IkeSaEstablished: Dispatcher._ike_established,
    ev.IkeSaRekeyed: Dispatcher._ike_rekeyed,
    ev.IkeSaDeleted: Dispatcher._ike_deleted,
    ev.RequestRefused: Dispatcher._request_refused,
    ev.ChildSaEstablished: Dispatcher._child_established,
    ev.ChildSaRekeyed: Dispatcher._child_rekeyed,
    ev.ChildSaDeleted: Dispatcher._child_deleted,
    ev.ChildSaFailed: Dispatcher._child_failed,
    ev.AddressChanged: Dispatcher._address_changed,
    ev.AuthenticationFailed: Dispatcher._authentication_failed,
    ev.HandshakeFailed: Dispatcher._handshake_failed,
    ev.PeerUnresponsive: Dispatcher._unresponsive,
    ev.PeerRedirected: Dispatcher._redirected,
    ev.ReauthenticationDue: Dispatcher._reauthentication_due,
}
