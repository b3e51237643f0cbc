"""CREATE_CHILD_SA for CHILD_SAs (RFC 7296, 1.3.1 and 1.3.3): new ones and rekeyed ones, with the collisions of 2.8.1 and 2.25.

Both sides may replace the same CHILD_SA at once. Each side responds as usual; the CHILD_SA with the lowest of the four nonces
is redundant, and its creator deletes it. The creator of the other one deletes the replaced SA.
"""

from collections.abc import Sequence
from typing import ClassVar

from warren_ikev2.configuration import ChildConfiguration
from warren_ikev2.constants import ExchangeType, KeGroup, NotifyType, Protocol, notify_name
from warren_ikev2.crypto import groups
from warren_ikev2.crypto.keys import Nonces
from warren_ikev2.errors import (
    ChildSaNotFoundError,
    IkeError,
    InvalidKePayloadError,
    MalformedMessageError,
    NoProposalChosenError,
    ProtocolError,
    TemporaryFailureError,
)
from warren_ikev2.events import ChildSaEstablished, ChildSaRekeyed, DeleteReason, State
from warren_ikev2.exchanges.child_negotiation import (
    Agreement,
    ChildOffer,
    answer_offer,
    answer_payloads,
    build_offer,
    check_answer,
    install,
)
from warren_ikev2.exchanges.established import report_child_failure
from warren_ikev2.exchanges.followup import FollowupKe, SharedSecrets, store_for_followup
from warren_ikev2.exchanges.ike_sa_init import NONCE_SIZE
from warren_ikev2.exchanges.informational import DeleteChild, remove_child
from warren_ikev2.exchanges.reply import Reply
from warren_ikev2.ike_sa import IkeSa, Task
from warren_ikev2.session import Child, ChildState
from warren_ikev2.wire.message import Payloads
from warren_ikev2.wire.payloads import KePayload, NoncePayload, NotifyPayload, Payload

MAX_ATTEMPTS = 3  # of one task, for INVALID_KE_PAYLOAD
RETRY_DELAY = 5.0  # seconds after TEMPORARY_FAILURE, plus up to as much again (2.25)


def repeat_later(sa: IkeSa, task: Task, now: float) -> None:
    """Start a task that takes the place of one that was refused with TEMPORARY_FAILURE (2.25)."""
    jitter = int.from_bytes(sa.host.random_bytes(2), "big") / 2**16
    sa.delay(task, now + RETRY_DELAY * (1 + jitter))


def requested_group(payloads: Payloads) -> int:
    """The key exchange group that INVALID_KE_PAYLOAD requests (3.10.1); 0 if there is none."""
    notify = payloads.notify(NotifyType.INVALID_KE_PAYLOAD)
    return int.from_bytes(notify.data[:2], "big") if notify is not None else 0


