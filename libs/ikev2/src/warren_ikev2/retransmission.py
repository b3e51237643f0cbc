"""The timers of an IKE_SA's own messages: retransmission, delayed tasks, expiry (RFC 7296, 2.1 and 2.4; RFC 4555, 3.10)."""

from warren_ikev2.events import DeleteReason, HandshakeFailed, PeerUnresponsive, SessionRole, State
from warren_ikev2.ike_sa import IkeSa, Task
from warren_ikev2.window import Outstanding

PROBE_AFTER = 2  # transmissions of a request over the current path before MOBIKE tries every path


def deadline(sa: IkeSa) -> float | None:
    """Return the earliest time at which `handle_timer` has something to do."""
    times = [sa.expires_at]
    if sa.state != State.CLOSED:
        times += [until for until, _ in sa.delayed]
        times += [outstanding.resend_at for outstanding in sa.sending]
    return min((time for time in times if time is not None), default=None)


def handle_timer(sa: IkeSa, now: float) -> None:
    """Enqueue the delayed tasks that are due, retransmit requests, and remove an expired IKE_SA."""
    if sa.expires_at is not None and sa.expires_at <= now:
        _expire(sa, now)
        return
    due = [task for until, task in sa.delayed if until <= now]
    sa.delayed = [(until, task) for until, task in sa.delayed if until > now]
    for task in due:
        sa.enqueue(task, now)
    policy = sa.session.connection.retransmission
    for outstanding in [outstanding for outstanding in sa.sending if outstanding.resend_at <= now]:
        if outstanding.sent > policy.tries:
            _give_up(sa, now)
            return
        outstanding.sent += 1
        outstanding.resend_at = now + policy.delay(outstanding.sent)
        _retransmit(sa, outstanding, now)


def _retransmit(sa: IkeSa, outstanding: Outstanding[Task], now: float) -> None:
    """Send the request over the current path or, with MOBIKE and without an answer, over every path (RFC 4555, 3.10)."""
    session = sa.session
    paths = [session.path]
    if _is_probing(sa, outstanding):
        paths = session.mobility.paths(session.path, sa.host.configuration.remote_natt_port) or paths
        outstanding.probed = outstanding.probed or paths != [session.path]
    for path in paths:
        sa.transmit(outstanding.messages, path, now)


def _is_probing(sa: IkeSa, outstanding: Outstanding[Task]) -> bool:
    session = sa.session
    if not session.peer.mobike or sa.state != State.ESTABLISHED:
        return False
    return session.mobility.searching or (session.role == SessionRole.INITIATOR and outstanding.sent > PROBE_AFTER)


def _expire(sa: IkeSa, now: float) -> None:
    if sa.state == State.CLOSED:
        sa.host.remove(sa)
    elif sa.handshake is not None:
        _give_up(sa, now)
    else:
        sa.close(DeleteReason.EXPIRED, "expired", now)


def _give_up(sa: IkeSa, now: float) -> None:
    session = sa.session
    if sa.handshake is not None:
        code, reason = sa.handshake.init_hint or (None, "no answer")
        sa.host.emit(HandshakeFailed(session.id, session.connection.name, session.path, code, reason))
    elif session.ike_sa is sa:
        sa.host.emit(PeerUnresponsive(session.id, session.path))
    sa.close(DeleteReason.PEER_DEAD, "no answer", now)
