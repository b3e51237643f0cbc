"""CREATE_CHILD_SA for the IKE_SA itself (RFC 7296, 1.3.2 and 2.18), with the collisions of 2.8.2 and 2.25.2.

A new IKE_SA takes over the session and its CHILD_SAs; message ids begin at 0. If both sides begin at once, both new IKE_SAs come
to exist; the one with the lowest of the four nonces is deleted by its creator, the other one carries the session.
"""

from collections.abc import Sequence
from typing import ClassVar

from warren_ikev2.constants import ExchangeType, KeGroup, NotifyType, Protocol
from warren_ikev2.crypto import groups
from warren_ikev2.crypto.keys import Nonces, derive_ike_keys, rekey_seed
from warren_ikev2.errors import IkeError, InvalidKePayloadError, ProtocolError, TemporaryFailureError
from warren_ikev2.events import DeleteReason, IkeSaRekeyed, State
from warren_ikev2.exchanges.create_child_sa import MAX_ATTEMPTS, CreateChild, repeat_later, requested_group
from warren_ikev2.exchanges.established import start_lifetime
from warren_ikev2.exchanges.followup import FollowupKe, SharedSecrets, store_for_followup
from warren_ikev2.exchanges.ike_sa_init import NONCE_SIZE
from warren_ikev2.exchanges.informational import DeleteChild, DeleteIke
from warren_ikev2.exchanges.negotiation import confirm, number, select
from warren_ikev2.exchanges.reply import Reply
from warren_ikev2.exchanges.windows import AnnounceWindow
from warren_ikev2.ike_sa import LINGER, IkeSa
from warren_ikev2.session import ChildState
from warren_ikev2.suites import IkeSuite, Proposal, ike_suite
from warren_ikev2.wire.message import Payloads
from warren_ikev2.wire.payloads import KePayload, NoncePayload, Payload, SaPayload

DELETION_PATIENCE = 180.0  # seconds for the deletion of a replaced IKE_SA; a little more than all retransmissions
_SPI_SIZE = 8


class RekeyIke:
    """Our request for a successor."""

    exchange: ClassVar[ExchangeType] = ExchangeType.CREATE_CHILD_SA
    exclusive: ClassVar[bool] = True

    def __init__(self) -> None:
        self.rival: tuple[IkeSa, bytes] | None = None
        """The peer's successor, and the lower nonce of its exchange."""
        self._proposals: tuple[Proposal, ...] = ()
        self._spi = b""
        self._nonce = b""
        self._group: KeGroup | None = None
        self._exchange: groups.Exchange | None = None
        self._suite: IkeSuite | None = None
        self._peer_spi = b""
        self._attempts = 0
        self._began: float | None = None  # the first request

    def build(self, sa: IkeSa, now: float) -> Sequence[Payload] | None:
        """See Task. None: there is a successor already."""
        if sa.state != State.ESTABLISHED or sa.successor is not None:
            return None
        connection = sa.session.connection
        self._attempts += 1
        self._began = now if self._began is None else self._began
        self._spi, self._nonce = sa.host.new_ike_spi(), sa.host.random_bytes(NONCE_SIZE)
        self._proposals = number(connection.ike_proposals, self._spi)
        suite, _ = sa.protection.suite_and_keys()
        self._group = self._group or suite.group
        self._exchange = groups.start(self._group)
        return [
            SaPayload(self._proposals),
            NoncePayload(self._nonce),
            KePayload(self._group, self._exchange.public),
        ]

    def handle(self, sa: IkeSa, payloads: Payloads, now: float) -> None:
        """See Task."""
        if errors := payloads.errors():
            self._refused(sa, errors[0].notify, payloads, now)
            return
        try:
            self._accept(sa, payloads, now)
        except IkeError as error:
            self.fail(sa, int(error.notify or 0), str(error))

    def _refused(self, sa: IkeSa, code: int, payloads: Payloads, now: float) -> None:
        if self.rival is not None:
            inherit(sa, self.rival[0], now, initiated=False)
        elif code == NotifyType.INVALID_KE_PAYLOAD and self._attempts < MAX_ATTEMPTS:
            self._retry_group(sa, payloads)
        elif code == NotifyType.TEMPORARY_FAILURE:
            repeat_later(sa, RekeyIke(), now)

    def _retry_group(self, sa: IkeSa, payloads: Payloads) -> None:
        group = requested_group(payloads)
        if group != self._group and any(group in proposal.groups for proposal in self._proposals):
            self._group = KeGroup(group)
            sa.queue.appendleft(self)

    def _accept(self, sa: IkeSa, payloads: Payloads, now: float) -> None:
        chosen = confirm(payloads.require(SaPayload).proposals, self._proposals)
        self._suite, self._peer_spi = ike_suite(chosen), _spi_of(chosen)
        answer = payloads.require(KePayload)
        if self._exchange is None or answer.group != self._group or self._suite.group != self._group:
            raise ProtocolError("the key exchange group of the response is not the one chosen")
        nonces = Nonces(self._nonce, payloads.require(NoncePayload).data)
        shared = (groups.finish(self._exchange, answer.data),)
        if self._suite.additional_groups:
            sa.enqueue(FollowupKe(SharedSecrets(nonces, shared, self._suite.additional_groups), payloads, self), now)
        else:
            self.finish(sa, nonces, shared, now)

    def finish(self, sa: IkeSa, nonces: Nonces, shared: Sequence[bytes], now: float) -> None:
        """Create the successor after the last key exchange, and resolve a collision."""
        if self._suite is None or sa.state == State.CLOSED:
            return
        own = _make(sa, self._suite, self._spi, self._peer_spi, nonces, shared, initiator=True)
        if self.rival is not None and min(nonces.initiator, nonces.responder) < self.rival[1]:
            inherit(sa, self.rival[0], now, initiated=False)
            own.enqueue(DeleteIke(DeleteReason.REDUNDANT), now)
            return
        if self.rival is not None:
            self.rival[0].expires_at = now + LINGER  # its creator deletes it before
            sa.host.touch(self.rival[0])
        inherit(sa, own, now, initiated=True, began=self._began)
        sa.enqueue(DeleteIke(DeleteReason.REKEYED), now)

    def fail(self, sa: IkeSa, code: int, reason: str) -> None:
        """Keep the old IKE_SA, which ends at `over_at`."""


