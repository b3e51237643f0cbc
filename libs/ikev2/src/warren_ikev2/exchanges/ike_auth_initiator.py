"""IKE_AUTH as initiator (RFC 7296, 1.2, 2.15 and 2.16): authenticate, verify the peer's AUTH, create the first CHILD_SA."""

from collections.abc import Callable, Sequence
from typing import ClassVar

from cryptography.hazmat.primitives.constant_time import bytes_eq

from warren_ikev2.auth.eap import EapPeer, build_eap, parse_eap
from warren_ikev2.auth.octets import SignedOctets
from warren_ikev2.auth.proofs import (
    build_auth,
    build_certificate_requests,
    build_certificates,
    check_auth,
    method_name,
)
from warren_ikev2.constants import VENDOR_ID, AuthMethod, ExchangeType, NotifyType, PayloadType, notify_name
from warren_ikev2.credentials import EapGtcAuth, EapMschapv2Auth
from warren_ikev2.crypto.keys import IkeKeys
from warren_ikev2.errors import AuthenticationError, NegotiationError, ProtocolError
from warren_ikev2.events import DeleteReason, State
from warren_ikev2.exchanges.address_lists import announce as announce_mobike
from warren_ikev2.exchanges.address_lists import apply_first_list, prohibit_nats
from warren_ikev2.exchanges.child_negotiation import ChildOffer, build_offer, check_answer, install
from warren_ikev2.exchanges.configuration_payload import build_request, parse_reply
from warren_ikev2.exchanges.established import (
    PPK_ID_FIXED,
    apply_lifetime,
    binds_identity,
    establish,
    fail_handshake,
    handshake_of,
    mixed_keys,
    report_child,
    report_child_failure,
    report_refusal,
    signed_octets,
)
from warren_ikev2.exchanges.informational import AckDelete
from warren_ikev2.exchanges.intermediate import Intermediate
from warren_ikev2.exchanges.windows import announce as announce_window
from warren_ikev2.exchanges.windows import apply as apply_window
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
    VendorPayload,
)

MAX_EAP_ROUNDS = 16  # answers to one server; MSCHAPv2 takes three
_EAP = EapGtcAuth | EapMschapv2Auth
_CHALLENGE_SIZE = 16


def begin_authentication(sa: IkeSa, now: float) -> None:
    """Continue after IKE_SA_INIT: additional key exchanges, then IKE_AUTH."""
    handshake = handshake_of(sa)
    if handshake.pending_groups:
        sa.transition(State.INTERMEDIATE, "IKE_INTERMEDIATE request")
        sa.enqueue(Intermediate(begin_authentication), now)
    else:
        sa.enqueue(IkeAuth(), now)


