"""IKE_SA_INIT (RFC 7296, 1.2): keys for an IKE_SA between unauthenticated peers. Nothing is authenticated yet.

Initiator: cookies and INVALID_KE_PAYLOAD are followed a limited number of times; an error notify is only a hint, and a valid
response may still arrive for a while (2.21.1). Responder: one request, one response; `admission` has demanded a cookie before.
"""

from collections.abc import Sequence
from typing import ClassVar

from warren_ikev2.algorithms import ADDITIONAL_KE_TYPES
from warren_ikev2.auth.proofs import build_certificate_requests
from warren_ikev2.configuration import ConnectionConfiguration
from warren_ikev2.constants import ExchangeType, KeGroup, NotifyType, Protocol, TransformType, notify_name
from warren_ikev2.crypto import groups
from warren_ikev2.crypto.keys import Nonces, derive_ike_keys, initial_seed
from warren_ikev2.crypto.signatures import OUR_HASHES
from warren_ikev2.errors import (
    IkeError,
    InvalidKePayloadError,
    NoProposalChosenError,
    ProtocolError,
)
from warren_ikev2.events import DeleteReason, HintReceived, PeerRedirected, State
from warren_ikev2.exchanges.ike_auth_initiator import begin_authentication
from warren_ikev2.exchanges.nat import build_detection, detect, floated
from warren_ikev2.exchanges.negotiation import confirm, confirm_group, number, select
from warren_ikev2.exchanges.redirect import parse_gateway
from warren_ikev2.handshake import Handshake
from warren_ikev2.ike_sa import IkeSa
from warren_ikev2.session import PeerFeatures
from warren_ikev2.suites import Proposal, ike_suite
from warren_ikev2.wire.message import Message, Payloads
from warren_ikev2.wire.payloads import KePayload, NoncePayload, NotifyPayload, Payload, SaPayload

MAX_ATTEMPTS = 5  # IKE_SA_INIT requests of one IKE_SA: cookie, group, cookie again, and two more
HINT_PATIENCE = 2.0  # seconds to wait for a valid response after an unauthenticated error
MAX_COOKIE = 64  # RFC 7296, 2.6
NONCE_SIZE = 32  # at least half the PRF's key (2.10); SHA-512's is 64


class IkeSaInit:
    """Our request."""

    exchange: ClassVar[ExchangeType] = ExchangeType.IKE_SA_INIT
    exclusive: ClassVar[bool] = True

    def build(self, sa: IkeSa, now: float) -> Sequence[Payload]:
        """See Task."""
        handshake, connection = _handshake(sa), sa.session.connection
        handshake.attempts += 1
        if handshake.exchange is None:
            handshake.group = handshake.group or _first_group(connection)
            handshake.exchange = groups.start(handshake.group)
        if not handshake.nonces.initiator:
            handshake.nonces = Nonces(sa.host.random_bytes(NONCE_SIZE), b"")
        sa.transition(State.INIT_SENT, "IKE_SA_INIT request")
        cookie: list[Payload] = [NotifyPayload(NotifyType.COOKIE, handshake.cookie)] if handshake.cookie else []
        return [
            *cookie,
            SaPayload(number(connection.ike_proposals)),
            KePayload(handshake.group, handshake.exchange.public),
            NoncePayload(handshake.nonces.initiator),
            *_announce(sa, connection),
        ]

    def handle(self, sa: IkeSa, payloads: Payloads, now: float) -> None:
        """The response is handled by receive_answer, which needs its raw bytes."""


def receive_answer(sa: IkeSa, message: Message, raw: bytes, now: float) -> None:
    """Handle the response to our request, which may be forged."""
    handshake = _handshake(sa)
    payloads = message.payloads
    try:
        if payloads.first(SaPayload) is None:
            _follow_notify(sa, handshake, payloads, now)
        else:
            _accept(sa, handshake, message, raw, now)
    except IkeError as error:
        _handle_hint(sa, handshake, int(error.notify or 0), str(error), now)