def respond(sa: IkeSa, payloads: Payloads, now: float) -> Reply:
    """Respond to the peer's request. NegotiationError, ProtocolError: the error to respond with."""
    _refuse_if_busy(sa)
    chosen = select(payloads.require(SaPayload).proposals, sa.session.connection.ike_proposals, Protocol.IKE)
    suite, peer_spi = ike_suite(chosen), _spi_of(chosen)
    request = payloads.require(KePayload)
    if request.group != suite.group:
        raise InvalidKePayloadError(suite.group)
    public, secret = groups.respond(suite.group, request.data)
    nonces = Nonces(payloads.require(NoncePayload).data, sa.host.random_bytes(NONCE_SIZE))
    spi = sa.host.new_ike_spi()
    answer: list[Payload] = [
        SaPayload((chosen.with_spi(spi),)),
        NoncePayload(nonces.responder),
        KePayload(suite.group, public),
    ]

    def finish(shared: Sequence[bytes], at: float) -> None:
        successor = _make(sa, suite, peer_spi, spi, nonces, shared, initiator=False)
        sa.successor = successor
        task = _own_attempt(sa)
        if task is not None:
            task.rival = (successor, min(nonces.initiator, nonces.responder))

    if suite.additional_groups:
        answer.append(store_for_followup(sa, SharedSecrets(nonces, (secret,), suite.additional_groups), finish))
        return Reply(answer)
    finish((secret,), now)
    return Reply(answer, lambda: activate_successor(sa, now))


def activate_successor(sa: IkeSa, now: float) -> None:
    """As responder without collision: the successor takes over the session once the response is sent."""
    if sa.successor is not None and sa.state == State.ESTABLISHED and _own_attempt(sa) is None:
        inherit(sa, sa.successor, now, initiated=False)


def resolve_deletion(sa: IkeSa, now: float) -> None:
    """The peer deletes an IKE_SA that it has replaced: its successor takes over the session, and our own attempt is discarded (2.25.2)."""
    if sa.successor is not None and sa.state == State.ESTABLISHED:
        inherit(sa, sa.successor, now, initiated=False)


def inherit(old: IkeSa, new: IkeSa, now: float, *, initiated: bool, began: float | None = None) -> None:
    """Move the session and its queued requests to the new IKE_SA; `began`: when we asked for it."""
    session = old.session
    if session.ike_sa is not old or not new.alive:
        return
    session.ike_sa = new
    old.successor = new
    old.transition(State.REKEYED, "rekeyed")
    old.rekey_at = old.over_at = None
    old.expires_at = now + DELETION_PATIENCE
    start_lifetime(new, now)
    suite, _ = new.protection.suite_and_keys()
    seconds = None if began is None else now - began
    spis = old.spi_i, old.spi_r, new.spi_i, new.spi_r
    old.host.emit(IkeSaRekeyed(session.id, *spis, suite, initiated=initiated, seconds=seconds))
    waiting = [task for task in old.queue if not isinstance(task, RekeyIke)]
    delayed = [(at, task) for at, task in old.delayed if not isinstance(task, RekeyIke)]
    old.queue.clear()
    old.delayed.clear()
    new.delayed += delayed
    new.enqueue(AnnounceWindow(), now)
    for task in waiting:
        new.enqueue(task, now)


def _make(
    sa: IkeSa,
    suite: IkeSuite,
    spi_i: bytes,
    spi_r: bytes,
    nonces: Nonces,
    shared: Sequence[bytes],
    *,
    initiator: bool,
) -> IkeSa:
    old_suite, old_keys = sa.protection.suite_and_keys()
    new = IkeSa(sa.host, sa.session, initiator=initiator, spi_i=spi_i, spi_r=spi_r)
    seed = rekey_seed(old_suite.prf, old_keys.d, nonces, shared)
    new.use_keys(suite, derive_ike_keys(suite, seed, nonces, spi_i, spi_r))
    new.state = State.ESTABLISHED
    sa.host.add(new)
    return new


def _own_attempt(sa: IkeSa) -> RekeyIke | None:
    return next((task for task in sa.sending.tasks if isinstance(task, RekeyIke)), None)


def _refuse_if_busy(sa: IkeSa) -> None:
    """Refuse while a CHILD_SA is being created, rekeyed or deleted, or a successor exists (2.25.2)."""
    busy = any(isinstance(task, CreateChild | DeleteChild | FollowupKe) for task in sa.sending.tasks)
    if busy or sa.successor is not None:
        raise TemporaryFailureError
    if any(child.state == ChildState.DELETING for child in sa.session.children.values()):
        raise TemporaryFailureError


def _spi_of(proposal: Proposal) -> bytes:
    if len(proposal.spi) != _SPI_SIZE or not any(proposal.spi):
        raise ProtocolError("an IKE SPI must have 8 bytes and not be zero")
    return proposal.spi
