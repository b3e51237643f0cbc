"""Maps the engine's events to sessions, handshakes and counters."""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from warren_ikev2 import events as ev
from warren_ikev2.addresses import Path
from warren_ikev2.aio.metrics import Metrics
from warren_ikev2.aio.session import Session, Transport
from warren_ikev2.children import ChildSa
from warren_ikev2.engine import Engine
from warren_ikev2.errors import (
    AuthenticationError,
    CommandError,
    IkeError,
    PeerNotRespondingError,
    PeerRedirectError,
    SessionClosedError,
    error_of_notify,
)
from warren_ikev2.events import DeleteReason, SessionId


class PendingHandshake:
    """A handshake in progress; `done` yields the session or raises the error."""

    def __init__(self, *, childless: bool) -> None:
        self.childless = childless
        self.done: asyncio.Future[Session] = asyncio.get_running_loop().create_future()

    def fail(self, error: IkeError) -> None:
        """Raise an error from `done`."""
        if not self.done.done():
            self.done.set_exception(error)

    def succeed(self, session: Session) -> None:
        """Yield the session from `done`."""
        if not self.done.done():
            self.done.set_result(session)


class Clock(Protocol):
    """The event loop's clock."""

    def time(self) -> float:
        """Seconds."""
        ...


MakeSession = Callable[[Transport, SessionId, ev.IkeSaEstablished, int], Session]