class IkeAuth:
    """The first request, and without EAP the only one."""

    exchange: ClassVar[ExchangeType] = ExchangeType.IKE_AUTH
    exclusive: ClassVar[bool] = True

    def __init__(self) -> None:
        self._offer: ChildOffer | None = None
        self._peer: Identity | None = None
        self._rounds = 0
        self._pending: list[Payload] = []

    def build(self, sa: IkeSa, now: float) -> Sequence[Payload] | None:
        """See Task."""
        if self._pending:
            return self._pending
        if not sa.session.connection.children and not sa.session.peer.childless:
            fail_handshake(sa, None, "the peer does not support an IKE_SA without CHILD_SA (RFC 6023)", now)
            return None
        sa.transition(State.AUTHENTICATING, "IKE_AUTH request")
        connection, handshake = sa.session.connection, handshake_of(sa)
        handshake.auth_message_id = sa.sending.next_id
        identity = IdPayload(PayloadType.IDI, connection.local_identity.type, connection.local_identity.data)
        handshake.id_i = identity.body
        try:
            proof = self._prove(sa)
        except AuthenticationError as error:
            report_refusal(sa, None, str(error), by_peer=False)
            sa.close(DeleteReason.AUTHENTICATION_FAILED, str(error), now)
            return None
        nats = prohibit_nats(connection, sa.session.path)
        return [
            identity,
            *nats,
            *self._certificates(sa),
            *self._expected_identity(sa),
            *proof,
            *self._configuration_request(sa),
        ]

    def handle(self, sa: IkeSa, payloads: Payloads, now: float) -> None:
        """See Task."""
        try:
            self._handle(sa, payloads, now)
        except (AuthenticationError, ProtocolError) as error:
            report_refusal(sa, self._peer, str(error), by_peer=isinstance(error, AuthenticationError) and error.by_peer)
            sa.transition(State.DELETING, str(error))
            sa.enqueue(AckDelete(int(error.notify or NotifyType.AUTHENTICATION_FAILED)), now)

    def _prove(self, sa: IkeSa) -> list[Payload]:
        """Return AUTH and the notifies that belong to it; nothing in the first request with EAP."""
        connection, handshake = sa.session.connection, handshake_of(sa)
        if isinstance(connection.local_auth, _EAP):
            handshake.eap_peer = EapPeer(connection.local_auth, sa.host.random_bytes(_CHALLENGE_SIZE))
            return []
        auth, hashes = connection.local_auth, sa.session.peer.hashes
        return _with_ppk(sa, lambda keys: build_auth(auth, signed_octets(sa, keys, of_initiator=True), hashes))

    def _certificates(self, sa: IkeSa) -> list[Payload]:
        connection = sa.session.connection
        found = build_certificates(connection.local_auth)
        if connection.initial_contact and not _has_other_session(sa):
            found.append(NotifyPayload(NotifyType.INITIAL_CONTACT))
        if connection.send_certificate_requests:
            found += build_certificate_requests(connection.remote_auth)
        return found

    def _expected_identity(self, sa: IkeSa) -> list[Payload]:
        identity = sa.session.connection.remote_identity
        return [] if identity is None else [IdPayload(PayloadType.IDR, identity.type, identity.data)]

    def _configuration_request(self, sa: IkeSa) -> list[Payload]:
        """Return CP, the offer of the first CHILD_SA, and the notifies of MOBIKE and the window."""
        connection = sa.session.connection
        found = build_request(connection.request_addresses, connection.preferred_addresses)
        if connection.children:
            self._offer = build_offer(sa, connection.children[0], first=True)
            found += self._offer.payloads
        vendor = [VendorPayload(VENDOR_ID)] if connection.announce_vendor else []
        return [*found, *announce_mobike(sa), *announce_window(connection), *vendor]

    def _handle(self, sa: IkeSa, payloads: Payloads, now: float) -> None:
        handshake = handshake_of(sa)
        auth = payloads.first(AuthPayload)
        if payloads.first(IdPayload, PayloadType.IDR) is not None:
            self._record_peer(sa, payloads)
        if auth is None and handshake.eap_peer is not None and payloads.first(EapPayload) is not None:
            if not handshake.id_r or handshake.peer_proof is None:
                raise AuthenticationError("the server starts EAP before it has authenticated")
            self._eap_round(sa, handshake.eap_peer, payloads, now)
        elif auth is None:
            self._refused(sa, payloads, now)
        elif handshake.eap_peer is not None and handshake.peer_proof is None:
            handshake.peer_proof = self._check(sa, auth, payloads)
            if payloads.first(EapPayload) is None:
                raise AuthenticationError("the server does not start EAP")
            self._eap_round(sa, handshake.eap_peer, payloads, now)
        else:
            method = self._check_final(sa, auth, payloads)
            self._finish(sa, method, payloads, now)

    def _record_peer(self, sa: IkeSa, payloads: Payloads) -> None:
        handshake, connection = handshake_of(sa), sa.session.connection
        body = payloads.require(IdPayload, PayloadType.IDR)
        if handshake.id_r:
            raise ProtocolError("the peer sends its identity twice")
        self._peer = parse_identity(body)
        if connection.remote_identity is not None and not connection.remote_identity.matches(self._peer):
            raise AuthenticationError(
                f"the identity of the peer is {self._peer}; configured is {connection.remote_identity}"
            )
        handshake.id_r = body.body

    def _check(self, sa: IkeSa, auth: AuthPayload, payloads: Payloads) -> str:
        """Verify the peer's AUTH by key or certificate; returns its method."""
        handshake, connection = handshake_of(sa), sa.session.connection
        if self._peer is None:
            raise ProtocolError("AUTH without an identity of the peer")
        # with EAP the PPK comes with the last AUTH payloads only (RFC 8784, 3)
        keys = sa.protection.suite_and_keys()[1] if handshake.eap_peer is not None else self._agreed_keys(sa, payloads)
        octets = signed_octets(sa, keys, of_initiator=False)
        certificates = payloads.all(CertPayload)
        proof = check_auth(connection.remote_auth, self._peer, auth, octets, certificates, sa.host.utc_now())
        sa.protection.keys = keys
        sa.session.bound = binds_identity(sa)
        if proof.certificate is not None:
            handshake.peer_certificate = certificates[0].data
        return proof.method

    def _agreed_keys(self, sa: IkeSa, payloads: Payloads) -> IkeKeys:
        """Return the keys, with the PPK if the responder uses it (RFC 8784, 3)."""
        _, keys = sa.protection.suite_and_keys()
        handshake, ppk = handshake_of(sa), sa.session.connection.ppk
        if not handshake.ppk or ppk is None:
            return keys
        if payloads.notify(NotifyType.PPK_IDENTITY) is not None:
            handshake.ppk_id = ppk.id
            return mixed_keys(sa)
        if ppk.required:
            raise AuthenticationError("the peer does not use the post-quantum pre-shared key that is required")
        return keys

    def _check_final(self, sa: IkeSa, auth: AuthPayload, payloads: Payloads) -> str:
        handshake = handshake_of(sa)
        if handshake.eap_peer is None:
            return self._check(sa, auth, payloads)
        if not handshake.eap_peer.succeeded or handshake.peer_proof is None:
            raise AuthenticationError("the server ends EAP too early")
        keys = self._agreed_keys(sa, payloads)
        octets = signed_octets(sa, keys, of_initiator=False)
        _check_eap_auth(octets, handshake.eap_peer.msk or keys.pr, auth)
        sa.protection.keys = keys
        return handshake.peer_proof

    def _eap_round(self, sa: IkeSa, peer: EapPeer, payloads: Payloads, now: float) -> None:
        self._rounds += 1
        if self._rounds > MAX_EAP_ROUNDS:
            raise AuthenticationError("limit exceeded: rounds of EAP")
        answer = peer.handle(parse_eap(payloads.require(EapPayload).data))
        if answer is not None:
            self._pending = [EapPayload(build_eap(answer))]
        else:
            self._pending = _with_ppk(sa, lambda keys: _build_eap_auth(sa, keys, peer.msk or keys.pi))
        sa.transition(State.EAP, "EAP request")
        sa.enqueue(self, now)

    def _refused(self, sa: IkeSa, payloads: Payloads, now: float) -> None:
        errors = payloads.errors()
        if not errors:
            raise ProtocolError("an IKE_AUTH response without AUTH")
        code = errors[0].notify
        if code == NotifyType.AUTHENTICATION_FAILED:
            report_refusal(sa, self._peer, "the peer refuses our identity or authentication", by_peer=True)
            sa.close(DeleteReason.AUTHENTICATION_FAILED, "AUTHENTICATION_FAILED received", now)
        else:
            fail_handshake(sa, code, f"the peer answers IKE_AUTH with {notify_name(code)}", now)

    def _finish(self, sa: IkeSa, method: str, payloads: Payloads, now: float) -> None:
        session, handshake = sa.session, handshake_of(sa)
        if self._peer is None:
            raise ProtocolError("the peer sends no identity")
        session.network = parse_reply(payloads)
        session.peer.mobike = session.connection.mobike and payloads.notify(NotifyType.MOBIKE_SUPPORTED) is not None
        apply_first_list(sa, payloads)
        nonces = handshake.nonces
        sa.open_windows(own=session.connection.window_size, peers=1)
        apply_window(sa, payloads)
        local = handshake.eap_peer.name if handshake.eap_peer else method_name(session.connection.local_auth)
        establish(sa, session.connection.local_identity, self._peer, (local, method), now)
        apply_lifetime(sa, payloads, now)
        if self._offer is not None:
            try:
                _raise_child_error(payloads)
                child = install(sa, check_answer(self._offer, payloads), nonces, (), now, initiated=True)
            except (NegotiationError, ProtocolError) as error:
                code = getattr(error, "code", None) or error.notify or 0
                report_child_failure(sa, self._offer.configuration.name, int(code), str(error))
                return
            report_child(session, sa, child)


