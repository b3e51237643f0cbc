"""IKE_AUTH as responder (RFC 7296, 1.2, 2.15 and 2.16): verify the peer's AUTH, authenticate, create the first CHILD_SA.

With EAP we authenticate first, by key or certificate; only then the user name and password are requested.
"""

from collections.abc import Sequence

from cryptography.hazmat.primitives.constant_time import bytes_eq

from warren_ikev2.addresses import Path
from warren_ikev2.auth.eap import EapPacket, build_eap, parse_eap
from warren_ikev2.auth.eap_server import EapAuthenticator
from warren_ikev2.auth.login import REFUSED, LoginVerdict
from warren_ikev2.auth.proofs import build_auth, build_certificates, check_auth, method_name
from warren_ikev2.configuration import ConnectionConfiguration
from warren_ikev2.constants import VENDOR_ID, AuthMethod, ExchangeType, NotifyType, PayloadType
from warren_ikev2.credentials import EapTrust
from warren_ikev2.crypto.keys import IkeKeys
from warren_ikev2.errors import AuthenticationError, MalformedMessageError, NegotiationError
from warren_ikev2.events import DeleteReason, HandshakeFailed, LoginRequested, State
from warren_ikev2.exchanges.address_lists import announce as announce_mobike
from warren_ikev2.exchanges.address_lists import apply_first_list, nat_is_unexpected
from warren_ikev2.exchanges.child_negotiation import answer_offer, answer_payloads, install
from warren_ikev2.exchanges.configuration_payload import answer_request
from warren_ikev2.exchanges.established import (
    PPK_ID_FIXED,
    announce_lifetime,
    binds_identity,
    establish,
    handshake_of,
    mixed_keys,
    report_child,
    report_child_failure,
    report_refusal,
    signed_octets,
)
from warren_ikev2.exchanges.reply import Reply, refuse
from warren_ikev2.exchanges.uniqueness import drop_older
from warren_ikev2.exchanges.windows import announce as announce_window
from warren_ikev2.exchanges.windows import apply as apply_window
from warren_ikev2.handshake import PendingLogin
from warren_ikev2.identity import Identity
from warren_ikev2.ike_sa import IkeSa
from warren_ikev2.wire.identities import parse_identity
from warren_ikev2.wire.message import Payloads
from warren_ikev2.wire.payloads import (
    AuthPayload,
    CertPayload,
    EapPayload,
    IdPayload,
    NotifyPayload,
    Payload,
    SaPayload,
    VendorPayload,
)


def respond(sa: IkeSa, payloads: Payloads, path: Path, now: float) -> Reply:
    """Respond to the first request; every failed authentication gets the same response, AUTHENTICATION_FAILED."""
    claimed: Identity | None = None
    matched = False
    try:
        handshake = handshake_of(sa)
        if nat_is_unexpected(payloads, path):
            return _refuse_nat(sa, path, now)
        if handshake.pending_groups:
            raise AuthenticationError("additional key exchanges are missing")
        body = payloads.require(IdPayload, PayloadType.IDI)
        claimed = parse_identity(body)
        handshake.id_i, handshake.auth_message_id = body.body, sa.answering
        connection = _choose(handshake.candidates, claimed, payloads)
        matched = True
        sa.session.connection, sa.session.path = connection, path
        sa.session.peer.understands_reasons = VendorPayload(VENDOR_ID) in payloads.all(VendorPayload)
        handshake.id_r = _own_identity(connection).body
        auth = payloads.first(AuthPayload)
        if isinstance(connection.remote_auth, EapTrust):
            return _start_eap(sa, connection.remote_auth, claimed, auth, payloads)
        if auth is None:
            raise AuthenticationError("the peer requests EAP, which is not configured for this connection")
        return _check_and_finish(sa, claimed, auth, payloads, now)
    except AuthenticationError as error:
        report_refusal(sa, claimed, str(error), by_peer=False, matched=matched)
        return _refused(sa, str(error), now)