def confirm_answer(message: Message, offered: Sequence[Proposal], group: int) -> Proposal:
    """Check and return the responder's choice. `group` is that of our KE payload.

    MalformedMessageError: payloads are missing. NoProposalChosenError, ProtocolError: the choice was not offered.
    """
    payloads = message.payloads
    chosen = confirm(payloads.require(SaPayload).proposals, offered)
    answer = payloads.require(KePayload)
    payloads.require(NoncePayload)
    if answer.group != group or [transform.id for transform in chosen.of_type(TransformType.KE)] != [group]:
        raise ProtocolError("the key exchange group of the response is not the one chosen")
    if message.header.spi_r == bytes(8):
        raise ProtocolError("the SPI of the peer must not be zero")
    return chosen


def respond(sa: IkeSa, handshake: Handshake, message: Message, raw: bytes, now: float) -> None:
    """Respond to a request and derive the keys. NegotiationError, ProtocolError: the error to respond with."""
    payloads = message.payloads
    request = payloads.require(SaPayload)
    exchange_data, nonce = payloads.require(KePayload), payloads.require(NoncePayload)
    connection, chosen = _choose(handshake, request.proposals, payloads)
    suite = ike_suite(chosen)
    if exchange_data.group != suite.group:
        raise InvalidKePayloadError(suite.group)
    public, shared = groups.respond(suite.group, exchange_data.data)
    session = sa.session
    session.connection = connection
    session.peer = _features(payloads, connection)
    if connection.allow_nats:
        session.nat = detect(payloads, sa.spi_i, bytes(8), session.path) or session.nat
    handshake.nonces = Nonces(nonce.data, sa.host.random_bytes(NONCE_SIZE))
    handshake.ppk = payloads.notify(NotifyType.USE_PPK) is not None and connection.ppk is not None
    handshake.pending_groups = list(suite.additional_groups)
    handshake.init_request = raw
    answer = [
        SaPayload((chosen.with_spi(b""),)),
        KePayload(suite.group, public),
        NoncePayload(handshake.nonces.responder),
        *_announce_answer(sa, connection, payloads, handshake),
    ]
    sa.handshake = handshake
    sa.respond(ExchangeType.IKE_SA_INIT, 0, answer, session.path, now)
    handshake.init_response = sa.receiving.answers[0][0]
    seed = initial_seed(suite.prf, handshake.nonces, shared)
    sa.use_keys(suite, derive_ike_keys(suite, seed, handshake.nonces, sa.spi_i, sa.spi_r))
    sa.expires_at = now + sa.host.configuration.limits.half_open_seconds
    sa.transition(State.INIT_DONE, "IKE_SA_INIT answered")


def _handshake(sa: IkeSa) -> Handshake:
    if sa.handshake is None:
        raise ProtocolError("the IKE_SA is established already")
    return sa.handshake


def _first_group(connection: ConnectionConfiguration) -> KeGroup:
    offered = [group for proposal in connection.ike_proposals for group in proposal.groups]
    return offered[0]


def _announce(sa: IkeSa, connection: ConnectionConfiguration) -> list[Payload]:
    found: list[Payload] = []
    if connection.allow_nats:
        fake_source = connection.force_udp_encapsulation
        found += build_detection(sa.spi_i, sa.spi_r, sa.session.path, sa.host.random_bytes, fake_source=fake_source)
    if connection.fragment_size:
        found.append(NotifyPayload(NotifyType.IKEV2_FRAGMENTATION_SUPPORTED))
    hashes = b"".join(int(number).to_bytes(2, "big") for number in OUR_HASHES)
    found.append(NotifyPayload(NotifyType.SIGNATURE_HASH_ALGORITHMS, hashes))
    if sa.initiator:
        found += _announce_as_initiator(sa, connection)
    return found


def _announce_as_initiator(sa: IkeSa, connection: ConnectionConfiguration) -> list[Payload]:
    found: list[Payload] = []
    handshake = _handshake(sa)
    if handshake.redirected_from:
        found.append(NotifyPayload(NotifyType.REDIRECTED_FROM, handshake.redirected_from))
    elif connection.follow_redirects:
        found.append(NotifyPayload(NotifyType.REDIRECT_SUPPORTED))
    if connection.ppk is not None:
        found.append(NotifyPayload(NotifyType.USE_PPK))
    if any(t.type in ADDITIONAL_KE_TYPES for p in connection.ike_proposals for t in p.transforms):
        found.append(NotifyPayload(NotifyType.INTERMEDIATE_EXCHANGE_SUPPORTED))
    return found