class _PeerRefusedChildError(NegotiationError):
    """The peer refused the CHILD_SA."""

    def __init__(self, code: int) -> None:
        super().__init__(f"the peer answers with {notify_name(code)}")
        self.code = code


def _raise_child_error(payloads: Payloads) -> None:
    if errors := payloads.errors():
        raise _PeerRefusedChildError(errors[0].notify)


def _with_ppk(sa: IkeSa, build: Callable[[IkeKeys], AuthPayload]) -> list[Payload]:
    """Build AUTH; if both sides support PPKs, with PPK_IDENTITY and, unless required, NO_PPK_AUTH (RFC 8784, 3)."""
    _, keys = sa.protection.suite_and_keys()
    ppk = sa.session.connection.ppk
    if not handshake_of(sa).ppk or ppk is None:
        return [build(keys)]
    found: list[Payload] = [
        build(mixed_keys(sa)),
        NotifyPayload(NotifyType.PPK_IDENTITY, bytes([PPK_ID_FIXED]) + ppk.id),
    ]
    if not ppk.required:
        found.append(NotifyPayload(NotifyType.NO_PPK_AUTH, build(keys).data))
    return found


def _build_eap_auth(sa: IkeSa, keys: IkeKeys, secret: bytes) -> AuthPayload:
    return AuthPayload(AuthMethod.SHARED_KEY, signed_octets(sa, keys, of_initiator=True).shared_key_mac(secret))


def _check_eap_auth(octets: SignedOctets, secret: bytes, auth: AuthPayload) -> None:
    if auth.method != AuthMethod.SHARED_KEY or not bytes_eq(octets.shared_key_mac(secret), auth.data):
        raise AuthenticationError("the server's AUTH payload after EAP is invalid")


def _has_other_session(sa: IkeSa) -> bool:
    expected = sa.session.connection.remote_identity
    return expected is None or bool(sa.host.sessions_with(expected))