def respond_eap(sa: IkeSa, payloads: Payloads, path: Path, now: float) -> Reply:
    """Respond to the later requests with EAP: EAP responses, and finally AUTH."""
    handshake = handshake_of(sa)
    claimed = Identity.parse("eap")
    try:
        authenticator = handshake.eap_authenticator
        claimed = parse_identity(handshake.first_payloads.require(IdPayload, PayloadType.IDI))
        if authenticator is None:
            raise AuthenticationError("EAP has not been started")
        handshake.eap_rounds += 1
        if handshake.eap_rounds > sa.host.configuration.limits.eap_rounds:
            raise AuthenticationError("limit exceeded: rounds of EAP")
        auth = payloads.first(AuthPayload)
        if auth is not None:
            return _finish_eap(sa, authenticator, claimed, auth, payloads, now)
        answer = authenticator.handle(parse_eap(payloads.require(EapPayload).data))
        if answer is None:
            return _request_verdict(sa, authenticator, claimed, now)
        return _continue_eap(sa, authenticator, answer, claimed, now)
    except AuthenticationError as error:
        report_refusal(sa, claimed, str(error), by_peer=False)
        return _refused(sa, str(error), now)


def conclude_login(sa: IkeSa, verdict: LoginVerdict, now: float) -> bool:
    """Respond to the request that waits for this verdict, over the peer's newest path; False: none does."""
    handshake = sa.handshake
    if handshake is None or handshake.login is None or handshake.eap_authenticator is None:
        return False
    pending, handshake.login = handshake.login, None
    authenticator = handshake.eap_authenticator
    claimed = parse_identity(handshake.first_payloads.require(IdPayload, PayloadType.IDI))
    if not verdict.accepted:
        report_refusal(sa, claimed, verdict.reason, by_peer=False)
    if verdict.undecided and not verdict.accepted:
        reply = Reply(refuse(NotifyType.TEMPORARY_FAILURE).payloads, lambda: _end(sa, verdict.reason, now))
    else:
        reply = _continue_eap(sa, authenticator, authenticator.conclude(verdict), claimed, now)
    sa.respond(ExchangeType.IKE_AUTH, pending.message_id, reply.payloads, sa.session.path, now)
    if reply.then is not None:
        reply.then()
    return True


def login_deadline(sa: IkeSa) -> float | None:
    """Return when the login that waits for a verdict is refused, or None."""
    return None if sa.handshake is None or sa.handshake.login is None else sa.handshake.login.due


def refuse_late_login(sa: IkeSa, now: float) -> None:
    """Refuse a login whose verdict is late."""
    due = login_deadline(sa)
    if due is not None and due <= now:
        conclude_login(sa, LoginVerdict(False, "no verdict on the login in time", undecided=True), now)


def _request_verdict(sa: IkeSa, authenticator: EapAuthenticator, claimed: Identity, now: float) -> Reply:
    attempt = authenticator.attempt
    if attempt is None:
        raise AuthenticationError("EAP has no attempt to decide on")
    session = sa.session
    handshake_of(sa).login = PendingLogin(sa.answering, now + sa.host.configuration.limits.login_seconds)
    event = LoginRequested(
        session.id, session.connection.name, session.path, str(claimed), attempt.user, attempt.method, attempt
    )
    sa.host.emit(event)
    return Reply(deferred=True)


def _continue_eap(
    sa: IkeSa, authenticator: EapAuthenticator, answer: EapPacket, claimed: Identity, now: float
) -> Reply:
    packet = EapPayload(build_eap(answer))
    if not authenticator.failed:
        return Reply((packet,))
    if not authenticator.rejected:  # else the verdict was reported with its reason
        report_refusal(sa, claimed, REFUSED, by_peer=False)
    return Reply((packet,), lambda: _end(sa, "EAP failed", now))


def _refused(sa: IkeSa, reason: str, now: float) -> Reply:
    reply = refuse(NotifyType.AUTHENTICATION_FAILED)
    return Reply(reply.payloads, lambda: _end(sa, reason, now))