class Dispatcher:
    """The sessions of an endpoint. `handle` takes each event of the engine once, in order."""

    def __init__(
        self,
        engine: Engine,
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
        self._engine = engine
        self._transport = transport
        self._metrics = metrics
        self._clock = clock
        self._path_mtu = path_mtu
        self._make_session = make_session
        self._handshakes: dict[SessionId, PendingHandshake] = {}
        self._announced: set[SessionId] = set()
        self._reauthenticating: dict[SessionId, Session] = {}
        self._rekeying: dict[SessionId, set[int]] = {}

    def handle(self, event: ev.Event) -> None:
        """Handle an event; those that concern no session are only logged."""
        handler = _HANDLERS.get(type(event))
        if handler is not None:
            handler(self, event)

    def initiate(self, connection: str, path: Path, *, childless: bool) -> PendingHandshake:
        """Begin a handshake."""
        handshake = PendingHandshake(childless=childless)
        self._handshakes[self._engine.initiate(connection, path, self._clock.time())] = handshake
        return handshake

    def abandon(self, handshake: PendingHandshake) -> None:
        """End a handshake whose caller no longer waits."""
        for session_id in [number for number, known in self._handshakes.items() if known is handshake]:
            del self._handshakes[session_id]
            self._delete(session_id)

    def rekey(self, session: Session, spi_in: int | None) -> None:
        """Rekey the IKE_SA and then its CHILD_SAs, or one CHILD_SA. `CommandError` if the state does not allow it."""
        if spi_in is None:
            self._engine.rekey_ike(session.id, self._clock.time())
            self._rekeying[session.id] = set()
        else:
            self._engine.rekey_child(session.id, spi_in, self._clock.time())
            self._rekeying.setdefault(session.id, set()).add(spi_in)

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
        for handshake in self._handshakes.values():
            handshake.fail(reason)
        self.sessions.clear()
        self.by_spi.clear()

    # ---- events

    def _ike_established(self, event: ev.IkeSaEstablished) -> None:
        self._metrics.ike_handshakes_total += 1
        session = self._reauthenticating.pop(event.session, None)
        if session is not None:
            old = session.id
            session.adopt(event.session, event)
            del self.sessions[old]
            self._delete(old)
        else:
            session = self._make_session(self._transport, event.session, event, self._path_mtu)
        self.sessions[event.session] = session
        handshake = self._handshakes.get(event.session)
        if handshake is not None and handshake.childless:
            self._ready(session)

    def _ike_rekeyed(self, event: ev.IkeSaRekeyed) -> None:
        self._metrics.ike_sa_rekeyed += 1
        session = self.sessions.get(event.session)
        if session is None:
            return
        session.record_ike_rekey()
        waiting = self._rekeying.get(event.session)
        if waiting is None or waiting:
            return
        waiting.update(session.children)
        for spi_in in list(waiting):
            self._rekey_child(event.session, spi_in)
        self._rekey_progress(session, 0)

    def _ike_deleted(self, event: ev.IkeSaDeleted) -> None:
        self._reauthenticating.pop(event.session, None)
        self._rekeying.pop(event.session, None)
        self._announced.discard(event.session)
        reason = SessionClosedError(f"the IKE_SA of {event.connection} ended: {event.reason.value}")
        if event.reason is DeleteReason.PEER_DEAD:
            reason = SessionClosedError(f"the peer of {event.connection} is dead: it did not respond")
        self._fail(event.session, reason)
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
            self._install(session, event.new, None if event.initiated else event.old.spi_in)

    def _child_deleted(self, event: ev.ChildSaDeleted) -> None:
        session = self.by_spi.get(event.child.spi_in.to_bytes(4, "big"))
        if session is not None:
            session.remove(event.child, self._clock.time())
            self.lingering.add(session)
            self._rekey_progress(session, event.child.spi_in)

    def _child_failed(self, event: ev.ChildSaFailed) -> None:
        error = error_of_notify(event.notify, event.reason)
        self._fail(event.session, error)
        session = self.sessions.get(event.session)
        if session is not None and self._rekeying.pop(event.session, None) is not None:
            session.mark_rekeyed(error)

    def _address_changed(self, event: ev.AddressChanged) -> None:
        session = self.sessions.get(event.session)
        if session is not None:
            session.move(event.new_path, event.children)

    def _authentication_failed(self, event: ev.AuthenticationFailed) -> None:
        self._metrics.ike_handshake_failures += 1
        self._fail(event.session, AuthenticationError(event.reason))

    def _handshake_failed(self, event: ev.HandshakeFailed) -> None:
        self._metrics.ike_handshake_failures += 1
        silent = event.notify is None
        self._fail(
            event.session,
            PeerNotRespondingError(event.reason) if silent else error_of_notify(event.notify, event.reason),
        )

    def _unresponsive(self, event: ev.PeerUnresponsive) -> None:
        self._metrics.dpd_timeout += 1
        self._fail(event.session, PeerNotRespondingError(f"no answer over {event.path}"))

    def _redirected(self, event: ev.PeerRedirected) -> None:
        self._fail(event.session, PeerRedirectError(event.gateway))

    def _reauthentication_due(self, event: ev.ReauthenticationDue) -> None:
        session = self.sessions.get(event.session)
        if session is not None:
            successor = self._engine.initiate(event.connection, session.path, self._clock.time())
            self._reauthenticating[successor] = session

    # ---- helpers

    def _install(self, session: Session, child: ChildSa, waits_for: int | None = None) -> None:
        session.install(child, waits_for)
        self.by_spi[child.spi_in.to_bytes(4, "big")] = session

    def _ready(self, session: Session) -> None:
        handshake = self._handshakes.pop(session.id, None)
        if handshake is not None:
            handshake.succeed(session)
        elif session.info.role is ev.SessionRole.RESPONDER and session.id not in self._announced and self.on_session:
            self._announced.add(session.id)
            self.on_session(session)

    def _fail(self, session_id: SessionId, error: IkeError) -> None:
        handshake = self._handshakes.pop(session_id, None)
        if handshake is not None:
            handshake.fail(error)
            self._delete(session_id)

    def _rekey_progress(self, session: Session, old_spi: int) -> None:
        waiting = self._rekeying.get(session.id)
        if waiting is not None:
            waiting.discard(old_spi)
            if not waiting:
                del self._rekeying[session.id]
                session.mark_rekeyed()

    def _rekey_child(self, session_id: SessionId, spi_in: int) -> None:
        self._try(lambda now: self._engine.rekey_child(session_id, spi_in, now))

    def _delete(self, session_id: SessionId) -> None:
        self._try(lambda now: self._engine.delete(session_id, now))

    def _try(self, command: Callable[[float], None]) -> None:
        """Run a command whose SA may have ended; its end is reported by an event of its own."""
        try:
            command(self._clock.time())
        except CommandError:
            return


_HANDLERS: dict[type[ev.Event], Callable[[Dispatcher, Any], None]] = {
    ev.IkeSaEstablished: Dispatcher._ike_established,
    ev.IkeSaRekeyed: Dispatcher._ike_rekeyed,
    ev.IkeSaDeleted: Dispatcher._ike_deleted,
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
