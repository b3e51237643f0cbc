"""INFORMATIONAL (RFC 7296, 1.4): deletion, liveness, and notifies of established IKE_SAs."""

from collections.abc import Sequence
from typing import ClassVar

from warren_ikev2.addresses import Path
from warren_ikev2.constants import ExchangeType, NotifyType, Protocol
from warren_ikev2.events import AuthenticationFailed, ChildSaDeleted, DeleteReason, PeerRedirected, SessionRole, State
from warren_ikev2.exchanges.established import apply_lifetime
from warren_ikev2.exchanges.mobike import (
    AnnounceAddresses,
    CheckRoutability,
    UpdateAddresses,
    answer_update,
    mapping_of,
    start_move,
)
from warren_ikev2.exchanges.nat import build_detection
from warren_ikev2.exchanges.redirect import build_gateway, parse_gateway
from warren_ikev2.exchanges.reply import Reply
from warren_ikev2.exchanges.windows import apply as apply_window
from warren_ikev2.ike_sa import LINGER, IkeSa
from warren_ikev2.session import Child, ChildState
from warren_ikev2.wire.message import Payloads
from warren_ikev2.wire.payloads import DeletePayload, NotifyPayload, Payload


class Liveness:
    """An empty request, to which any response proves liveness (2.4). Behind a NAT it holds NAT detection (RFC 4555, 3.8)."""

    exchange: ClassVar[ExchangeType] = ExchangeType.INFORMATIONAL
    exclusive: ClassVar[bool] = False

    def build(self, sa: IkeSa, now: float) -> Sequence[Payload]:
        """See Task."""
        if not _watches_nat(sa):
            return []
        return build_detection(
            sa.spi_i,
            sa.spi_r,
            sa.session.path,
            sa.host.random_bytes,
            fake_source=sa.session.connection.force_udp_encapsulation,
        )

    def handle(self, sa: IkeSa, payloads: Payloads, now: float) -> None:
        """Handle the response: update our address if the NAT mapping has changed."""
        seen = mapping_of(payloads)
        if seen and _watches_nat(sa) and seen != sa.session.mobility.mapping:
            start_move(sa, sa.session.path, now)


def _watches_nat(sa: IkeSa) -> bool:
    session = sa.session
    return (
        session.peer.mobike
        and session.role == SessionRole.INITIATOR
        and session.nat.local
        and sa.state == State.ESTABLISHED
    )


class DeleteChild:
    """Delete one CHILD_SA (1.4.1)."""

    exchange: ClassVar[ExchangeType] = ExchangeType.INFORMATIONAL
    exclusive: ClassVar[bool] = False

    def __init__(self, child: Child, reason: DeleteReason) -> None:
        self._child = child
        self._reason = reason

    def build(self, sa: IkeSa, now: float) -> Sequence[Payload] | None:
        """See Task. None: the peer has deleted it already."""
        if self._child.sa.spi_in not in sa.session.children:
            return None
        self._child.state = ChildState.DELETING
        return [DeletePayload(Protocol.ESP, (self._child.sa.spi_in.to_bytes(4, "big"),))]

    def handle(self, sa: IkeSa, payloads: Payloads, now: float) -> None:
        """The peer's own SPI in the answer is the other half of the same CHILD_SA."""
        remove_child(sa, self._child, self._reason)


class DeleteIke:
    """Delete the IKE_SA and its CHILD_SAs."""

    exchange: ClassVar[ExchangeType] = ExchangeType.INFORMATIONAL
    exclusive: ClassVar[bool] = True

    def __init__(self, reason: DeleteReason) -> None:
        self._reason = reason

    def build(self, sa: IkeSa, now: float) -> Sequence[Payload]:
        """See Task."""
        sa.transition(State.DELETING, "deletion")
        return [DeletePayload(Protocol.IKE), *_explanation(sa, self._reason)]

    def handle(self, sa: IkeSa, payloads: Payloads, now: float) -> None:
        """See Task."""
        sa.close(self._reason, "deleted", now)


class AckDelete:
    """Notify a peer that has authenticated us that its own authentication failed (2.21.2)."""

    exchange: ClassVar[ExchangeType] = ExchangeType.INFORMATIONAL
    exclusive: ClassVar[bool] = True

    def __init__(self, notify: int) -> None:
        self._notify = notify

    def build(self, sa: IkeSa, now: float) -> Sequence[Payload]:
        """See Task."""
        sa.handshake, sa.expires_at = None, now + LINGER
        return [NotifyPayload(self._notify)]

    def handle(self, sa: IkeSa, payloads: Payloads, now: float) -> None:
        """See Task."""
        sa.close(DeleteReason.AUTHENTICATION_FAILED, "the peer is notified", now)


class SendRedirect:
    """Redirect the peer (RFC 5685, 5), which then deletes the IKE_SA."""

    exchange: ClassVar[ExchangeType] = ExchangeType.INFORMATIONAL
    exclusive: ClassVar[bool] = False

    def __init__(self, gateway: str) -> None:
        self._gateway = gateway

    def build(self, sa: IkeSa, now: float) -> Sequence[Payload]:
        """See Task."""
        return [NotifyPayload(NotifyType.REDIRECT, build_gateway(self._gateway))]

    def handle(self, sa: IkeSa, payloads: Payloads, now: float) -> None:
        """Nothing to do."""