def _refuse_nat(sa: IkeSa, path: Path, now: float) -> Reply:
    """Refuse a handshake through a NAT with a peer that prohibits NATs (RFC 4555, 3.9)."""
    reason, session = "there is a NAT, which the peer prohibits", sa.session
    code = int(NotifyType.UNEXPECTED_NAT_DETECTED)
    sa.host.emit(HandshakeFailed(session.id, None, path, code, reason))
    return Reply(
        refuse(NotifyType.UNEXPECTED_NAT_DETECTED).payloads,
        lambda: sa.linger(DeleteReason.NEGOTIATION_FAILED, reason, now),
    )


def _end(sa: IkeSa, reason: str, now: float) -> None:
    sa.linger(DeleteReason.AUTHENTICATION_FAILED, reason, now)


def _choose(
    candidates: Sequence[ConnectionConfiguration], claimed: Identity, payloads: Payloads
) -> ConnectionConfiguration:
    """Choose the connection that matches both identities and, if one does, the kind of authentication.

    One that names the peer's identity is preferred.
    """
    called = payloads.first(IdPayload, PayloadType.IDR)
    expected = None if called is None else parse_identity(called)
    named = [c for c in candidates if expected is None or c.local_identity.matches(expected)]
    with_eap = payloads.first(AuthPayload) is None  # the absence of AUTH requests EAP (RFC 7296, 2.16)
    fitting = [c for c in named if isinstance(c.remote_auth, EapTrust) is with_eap] or named
    for connection in fitting:
        if connection.remote_identity is not None and connection.remote_identity.matches(claimed):
            return connection
    for connection in fitting:
        if connection.remote_identity is None:
            return connection
    raise AuthenticationError(
        f"no connection is configured for the peer {claimed} and our identity {expected or '(any)'}"
    )


def _own_identity(connection: ConnectionConfiguration) -> IdPayload:
    return IdPayload(PayloadType.IDR, connection.local_identity.type, connection.local_identity.data)


def _check_and_finish(sa: IkeSa, claimed: Identity, auth: AuthPayload, payloads: Payloads, now: float) -> Reply:
    handshake, connection = handshake_of(sa), sa.session.connection
    keys, auth = _agreed_keys(sa, auth, payloads)
    octets = signed_octets(sa, keys, of_initiator=True)
    certificates = payloads.all(CertPayload)
    proof = check_auth(connection.remote_auth, claimed, auth, octets, certificates, sa.host.utc_now())
    if proof.certificate is not None:
        handshake.peer_certificate = certificates[0].data
    sa.protection.keys = keys
    sa.session.bound = binds_identity(sa)
    own = build_auth(connection.local_auth, signed_octets(sa, keys, of_initiator=False), sa.session.peer.hashes)
    head: list[Payload] = [_own_identity(connection), *build_certificates(connection.local_auth), own]
    if handshake.ppk_id is not None:
        head.append(NotifyPayload(NotifyType.PPK_IDENTITY))
    return Reply([*head, *_establish(sa, claimed, proof.method, payloads, now)])


def _agreed_keys(sa: IkeSa, auth: AuthPayload, payloads: Payloads) -> tuple[IkeKeys, AuthPayload]:
    """Return the keys and AUTH to verify, with the PPK that the peer names or, if both sides allow it, without (RFC 8784, 3)."""
    _, keys = sa.protection.suite_and_keys()
    handshake, ppk = handshake_of(sa), sa.session.connection.ppk
    named = payloads.notify(NotifyType.PPK_IDENTITY)
    if handshake.ppk and ppk is not None and named is not None and named.data == bytes([PPK_ID_FIXED]) + ppk.id:
        handshake.ppk_id = ppk.id
        return mixed_keys(sa), auth
    if ppk is not None and ppk.required:
        raise AuthenticationError("the peer does not use the post-quantum pre-shared key that is required")
    fallback = payloads.notify(NotifyType.NO_PPK_AUTH)
    if named is not None and fallback is None:
        raise AuthenticationError("the peer requires a post-quantum pre-shared key that is not configured here")
    return keys, auth if fallback is None else AuthPayload(auth.method, fallback.data)