def _announce_answer(
    sa: IkeSa, connection: ConnectionConfiguration, request: Payloads, handshake: Handshake
) -> list[Payload]:
    asked = {notify.notify for notify in request.all(NotifyPayload)}
    unasked = {NotifyType.IKEV2_FRAGMENTATION_SUPPORTED, NotifyType.SIGNATURE_HASH_ALGORITHMS} - asked
    found = [p for p in _announce(sa, connection) if not (isinstance(p, NotifyPayload) and p.notify in unasked)]
    found.append(NotifyPayload(NotifyType.CHILDLESS_IKEV2_SUPPORTED))
    if handshake.ppk:
        found.append(NotifyPayload(NotifyType.USE_PPK))
    if NotifyType.INTERMEDIATE_EXCHANGE_SUPPORTED in asked:
        found.append(NotifyPayload(NotifyType.INTERMEDIATE_EXCHANGE_SUPPORTED))
    trusts = {id(c.remote_auth): c.remote_auth for c in handshake.candidates if c.send_certificate_requests}.values()
    return found + list(dict.fromkeys(request for trust in trusts for request in build_certificate_requests(trust)))


def _features(payloads: Payloads, connection: ConnectionConfiguration) -> PeerFeatures:
    notifies = {notify.notify for notify in payloads.all(NotifyPayload)}
    hashes = payloads.notify(NotifyType.SIGNATURE_HASH_ALGORITHMS)
    data = hashes.data if hashes is not None else b""
    return PeerFeatures(
        fragmentation=NotifyType.IKEV2_FRAGMENTATION_SUPPORTED in notifies and bool(connection.fragment_size),
        childless=NotifyType.CHILDLESS_IKEV2_SUPPORTED in notifies,
        redirect=NotifyType.REDIRECT_SUPPORTED in notifies or NotifyType.REDIRECTED_FROM in notifies,
        hashes=frozenset(int.from_bytes(data[offset : offset + 2], "big") for offset in range(0, len(data) - 1, 2)),
    )


def _choose(
    handshake: Handshake, offered: Sequence[Proposal], payloads: Payloads
) -> tuple[ConnectionConfiguration, Proposal]:
    """The first connection with common algorithms; the others that allow the same choice remain candidates."""
    if payloads.notify(NotifyType.INTERMEDIATE_EXCHANGE_SUPPORTED) is None:
        offered = [_without_additional(proposal) for proposal in offered]
    reason = NoProposalChosenError("no connection is configured for this peer")
    # a server's connections, one for each of its users, share their proposals: each kind is looked at once
    kinds = {id(connection.ike_proposals): connection.ike_proposals for connection in handshake.candidates}
    for kind, proposals in kinds.items():
        try:
            chosen = select(offered, proposals, Protocol.IKE)
        except NoProposalChosenError as error:
            reason = error
            continue
        connection = next(c for c in handshake.candidates if id(c.ike_proposals) == kind)
        suitable = {number for number, others in kinds.items() if _allows(others, chosen)}
        handshake.candidates = tuple(c for c in handshake.candidates if id(c.ike_proposals) in suitable)
        return connection, chosen
    raise reason


def _without_additional(proposal: Proposal) -> Proposal:
    kept = tuple(t for t in proposal.transforms if t.type not in ADDITIONAL_KE_TYPES)
    return Proposal(proposal.protocol, kept, proposal.number, proposal.spi)


def _allows(proposals: Sequence[Proposal], chosen: Proposal) -> bool:
    try:
        select([chosen], proposals, Protocol.IKE)
    except NoProposalChosenError:
        return False
    return True


