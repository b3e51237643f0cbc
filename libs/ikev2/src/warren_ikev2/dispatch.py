"""Received messages of known IKE_SAs: windows first, then integrity, then the table (RFC 7296, 2.2, 2.3 and 2.21).

    request  fresh     open it, look up (state, exchange), respond, store the response
             repeated  send the stored response again, if the message is authentic
             pending   drop: the response waits for a verdict on a login
             outside   drop
    response id = one of our requests' and of its exchange: open it, pass it to the task; else drop

A message that fails its integrity check is dropped and changes no state. One that is authentic but invalid is answered by an
error notify; INVALID_SYNTAX ends the IKE_SA (2.21.3).
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from warren_ikev2.addresses import Path
from warren_ikev2.constants import FIRST_STATUS_NOTIFY, ExchangeType, NotifyType, Protocol, notify_name
from warren_ikev2.errors import (
    IkeError,
    IntegrityError,
    InvalidKePayloadError,
    MalformedMessageError,
    ProtocolError,
    TemporaryFailureError,
    UnsupportedCriticalPayloadError,
)
from warren_ikev2.events import DatagramDropped, DeleteReason, HandshakeFailed, HintReceived, RequestRefused, State
from warren_ikev2.exchanges import (
    create_child_sa,
    followup,
    ike_auth_responder,
    ike_sa_init,
    informational,
    intermediate,
    rekey_ike,
)
from warren_ikev2.exchanges.established import fail_handshake
from warren_ikev2.exchanges.informational import Liveness
from warren_ikev2.exchanges.mobike import follow_probe, move
from warren_ikev2.exchanges.reply import Reply, refuse
from warren_ikev2.ike_sa import IkeSa
from warren_ikev2.window import Place
from warren_ikev2.wire.message import Message, Payloads, parse_chain
from warren_ikev2.wire.payloads import DeletePayload, NotifyPayload, SaPayload

Handler = Callable[[IkeSa, Payloads, Path, float], Reply]


def _create_child_sa(sa: IkeSa, payloads: Payloads, path: Path, now: float) -> Reply:
    request = payloads.first(SaPayload)
    if request is not None and any(proposal.protocol == Protocol.IKE for proposal in request.proposals):
        return rekey_ike.respond(sa, payloads, now)
    if (
        any(isinstance(task, rekey_ike.RekeyIke) for task in sa.sending.tasks) or sa.successor is not None
    ):  # RFC 7296, 2.25.2
        raise TemporaryFailureError
    return create_child_sa.respond(sa, payloads, now)


def _followup(sa: IkeSa, payloads: Payloads, path: Path, now: float) -> Reply:
    reply = followup.respond(sa, payloads, path, now)
    return Reply(reply.payloads, lambda: rekey_ike.activate_successor(sa, now))


def _informational(sa: IkeSa, payloads: Payloads, path: Path, now: float) -> Reply:
    if any(delete.protocol == Protocol.IKE for delete in payloads.all(DeletePayload)):
        rekey_ike.resolve_deletion(sa, now)
    return informational.respond(sa, payloads, path, now)


def _refuse_temporarily(sa: IkeSa, payloads: Payloads, path: Path, now: float) -> Reply:
    """Refuse a request on an IKE_SA that is being replaced or deleted (2.25.2)."""
    return refuse(NotifyType.TEMPORARY_FAILURE)


def _acknowledge_delete(sa: IkeSa, payloads: Payloads, path: Path, now: float) -> Reply:
    """Confirm the deletion of an IKE_SA that has ended here, so that the peer need not retransmit."""
    return Reply()


REQUESTS: Mapping[tuple[State, int], Handler] = MappingProxyType(
    {
        (State.INIT_DONE, ExchangeType.IKE_INTERMEDIATE): intermediate.respond,
        (State.INIT_DONE, ExchangeType.IKE_AUTH): ike_auth_responder.respond,
        (State.EAP, ExchangeType.IKE_AUTH): ike_auth_responder.respond_eap,
        (State.ESTABLISHED, ExchangeType.CREATE_CHILD_SA): _create_child_sa,
        (State.ESTABLISHED, ExchangeType.IKE_FOLLOWUP_KE): _followup,
        (State.ESTABLISHED, ExchangeType.INFORMATIONAL): _informational,
        (State.REKEYED, ExchangeType.CREATE_CHILD_SA): _refuse_temporarily,
        (State.REKEYED, ExchangeType.INFORMATIONAL): informational.respond,
        (State.DELETING, ExchangeType.CREATE_CHILD_SA): _refuse_temporarily,
        (State.DELETING, ExchangeType.INFORMATIONAL): informational.respond,
        (State.CLOSED, ExchangeType.INFORMATIONAL): _acknowledge_delete,
    }
)
"""The requests of the peer that are handled in each state."""

HINT_INTERVAL = 10.0  # seconds without an authentic message until a hint may start a liveness check
_HANDSHAKE = frozenset({State.INIT_DONE, State.EAP})


def receive(sa: IkeSa, message: Message, raw: bytes, path: Path, now: float) -> None:
    """Handle a message with our SPI. Never raises."""
    header = message.header
    if header.from_initiator == sa.initiator:
        _drop(sa, path, "wrong-direction")
    elif message.encrypted is None and sa.state == State.ESTABLISHED:
        _handle_hint(sa, message, path, now)
    elif header.exchange == ExchangeType.IKE_SA_INIT:
        _receive_init(sa, message, raw, path, now)
    elif header.is_response:
        _receive_response(sa, message, path, now)
    else:
        _receive_request(sa, message, path, now)


def _drop(sa: IkeSa, path: Path, reason: str) -> None:
    sa.host.emit(DatagramDropped(path, reason))


def _handle_hint(sa: IkeSa, message: Message, path: Path, now: float) -> None:
    """Handle an unprotected error notify: it proves nothing, but may be a reason for a liveness check (2.21.4)."""
    errors = [notify.notify for notify in message.payloads.errors()]
    if not errors:
        _drop(sa, path, "unprotected")
        return
    sa.host.emit(HintReceived(path, errors[0]))
    if not sa.sending and now - sa.session.last_inbound >= HINT_INTERVAL:
        sa.enqueue(Liveness(), now)


def _receive_init(sa: IkeSa, message: Message, raw: bytes, path: Path, now: float) -> None:
    if sa.state == State.INIT_SENT and message.header.is_response and message.header.message_id == 0:
        ike_sa_init.receive_answer(sa, message, raw, now)
    else:
        _drop(sa, path, "unexpected")


def _open(sa: IkeSa, message: Message, path: Path) -> tuple[int, bytes] | None:
    try:
        return sa.open(message)
    except IntegrityError:
        _drop(sa, path, "integrity")
    except MalformedMessageError:
        _drop(sa, path, "malformed")
    return None


def _receive_response(sa: IkeSa, message: Message, path: Path, now: float) -> None:
    header = message.header
    outstanding = sa.sending.outstanding.get(header.message_id)
    if outstanding is None:
        _drop(sa, path, "window")
        return
    if header.exchange != outstanding.task.exchange:
        _drop(sa, path, "unexpected")
        return
    opened = _open(sa, message, path)
    if opened is None:
        return
    _record_authentic(sa, message, opened, path, now)
    task = sa.answer_arrived(header.message_id)
    try:
        payloads = parse_chain(*opened)
        if task is not None and not outstanding.discarded:
            task.handle(sa, payloads, now)
        if task is not None and outstanding.probed:
            follow_probe(sa, task, path, now)
    except IkeError as error:
        _fail(sa, str(error), now)
    sa.pump(now)
    if not sa.sending:
        sa.deleted_spis.clear()


def _fail(sa: IkeSa, reason: str, now: float) -> None:
    if sa.handshake is not None:
        fail_handshake(sa, None, reason, now)
    else:
        sa.close(DeleteReason.PROTOCOL_ERROR, reason, now)


def _receive_request(sa: IkeSa, message: Message, path: Path, now: float) -> None:
    header = message.header
    place = sa.receiving.place(header.message_id)
    if place == Place.REPEATED:
        _repeat(sa, message, path, now)
        return
    handler = REQUESTS.get((sa.state, header.exchange))
    if place == Place.PENDING:
        _drop(sa, path, "pending")
    elif place == Place.OUTSIDE:
        _drop(sa, path, "window")
    elif handler is None or (sa.state in _HANDSHAKE and sa.initiator):
        _drop(sa, path, "unexpected")
    else:
        opened = _open(sa, message, path)
        if opened is not None:
            _record_authentic(sa, message, opened, path, now)
            _answer(sa, handler, message, opened, path, now)


def _repeat(sa: IkeSa, message: Message, path: Path, now: float) -> None:
    """Only the first fragment of a repeated request is answered (RFC 7383, 2.6.1)."""
    part = message.encrypted
    if part is None or part.number != 1:
        return
    try:
        sa.protection.open(part)
    except (IntegrityError, MalformedMessageError):
        _drop(sa, path, "integrity")
        return
    sa.repeat_response(message.header.message_id, path, now)


def _answer(sa: IkeSa, handler: Handler, message: Message, opened: tuple[int, bytes], path: Path, now: float) -> None:
    sa.answering = message.header.message_id
    text = ""
    try:
        reply = handler(sa, parse_chain(*opened), path, now)
    except InvalidKePayloadError as error:
        reply = refuse(NotifyType.INVALID_KE_PAYLOAD, error.group.to_bytes(2, "big"))
    except UnsupportedCriticalPayloadError as error:
        reply = refuse(NotifyType.UNSUPPORTED_CRITICAL_PAYLOAD, error.data)
    except ProtocolError as error:
        text = str(error)
        _report_broken_handshake(sa, error)
        payloads = refuse(int(error.notify or NotifyType.INVALID_SYNTAX), error.data).payloads
        reply = Reply(payloads, lambda: sa.linger(DeleteReason.PROTOCOL_ERROR, text, now))
    except IkeError as error:
        text = str(error)
        reply = refuse(int(error.notify or NotifyType.INVALID_SYNTAX))
    if reply.deferred:
        sa.receiving.deferred = message.header.message_id
        sa.incomplete.requests.discard(message.header.message_id)
        return
    _report_refusal(sa, message.header.exchange, reply, text)
    sa.respond(ExchangeType(message.header.exchange), message.header.message_id, reply.payloads, path, now)
    if reply.then is not None:
        reply.then()
    sa.pump(now)


def _report_refusal(sa: IkeSa, exchange: int, reply: Reply, reason: str) -> None:
    """A handshake reports its own failure. Another key exchange group is asked for, not refused."""
    if sa.handshake is not None:
        return
    codes = [payload.notify for payload in reply.payloads if isinstance(payload, NotifyPayload)]
    for code in codes:
        if code < FIRST_STATUS_NOTIFY and code != NotifyType.INVALID_KE_PAYLOAD:
            session = sa.session
            name = ExchangeType(exchange).name
            sa.host.emit(RequestRefused(session.id, session.connection.name, name, notify_name(code), reason))


def _report_broken_handshake(sa: IkeSa, error: ProtocolError) -> None:
    if sa.handshake is not None:
        session, code = sa.session, int(error.notify or NotifyType.INVALID_SYNTAX)
        sa.host.emit(HandshakeFailed(session.id, session.connection.name, session.path, code, str(error)))


def _record_authentic(sa: IkeSa, message: Message, opened: tuple[int, bytes], path: Path, now: float) -> None:
    """Record a new, authentic message: it proves liveness and shows the path of the peer."""
    session = sa.session
    session.last_inbound = now
    if sa.handshake is not None:
        if message.header.exchange == ExchangeType.IKE_INTERMEDIATE:
            suite, keys = sa.protection.suite_and_keys()
            sa.handshake.add_intermediate(suite.prf, keys, message.header, *opened)
        if not sa.initiator:
            session.path = path
    elif session.peer.mobike:
        return  # RFC 4555, 3.8: then only UPDATE_SA_ADDRESSES changes the path
    elif path != session.path and session.nat.remote and path.local == session.path.local:
        move(sa, path)  # a NAT's new mapping (2.23)