def _establish(sa: IkeSa, claimed: Identity, method: str, payloads: Payloads, now: float) -> list[Payload]:
    """Build CP, CHILD_SA and notifies of our response; a failed CHILD_SA does not end the IKE_SA."""
    session = sa.session
    own = sa.handshake.nonces if sa.handshake is not None else None
    if own is None:
        raise AuthenticationError("the IKE_SA is authenticated already")
    name = session.eap_user or str(session.connection.remote_identity or claimed)
    connection = session.connection.for_peer(name)
    if connection is None:
        raise AuthenticationError(f"{name} may not use this connection")
    (session.user, session.user_version), session.connection = connection.user_of(name), connection
    session.peer.mobike = connection.mobike and payloads.notify(NotifyType.MOBIKE_SUPPORTED) is not None
    session.mobility.own = connection.local_addresses
    apply_first_list(sa, payloads)
    sa.open_windows(own=connection.window_size, peers=1)
    apply_window(sa, payloads)
    drop_older(sa, claimed, payloads, now)
    requested = payloads.first(SaPayload) is not None
    answer: list[Payload] = []
    refused: NegotiationError | None = None
    try:
        answer += answer_request(sa, payloads)
    except NegotiationError as error:
        refused = error
    establish(sa, connection.local_identity, claimed, (method_name(connection.local_auth), method), now)
    try:
        if refused is not None:
            raise refused
        if requested:
            agreement = answer_offer(sa, payloads, connection.children, first=True)
            child = install(sa, agreement, own, (), now, initiated=False)
            answer += answer_payloads(agreement)
            report_child(session, sa, child)
    except (NegotiationError, MalformedMessageError) as error:
        code = error.notify or NotifyType.NO_PROPOSAL_CHOSEN
        report_child_failure(sa, "", int(code), str(error))
        answer = [NotifyPayload(int(code))]
    answer += announce_mobike(sa) if session.peer.mobike else []
    return answer + announce_window(connection) + announce_lifetime(sa)


def _start_eap(sa: IkeSa, trust: EapTrust, claimed: Identity, auth: AuthPayload | None, payloads: Payloads) -> Reply:
    """Build our AUTH, by key or certificate, and the first EAP request."""
    handshake, connection = handshake_of(sa), sa.session.connection
    if auth is not None:
        raise AuthenticationError("EAP is configured, but the peer uses another method")
    handshake.store_first_request(payloads, sa.host.configuration.limits.eap_request)
    handshake.eap_authenticator = EapAuthenticator(trust, sa.host.random_bytes)
    _, keys = sa.protection.suite_and_keys()
    own = build_auth(connection.local_auth, signed_octets(sa, keys, of_initiator=False), sa.session.peer.hashes)
    sa.transition(State.EAP, f"EAP with {claimed}")
    first = EapPayload(build_eap(handshake.eap_authenticator.start()))
    return Reply([_own_identity(connection), *build_certificates(connection.local_auth), own, first])


def _finish_eap(
    sa: IkeSa, authenticator: EapAuthenticator, claimed: Identity, auth: AuthPayload, payloads: Payloads, now: float
) -> Reply:
    """Verify the peer's AUTH with the MSK or, as GTC derives no key, with SK_pi (2.16), and build ours; both with the PPK."""
    if not authenticator.succeeded:
        raise AuthenticationError("the peer ends EAP too early")
    keys, auth = _agreed_keys(sa, auth, payloads)
    expected = signed_octets(sa, keys, of_initiator=True).shared_key_mac(authenticator.msk or keys.pi)
    if auth.method != AuthMethod.SHARED_KEY or not bytes_eq(expected, auth.data):
        raise AuthenticationError("the peer's AUTH payload after EAP is invalid")
    sa.session.eap_user, sa.session.bound = authenticator.user, True
    sa.protection.keys = keys
    secret = authenticator.msk or keys.pr
    own = AuthPayload(AuthMethod.SHARED_KEY, signed_octets(sa, keys, of_initiator=False).shared_key_mac(secret))
    first_request = handshake_of(sa).first_payloads
    named = [] if handshake_of(sa).ppk_id is None else [NotifyPayload(NotifyType.PPK_IDENTITY)]
    return Reply([own, *named, *_establish(sa, claimed, authenticator.name, first_request, now)])