_BY_ANOTHER_LOGIN = frozenset({DeleteReason.REPLACED, DeleteReason.INITIAL_CONTACT})


def _explanation(sa: IkeSa, reason: DeleteReason) -> list[Payload]:
    """Why we delete the IKE_SA, for a peer that has announced our vendor id: IKEv2 itself has no word for it."""
    if reason in _BY_ANOTHER_LOGIN and sa.session.peer.understands_reasons:
        return [NotifyPayload(NotifyType.REPLACED_BY_LOGIN)]
    return []


_OF_THE_SESSION = (SendRedirect, AnnounceAddresses, UpdateAddresses, CheckRoutability)


def respond(sa: IkeSa, payloads: Payloads, path: Path, now: float) -> Reply:
    """Respond to the peer's request, in any state with keys. MalformedMessageError: an invalid Delete payload."""
    for delete in payloads.all(DeletePayload):
        if delete.protocol == Protocol.IKE:
            return Reply((), lambda: _peer_deleted(sa, _reason_of(sa, payloads), now))
    if payloads.notify(NotifyType.AUTHENTICATION_FAILED) is not None:
        return Reply((), lambda: _peer_refused(sa, now))
    answer: list[Payload] = []
    spis = [spi for d in payloads.all(DeletePayload) if d.protocol == Protocol.ESP for spi in d.spis]
    deleted = _delete_children(sa, spis)
    if deleted:
        answer.append(DeletePayload(Protocol.ESP, tuple(deleted)))
    if sa.state in (State.ESTABLISHED, State.REKEYED):
        answer += answer_update(sa, payloads, path, now)
    if sa.state == State.ESTABLISHED:
        _follow_redirect(sa, payloads, now)
        apply_lifetime(sa, payloads, now)
        apply_window(sa, payloads)
    return Reply(answer)


def remove_child(sa: IkeSa, child: Child, reason: DeleteReason) -> None:
    """Remove a CHILD_SA and report it, once."""
    if sa.session.children.pop(child.sa.spi_in, None) is not None:
        sa.host.emit(ChildSaDeleted(sa.session.id, child.sa, reason))


def _delete_children(sa: IkeSa, spis: Sequence[bytes]) -> list[bytes]:
    """Remove the CHILD_SAs that the peer deletes; returns our SPIs, except of those that we are deleting (2.25.1)."""
    answer = []
    for spi in spis:
        child = sa.session.child_of_peer(int.from_bytes(spi, "big"))
        if child is None:
            _record_deleted_spi(sa, spi)
            continue
        if child.state != ChildState.DELETING:
            answer.append(child.sa.spi_in.to_bytes(4, "big"))
        reason = DeleteReason.REKEYED if child.state == ChildState.REKEYED else DeleteReason.PEER
        remove_child(sa, child, DeleteReason.REDUNDANT if child.redundant else reason)
    return answer


def _record_deleted_spi(sa: IkeSa, spi: bytes) -> None:
    """Record a deletion that arrived before the response that creates the SA (2.25.1)."""
    if sa.sending and len(sa.deleted_spis) < sa.host.configuration.limits.children:
        sa.deleted_spis.add(int.from_bytes(spi, "big"))


def _reason_of(sa: IkeSa, payloads: Payloads) -> DeleteReason:
    announced = sa.session.connection.announce_vendor
    replaced = announced and payloads.notify(NotifyType.REPLACED_BY_LOGIN) is not None
    return DeleteReason.PEER_REPLACED if replaced else DeleteReason.PEER


def _peer_deleted(sa: IkeSa, reason: DeleteReason, now: float) -> None:
    """Discard our requests (2.25.2), except those about the session, which move to the successor."""
    current = sa.session.ike_sa
    if current is not None and current is not sa and current.alive:
        for task in sa.sending.tasks:
            if isinstance(task, _OF_THE_SESSION):
                current.enqueue(task, now)
    sa.linger(reason, "deleted by the peer", now)


def _peer_refused(sa: IkeSa, now: float) -> None:
    session = sa.session
    name = session.connection.name
    reason = "the peer refuses our identity or authentication"
    sa.host.emit(AuthenticationFailed(session.id, name, session.path, None, reason, by_peer=True))
    sa.linger(DeleteReason.AUTHENTICATION_FAILED, reason, now)


def _follow_redirect(sa: IkeSa, payloads: Payloads, now: float) -> None:
    redirect = payloads.notify(NotifyType.REDIRECT)
    if redirect is None or not sa.session.connection.follow_redirects or sa.session.role != SessionRole.INITIATOR:
        return
    gateway, _ = parse_gateway(redirect.data)
    sa.host.emit(PeerRedirected(sa.session.id, sa.session.connection.name, gateway))
    sa.queue.append(DeleteIke(DeleteReason.REDIRECTED))