class CreateChild:
    """Our request for a new CHILD_SA, or, with `old`, for the successor of one."""

    exchange: ClassVar[ExchangeType] = ExchangeType.CREATE_CHILD_SA
    exclusive: ClassVar[bool] = False

    def __init__(self, configuration: ChildConfiguration, old: Child | None = None) -> None:
        self.configuration = configuration
        self.old = old
        self.rival: tuple[Child, bytes] | None = None
        """The peer's successor of the same SA, and the lower nonce of its exchange."""
        self._group: KeGroup | None = None
        self._nonce = b""
        self._exchange: groups.Exchange | None = None
        self._offer: ChildOffer | None = None
        self._attempts = 0
        self._began: float | None = None  # the first request

    def build(self, sa: IkeSa, now: float) -> Sequence[Payload] | None:
        """See Task. None: the old SA was deleted or replaced."""
        if sa.state != State.ESTABLISHED:
            return None
        if self.old is not None and not self._old_is_due(sa):
            return None
        if self.old is not None:
            self.old.state = ChildState.REKEYING
        self._attempts += 1
        self._began = now if self._began is None else self._began
        self._offer = build_offer(sa, self.configuration, first=False, old=self.old.sa if self.old else None)
        self._nonce = sa.host.random_bytes(NONCE_SIZE)
        self._group = self._group or _first_group(self._offer)
        found: list[Payload] = [] if self.old is None else [_rekey_notify(self.old)]
        found += [*self._offer.payloads, NoncePayload(self._nonce)]
        if self._group:
            self._exchange = groups.start(self._group)
            found.append(KePayload(self._group, self._exchange.public))
        return found

    def handle(self, sa: IkeSa, payloads: Payloads, now: float) -> None:
        """See Task."""
        if errors := payloads.errors():
            self._refused(sa, errors[0].notify, payloads, now)
            return
        try:
            self._accept(sa, payloads, now)
        except IkeError as error:
            self.give_up(sa, int(error.notify or 0), str(error))

    def _old_is_due(self, sa: IkeSa) -> bool:
        old = self.old
        alive = old is not None and sa.session.children.get(old.sa.spi_in) is old
        again = self._attempts > 0 and old is not None and old.state == ChildState.REKEYING
        return alive and old is not None and (again or old.state == ChildState.INSTALLED)

    def _refused(self, sa: IkeSa, code: int, payloads: Payloads, now: float) -> None:
        gone = self.old is not None and self.old.sa.spi_in not in sa.session.children
        if code == NotifyType.INVALID_KE_PAYLOAD and self._attempts < MAX_ATTEMPTS:
            self._retry_group(sa, payloads, now)
        elif gone or self.rival is not None:
            self._restore()  # the peer has replaced or deleted it already
        elif code == NotifyType.TEMPORARY_FAILURE:
            self._restore()
            repeat_later(sa, CreateChild(self.configuration, self.old), now)
        elif code == NotifyType.CHILD_SA_NOT_FOUND and self.old is not None:
            _forget_missing(sa, self.old)
            sa.enqueue(CreateChild(self.configuration), now)
        else:
            self.give_up(sa, code, f"the peer answers with {notify_name(code)}")

    def _retry_group(self, sa: IkeSa, payloads: Payloads, now: float) -> None:
        group = requested_group(payloads)
        offered = [group for proposal in self.configuration.esp_proposals for group in proposal.groups]
        if group == self._group or group not in offered:
            self.give_up(
                sa,
                int(NotifyType.INVALID_KE_PAYLOAD),
                f"the peer requests key exchange group {group}, which is not offered",
            )
            return
        self._group = KeGroup(group)
        sa.queue.appendleft(self)

    def _accept(self, sa: IkeSa, payloads: Payloads, now: float) -> None:
        if self._offer is None:
            raise ProtocolError("a response without an offer")
        agreement = check_answer(self._offer, payloads)
        nonces = Nonces(self._nonce, payloads.require(NoncePayload).data)
        shared = _finish_exchange(agreement, self._exchange, self._group, payloads)
        if agreement.suite.additional_groups:
            done = _Continuation(self, agreement)
            secrets = SharedSecrets(nonces, shared, agreement.suite.additional_groups)
            sa.enqueue(FollowupKe(secrets, payloads, done), now)
            return
        self.finish(sa, agreement, nonces, shared, now)

    def finish(self, sa: IkeSa, agreement: Agreement, nonces: Nonces, shared: Sequence[bytes], now: float) -> None:
        """Create the CHILD_SA after the last key exchange, and resolve a collision."""
        child = install(sa, agreement, nonces, shared, now, initiated=True)
        self._resolve_collision(sa, child, nonces, now)
        if agreement.spi_out in sa.deleted_spis:
            remove_child(sa, child, DeleteReason.PEER)

    def _resolve_collision(self, sa: IkeSa, child: Child, nonces: Nonces, now: float) -> None:
        if self.old is None:
            sa.host.emit(ChildSaEstablished(sa.session.id, child.sa))
            return
        lost = self.rival is not None and min(nonces.initiator, nonces.responder) < self.rival[1]
        seconds = None if lost or self._began is None else now - self._began
        sa.host.emit(ChildSaRekeyed(sa.session.id, self.old.sa, child.sa, initiated=not lost, seconds=seconds))
        if lost:
            child.state, child.redundant = ChildState.REKEYED, True
            sa.enqueue(DeleteChild(child, DeleteReason.REDUNDANT), now)
            return
        if self.rival is not None:
            self.rival[0].state, self.rival[0].redundant = ChildState.REKEYED, True
        if self.old.sa.spi_in in sa.session.children:
            self.old.state = ChildState.REKEYED
            sa.enqueue(DeleteChild(self.old, DeleteReason.REKEYED), now)

    def _restore(self) -> None:
        if self.old is not None and self.old.state == ChildState.REKEYING:
            self.old.state = ChildState.INSTALLED

    def give_up(self, sa: IkeSa, code: int, reason: str) -> None:
        """Report it; the old SA stays until its hard limit (2.8)."""
        self._restore()
        if self.old is not None:
            self.old.soft_at = None
        report_child_failure(sa, self.configuration.name, code, reason)


