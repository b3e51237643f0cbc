"""Older IKE_SAs of a peer that authenticates again, as responder: INITIAL_CONTACT (RFC 7296, 2.4) and `uniqueness`."""

from collections.abc import Sequence

from warren_ikev2.configuration import Uniqueness
from warren_ikev2.constants import NotifyType
from warren_ikev2.errors import AuthenticationError
from warren_ikev2.events import DeleteReason, SessionId, SessionRole
from warren_ikev2.exchanges.informational import DeleteIke
from warren_ikev2.identity import Identity
from warren_ikev2.ike_sa import IkeSa, IkeSession
from warren_ikev2.wire.message import Payloads

CONNECTED_ALREADY = "is connected already"


def drop_older(sa: IkeSa, claimed: Identity, payloads: Payloads, now: float) -> None:
    """Delete the older IKE_SAs of the same authenticated peer on INITIAL_CONTACT (2.4), those of the same user by `uniqueness`.

    Their sessions end at once, and each peer gets a DELETE (1.4.1): it may be another device, which would send into the void until its
    liveness check fails. AuthenticationError: there is another one of the user, and the connection refuses the second.
    """
    session, uniqueness = sa.session, sa.session.connection.uniqueness
    if not session.bound:
        return
    same_peer = _older(sa, sa.host.sessions_with(claimed, session.eap_user))
    same_user = _older(sa, sa.host.sessions_of(session.user)) if session.user else same_peer
    lost = same_peer if payloads.notify(NotifyType.INITIAL_CONTACT) is not None else {}
    others = {} if uniqueness is Uniqueness.KEEP else {key: same_user[key] for key in same_user.keys() - lost.keys()}
    if others and uniqueness is Uniqueness.REFUSE:
        raise AuthenticationError(f"{session.user or session.eap_user or claimed} {CONNECTED_ALREADY}")
    for ended, reason in ((lost, DeleteReason.INITIAL_CONTACT), (others, DeleteReason.REPLACED)):
        for ike_sa in ended.values():
            ike_sa.dismiss(DeleteIke(reason), reason, now)


def _older(sa: IkeSa, sessions: Sequence[IkeSession]) -> dict[SessionId, IkeSa]:
    """The IKE_SAs of other sessions that were established with us, as the same local identity, by a proof of the peer's own."""
    local = sa.session.connection.local_identity
    return {
        other.id: other.ike_sa
        for other in sessions
        if other is not sa.session
        and other.bound
        and other.ike_sa is not None
        and other.role == SessionRole.RESPONDER
        and other.connection.local_identity.matches(local)
    }
