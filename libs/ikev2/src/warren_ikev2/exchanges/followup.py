"""IKE_FOLLOWUP_KE (RFC 9370, 2.2.4): additional key exchanges after CREATE_CHILD_SA, linked by an opaque notify."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from warren_ikev2.addresses import Path
from warren_ikev2.constants import ExchangeType, KeGroup, NotifyType, notify_name
from warren_ikev2.crypto import groups
from warren_ikev2.crypto.keys import Nonces
from warren_ikev2.errors import IkeError, ProtocolError, StateNotFoundError
from warren_ikev2.exchanges.reply import Reply
from warren_ikev2.ike_sa import IkeSa
from warren_ikev2.wire.message import Payloads
from warren_ikev2.wire.payloads import KePayload, NotifyPayload, Payload

MAX_PENDING = 4  # incomplete chains of a peer that are stored; the oldest is discarded first
_LINK_SIZE = 16


@dataclass(frozen=True, slots=True)
class SharedSecrets:
    """The secrets agreed so far."""

    nonces: Nonces
    shared: tuple[bytes, ...] = field(repr=False)
    remaining: tuple[KeGroup, ...]

    def plus(self, secret: bytes) -> "SharedSecrets":
        """Return the secrets after one more key exchange."""
        return SharedSecrets(self.nonces, (*self.shared, secret), self.remaining[1:])


class ExchangeContinuation(Protocol):
    """Continues the exchange that began the chain."""

    def finish(self, sa: IkeSa, nonces: Nonces, shared: Sequence[bytes], now: float) -> None:
        """Continue after the last key exchange."""

    def fail(self, sa: IkeSa, code: int, reason: str) -> None:
        """Handle a failed key exchange."""


class FollowupKe:
    """Our request for the next additional key exchange; `previous` is the response that carries the link."""

    exchange: ClassVar[ExchangeType] = ExchangeType.IKE_FOLLOWUP_KE
    exclusive: ClassVar[bool] = True

    def __init__(self, secrets: SharedSecrets, previous: Payloads, done: ExchangeContinuation) -> None:
        self._secrets = secrets
        self._previous = previous
        self._done = done
        self._exchange: groups.Exchange | None = None

    def build(self, sa: IkeSa, now: float) -> Sequence[Payload] | None:
        """See Task."""
        link = self._previous.notify(NotifyType.ADDITIONAL_KEY_EXCHANGE)
        if link is None:
            self._done.fail(sa, int(NotifyType.STATE_NOT_FOUND), "the response lacks ADDITIONAL_KEY_EXCHANGE")
            return None
        group = self._secrets.remaining[0]
        self._exchange = groups.start(group)
        return [
            KePayload(group, self._exchange.public),
            NotifyPayload(NotifyType.ADDITIONAL_KEY_EXCHANGE, link.data),
        ]

    def handle(self, sa: IkeSa, payloads: Payloads, now: float) -> None:
        """See Task."""
        if errors := payloads.errors():
            code = errors[0].notify
            self._done.fail(sa, code, f"the peer answers with {notify_name(code)}")
            return
        try:
            answer = payloads.require(KePayload)
            if self._exchange is None or answer.group != self._secrets.remaining[0]:
                raise ProtocolError("the response holds another additional key exchange than the request")
            secrets = self._secrets.plus(groups.finish(self._exchange, answer.data))
        except IkeError as error:
            self._done.fail(sa, int(error.notify or 0), str(error))
            return
        if secrets.remaining:
            sa.enqueue(FollowupKe(secrets, payloads, self._done), now)
        else:
            self._done.finish(sa, secrets.nonces, secrets.shared, now)


@dataclass(slots=True, eq=False)
class _Pending:
    secrets: SharedSecrets
    finish: Callable[[Sequence[bytes], float], None]

    def advance(self, sa: IkeSa, payloads: Payloads, now: float) -> Sequence[Payload]:
        """See Followup."""
        request = payloads.require(KePayload)
        due = self.secrets.remaining[0]
        if request.group != due:
            raise ProtocolError(f"additional key exchange {request.group} is unexpected here")
        public, secret = groups.respond(due, request.data)
        self.secrets = self.secrets.plus(secret)
        answer: list[Payload] = [KePayload(due, public)]
        if self.secrets.remaining:
            answer.append(store_for_followup(sa, self.secrets, self.finish))
        else:
            self.finish(self.secrets.shared, now)
        return answer


def store_for_followup(
    sa: IkeSa, secrets: SharedSecrets, finish: Callable[[Sequence[bytes], float], None]
) -> NotifyPayload:
    """Store a chain; returns the notify that links the next exchange to it."""
    link = sa.host.random_bytes(_LINK_SIZE)
    while len(sa.followups) >= MAX_PENDING:
        sa.followups.pop(next(iter(sa.followups)))
    sa.followups[link] = _Pending(secrets, finish)
    return NotifyPayload(NotifyType.ADDITIONAL_KEY_EXCHANGE, link)


def respond(sa: IkeSa, payloads: Payloads, path: Path, now: float) -> Reply:
    """The peer's request. StateNotFoundError: unknown link."""
    link = payloads.notify(NotifyType.ADDITIONAL_KEY_EXCHANGE)
    pending = None if link is None else sa.followups.pop(link.data, None)
    if pending is None:
        raise StateNotFoundError
    return Reply(pending.advance(sa, payloads, now))