class _Continuation:
    """Calls CreateChild.finish after the additional key exchanges."""

    def __init__(self, task: CreateChild, agreement: Agreement) -> None:
        self._task = task
        self._agreement = agreement

    def finish(self, sa: IkeSa, nonces: Nonces, shared: Sequence[bytes], now: float) -> None:
        """See FollowupKe."""
        self._task.finish(sa, self._agreement, nonces, shared, now)

    def fail(self, sa: IkeSa, code: int, reason: str) -> None:
        """See FollowupKe."""
        self._task.give_up(sa, code, reason)


def respond(sa: IkeSa, payloads: Payloads, now: float) -> Reply:
    """Respond to the peer's request for a CHILD_SA. NegotiationError, MalformedMessageError: the error to respond with."""
    rekey = payloads.notify(NotifyType.REKEY_SA)
    old = None if rekey is None else _find_old(sa, rekey)
    configurations = sa.session.connection.children if old is None else (old.configuration,)
    agreement = answer_offer(sa, payloads, configurations, first=False, old=old.sa if old is not None else None)
    nonce = payloads.require(NoncePayload).data
    nonces = Nonces(nonce, sa.host.random_bytes(NONCE_SIZE))
    exchange: list[Payload] = []
    shared: list[bytes] = []
    group = agreement.suite.group
    if group is not None:
        request = payloads.first(KePayload)
        if request is None or request.group != group:
            raise InvalidKePayloadError(group)
        public, secret = groups.respond(group, request.data)
        exchange, shared = [KePayload(group, public)], [secret]
    answer = [*answer_payloads(agreement), NoncePayload(nonces.responder), *exchange]

    def finish(all_shared: Sequence[bytes], at: float) -> None:
        _adopt(sa, agreement, nonces, all_shared, old, at)

    if agreement.suite.additional_groups:
        secrets = SharedSecrets(nonces, tuple(shared), agreement.suite.additional_groups)
        answer.append(store_for_followup(sa, secrets, finish))
        return Reply(answer)
    finish(shared, now)
    return Reply(answer)


def _adopt(
    sa: IkeSa, agreement: Agreement, nonces: Nonces, shared: Sequence[bytes], old: Child | None, now: float
) -> None:
    child = install(sa, agreement, nonces, shared, now, initiated=False)
    if old is None:
        sa.host.emit(ChildSaEstablished(sa.session.id, child.sa))
        return
    sa.host.emit(ChildSaRekeyed(sa.session.id, old.sa, child.sa, initiated=False))
    rival = _rival_task(sa, old)
    if rival is not None:
        rival.rival = (child, min(nonces.initiator, nonces.responder))
    old.state = ChildState.REKEYED


def _rival_task(sa: IkeSa, old: Child) -> CreateChild | None:
    tasks = (task for task in sa.sending.tasks if isinstance(task, CreateChild) and task.old is old)
    return next(tasks, None)


def _find_old(sa: IkeSa, rekey: NotifyPayload) -> Child:
    """2.25.1: unknown SAs are not found, those being deleted are a temporary failure."""
    if rekey.protocol != Protocol.ESP or len(rekey.spi) != 4:
        raise MalformedMessageError("REKEY_SA without an ESP SPI")
    old = sa.session.child_of_peer(int.from_bytes(rekey.spi, "big"))
    if old is None and any(isinstance(task, CreateChild | FollowupKe) for task in sa.sending.tasks):
        raise TemporaryFailureError  # it may be the one whose response is still pending
    if old is None:
        raise ChildSaNotFoundError
    if old.state in (ChildState.DELETING, ChildState.REKEYED):
        raise TemporaryFailureError
    return old


def _rekey_notify(old: Child) -> NotifyPayload:
    return NotifyPayload(NotifyType.REKEY_SA, b"", Protocol.ESP, old.sa.spi_in.to_bytes(4, "big"))


def _first_group(offer: ChildOffer) -> KeGroup | None:
    offered = [group for proposal in offer.proposals for group in proposal.groups]
    return offered[0] if offered else None


def _finish_exchange(
    agreement: Agreement, exchange: groups.Exchange | None, group: KeGroup | None, payloads: Payloads
) -> tuple[bytes, ...]:
    if agreement.suite.group is None:
        return ()
    answer = payloads.require(KePayload)
    if exchange is None or agreement.suite.group != group or answer.group != group:
        raise NoProposalChosenError("the key exchange group of the response is not the one chosen")
    return (groups.finish(exchange, answer.data),)


def _forget_missing(sa: IkeSa, old: Child) -> None:
    """Remove a CHILD_SA that the peer no longer has (2.25)."""
    remove_child(sa, old, DeleteReason.PEER)
