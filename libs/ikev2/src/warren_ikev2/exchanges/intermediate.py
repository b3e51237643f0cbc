"""IKE_INTERMEDIATE (RFC 9242) with additional key exchanges (RFC 9370, 2.2.2): one more secret for each exchange, then new keys."""

from collections.abc import Callable, Sequence
from typing import ClassVar

from warren_ikev2.addresses import Path
from warren_ikev2.constants import FIRST_STATUS_NOTIFY, ExchangeType, KeGroup, notify_name
from warren_ikev2.crypto import groups
from warren_ikev2.crypto.keys import IkeKeys, additional_seed, derive_ike_keys
from warren_ikev2.errors import IkeError, ProtocolError
from warren_ikev2.exchanges.established import fail_handshake, handshake_of
from warren_ikev2.exchanges.reply import Reply
from warren_ikev2.ike_sa import IkeSa
from warren_ikev2.wire.message import Payloads
from warren_ikev2.wire.payloads import KePayload, NotifyPayload, Payload


class Intermediate:
    """Our request for the next pending group; `then` continues the handshake."""

    exchange: ClassVar[ExchangeType] = ExchangeType.IKE_INTERMEDIATE
    exclusive: ClassVar[bool] = True

    def __init__(self, then: Callable[[IkeSa, float], None]) -> None:
        self._then = then

    def build(self, sa: IkeSa, now: float) -> Sequence[Payload]:
        """See Task."""
        handshake = handshake_of(sa)
        handshake.exchange = groups.start(handshake.pending_groups[0])
        return [KePayload(handshake.pending_groups[0], handshake.exchange.public)]

    def handle(self, sa: IkeSa, payloads: Payloads, now: float) -> None:
        """See Task."""
        handshake = handshake_of(sa)
        try:
            errors = [notify.notify for notify in payloads.all(NotifyPayload) if notify.notify < FIRST_STATUS_NOTIFY]
            if errors:
                fail_handshake(sa, errors[0], f"the peer answers IKE_INTERMEDIATE with {notify_name(errors[0])}", now)
                return
            answer = payloads.require(KePayload)
            if answer.group != handshake.pending_groups[0] or handshake.exchange is None:
                raise ProtocolError("the response holds another additional key exchange than the request")
            keys = _next_keys(sa, groups.finish(handshake.exchange, answer.data))
        except IkeError as error:
            fail_handshake(sa, int(error.notify or 0), str(error), now)
            return
        handshake.exchange = None
        _switch(sa, keys)
        self._then(sa, now)


def respond(sa: IkeSa, payloads: Payloads, path: Path, now: float) -> Reply:
    """Respond to the peer's request. ProtocolError: not the expected group."""
    handshake = handshake_of(sa)
    request = payloads.require(KePayload)
    due = handshake.pending_groups[0] if handshake.pending_groups else KeGroup.NONE
    if request.group != due:
        raise ProtocolError(f"additional key exchange {request.group} is unexpected here")
    public, shared = groups.respond(due, request.data)
    keys = _next_keys(sa, shared)
    return Reply((KePayload(due, public),), lambda: _switch(sa, keys))


def _next_keys(sa: IkeSa, shared: bytes) -> IkeKeys:
    suite, keys = sa.protection.suite_and_keys()
    nonces = handshake_of(sa).nonces
    seed = additional_seed(suite.prf, keys.d, nonces, shared)
    return derive_ike_keys(suite, seed, nonces, sa.spi_i, sa.spi_r)


def _switch(sa: IkeSa, keys: IkeKeys) -> None:
    suite, _ = sa.protection.suite_and_keys()
    handshake_of(sa).pending_groups.pop(0)
    sa.use_keys(suite, keys)
