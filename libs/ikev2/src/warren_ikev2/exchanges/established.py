"""The end of a handshake: both sides are authenticated, or the handshake fails."""

from warren_ikev2.auth.octets import SignedOctets
from warren_ikev2.constants import NotifyType
from warren_ikev2.credentials import PskAuth
from warren_ikev2.crypto.keys import IkeKeys, mix_ppk
from warren_ikev2.errors import AuthenticationError
from warren_ikev2.events import (
    AuthenticationFailed,
    ChildSaEstablished,
    ChildSaFailed,
    DeleteReason,
    HandshakeFailed,
    IkeSaEstablished,
    SessionRole,
    State,
)
from warren_ikev2.exchanges.child_negotiation import shortened
from warren_ikev2.handshake import Handshake
from warren_ikev2.identity import Identity
from warren_ikev2.ike_sa import IkeSa, IkeSession
from warren_ikev2.session import Child
from warren_ikev2.wire.message import Payloads
from warren_ikev2.wire.payloads import NotifyPayload, Payload


def handshake_of(sa: IkeSa) -> Handshake:
    """Return the handshake, which exists until the IKE_SA is established."""
    if sa.handshake is None:
        raise AuthenticationError("the IKE_SA is authenticated already")
    return sa.handshake


def signed_octets(sa: IkeSa, keys: IkeKeys, *, of_initiator: bool) -> SignedOctets:
    """Return the octets that the initiator's or the responder's AUTH covers (RFC 7296, 2.15)."""
    handshake = handshake_of(sa)
    suite, _ = sa.protection.suite_and_keys()
    if of_initiator:
        real, nonce, sk_p, body = handshake.init_request, handshake.nonces.responder, keys.pi, handshake.id_i
    else:
        real, nonce, sk_p, body = handshake.init_response, handshake.nonces.initiator, keys.pr, handshake.id_r
    return SignedOctets(suite.prf, real, nonce, sk_p, body, handshake.int_auth)


PPK_ID_FIXED = 2  # RFC 8784, 5.1
LIFETIME_SHARE = 0.9  # of the responder's limit, so that the new IKE_SA exists before the old one is deleted


def mixed_keys(sa: IkeSa) -> IkeKeys:
    """Return the keys, mixed with the connection's PPK if it has one."""
    suite, keys = sa.protection.suite_and_keys()
    ppk = sa.session.connection.ppk
    return keys if ppk is None else mix_ppk(suite.prf, keys, ppk.key)


def binds_identity(sa: IkeSa) -> bool:
    """Whether authentication proves the identity: a shared secret does only if the configuration names the identity."""
    trust = sa.session.connection.remote_auth
    return not isinstance(trust, PskAuth) or sa.session.connection.remote_identity is not None


def establish(sa: IkeSa, local: Identity, remote: Identity, proofs: tuple[str, str], now: float) -> None:
    """Establish the IKE_SA after both sides have authenticated."""
    handshake, session = handshake_of(sa), sa.session
    session.local_identity, session.remote_identity = local, remote
    session.established, session.ike_sa = True, sa
    session.last_inbound = now
    sa.host.established(session)
    sa.handshake, sa.expires_at = None, None
    sa.incomplete.move_to(sa.host.authenticated_fragments)
    start_lifetime(sa, now)
    _start_reauthentication(sa, now)
    sa.transition(State.ESTABLISHED, "authenticated")
    suite, _ = sa.protection.suite_and_keys()
    session.proofs = proofs
    sa.host.emit(
        IkeSaEstablished(
            session=session.id,
            connection=session.connection.name,
            role=session.role,
            spi_i=sa.spi_i,
            spi_r=sa.spi_r,
            suite=suite,
            local_identity=local,
            remote_identity=remote,
            path=session.path,
            nat=session.nat,
            local_auth=proofs[0],
            remote_auth=proofs[1],
            eap_identity=session.eap_user,
            user=session.user,
            user_version=session.user_version,
            network=session.network,
            fragmentation=session.peer.fragmentation,
            mobike=session.peer.mobike,
            peer_addresses=session.mobility.peers,
            ppk_id=handshake.ppk_id,
            peer_certificate=handshake.peer_certificate,
        )
    )


def start_lifetime(sa: IkeSa, now: float) -> None:
    """Start the lifetime of an IKE_SA."""
    lifetime = sa.session.connection.lifetime
    soft = shortened(sa, lifetime.rekey_seconds, lifetime.jitter)
    sa.rekey_at = None if soft is None else now + soft
    sa.over_at = None if lifetime.rekey_seconds is None else now + lifetime.rekey_seconds + lifetime.over_seconds


def _start_reauthentication(sa: IkeSa, now: float) -> None:
    lifetime = sa.session.connection.lifetime
    soft = shortened(sa, lifetime.reauth_seconds, lifetime.jitter)
    if soft is not None and sa.session.role == SessionRole.INITIATOR:
        sa.session.reauth_at = now + soft


def announce_lifetime(sa: IkeSa) -> list[Payload]:
    """As responder: announce the time until the client must re-authenticate (RFC 4478, 3)."""
    lifetime = sa.session.connection.lifetime
    if lifetime.reauth_seconds is None:
        return []
    return [NotifyPayload(NotifyType.AUTH_LIFETIME, int(lifetime.reauth_seconds).to_bytes(4, "big"))]


def apply_lifetime(sa: IkeSa, payloads: Payloads, now: float) -> None:
    """As initiator: re-authenticate before the responder's limit, which may come at any time (RFC 4478, 3)."""
    notify = payloads.notify(NotifyType.AUTH_LIFETIME)
    if notify is None or len(notify.data) != 4 or sa.session.role != SessionRole.INITIATOR:
        return
    due = now + LIFETIME_SHARE * int.from_bytes(notify.data, "big")
    current = sa.session.reauth_at
    sa.session.reauth_at = due if current is None else min(current, due)


def report_child(session: IkeSession, sa: IkeSa, child: Child) -> None:
    """Report a new CHILD_SA."""
    sa.host.emit(ChildSaEstablished(session.id, child.sa))


def report_child_failure(sa: IkeSa, name: str, notify: int, reason: str) -> None:
    """Report a CHILD_SA that was not created; the IKE_SA remains (RFC 7296, 1.2)."""
    sa.host.emit(ChildSaFailed(sa.session.id, name, notify, reason))


def report_refusal(sa: IkeSa, claimed: Identity | None, reason: str, *, by_peer: bool, matched: bool = True) -> None:
    """Report a failed authentication."""
    session = sa.session
    name = session.connection.name if matched else None
    text = None if claimed is None else str(claimed)
    proven = sa.handshake is not None and sa.handshake.peer_proof is not None
    sa.host.emit(AuthenticationFailed(session.id, name, session.path, text, reason, by_peer, proven))


def fail_handshake(sa: IkeSa, notify: int | None, reason: str, now: float) -> None:
    """End an IKE_SA that is not established, for another reason than authentication."""
    session = sa.session
    sa.host.emit(HandshakeFailed(session.id, session.connection.name, session.path, notify, reason))
    sa.close(DeleteReason.NEGOTIATION_FAILED, reason, now)