def _follow_notify(sa: IkeSa, handshake: Handshake, payloads: Payloads, now: float) -> None:
    cookie = payloads.notify(NotifyType.COOKIE)
    wrong_group = payloads.notify(NotifyType.INVALID_KE_PAYLOAD)
    redirect = payloads.notify(NotifyType.REDIRECT)
    if cookie is not None and 1 <= len(cookie.data) <= MAX_COOKIE:
        handshake.cookie = cookie.data
        _retry(sa, handshake, now)
    elif wrong_group is not None:
        handshake.group = KeGroup(confirm_group(wrong_group.data, sa.session.connection.ike_proposals, handshake.group))
        handshake.exchange = None
        _retry(sa, handshake, now)
    elif redirect is not None and sa.session.connection.follow_redirects:
        _redirected(sa, handshake, redirect.data, now)
    else:
        errors = payloads.errors()
        code = errors[0].notify if errors else 0
        _handle_hint(sa, handshake, code, f"the peer answers with {notify_name(code)}", now)


def _retry(sa: IkeSa, handshake: Handshake, now: float) -> None:
    if handshake.attempts >= MAX_ATTEMPTS:
        raise ProtocolError("the peer demands too many IKE_SA_INIT requests")
    sa.expires_at = None
    handshake.init_hint = None
    sa.restart(IkeSaInit(), now)


def _redirected(sa: IkeSa, handshake: Handshake, data: bytes, now: float) -> None:
    gateway, nonce = parse_gateway(data)
    if nonce != handshake.nonces.initiator:  # RFC 5685, 3
        raise ProtocolError("the nonce of the redirection is not ours")
    sa.host.emit(PeerRedirected(sa.session.id, sa.session.connection.name, gateway))
    sa.close(DeleteReason.REDIRECTED, "redirected", now)


def _handle_hint(sa: IkeSa, handshake: Handshake, code: int, reason: str, now: float) -> None:
    sa.host.emit(HintReceived(sa.session.path, code))
    if handshake.init_hint is None:
        handshake.init_hint = (code, reason)
        sa.expires_at = now + HINT_PATIENCE


def _accept(sa: IkeSa, handshake: Handshake, message: Message, raw: bytes, now: float) -> None:
    payloads, connection = message.payloads, sa.session.connection
    suite = ike_suite(confirm_answer(message, number(connection.ike_proposals), handshake.group))
    if handshake.exchange is None:
        raise ProtocolError("a response without a key exchange of ours")
    answer, nonce = payloads.require(KePayload), payloads.require(NoncePayload)
    if connection.ppk is not None and connection.ppk.required and payloads.notify(NotifyType.USE_PPK) is None:
        raise NoProposalChosenError("the peer does not support the post-quantum pre-shared key that is required")
    shared = groups.finish(handshake.exchange, answer.data)
    outstanding = sa.sending.outstanding.get(0)
    if outstanding is None:
        raise ProtocolError("a response without a request")
    handshake.init_request, handshake.init_response = outstanding.messages[0], raw
    sa.spi_r = message.header.spi_r
    handshake.nonces = Nonces(handshake.nonces.initiator, nonce.data)
    handshake.exchange = None
    _record_features(sa, handshake, payloads)
    seed = initial_seed(suite.prf, handshake.nonces, shared)
    sa.use_keys(suite, derive_ike_keys(suite, seed, handshake.nonces, sa.spi_i, sa.spi_r))
    handshake.pending_groups = list(suite.additional_groups)
    sa.expires_at = None
    sa.answer_arrived(0)
    sa.transition(State.INIT_DONE, "IKE_SA_INIT response")
    begin_authentication(sa, now)


def _record_features(sa: IkeSa, handshake: Handshake, payloads: Payloads) -> None:
    session, connection = sa.session, sa.session.connection
    session.peer = _features(payloads, connection)
    handshake.ppk = payloads.notify(NotifyType.USE_PPK) is not None and connection.ppk is not None
    nat = detect(payloads, sa.spi_i, sa.spi_r, session.path) if connection.allow_nats else None
    session.nat = nat or session.nat
    if session.udp_encapsulation or (nat is not None and connection.mobike):  # RFC 4555, 3.3
        session.path = floated(session.path, sa.host.configuration)
