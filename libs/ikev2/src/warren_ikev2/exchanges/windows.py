"""SET_WINDOW_SIZE (RFC 7296, 2.3): in IKE_AUTH, and again on each successor of an IKE_SA, which begins with window 1."""

from collections.abc import Sequence
from typing import ClassVar

from warren_ikev2.configuration import ConnectionConfiguration
from warren_ikev2.constants import ExchangeType, NotifyType
from warren_ikev2.ike_sa import IkeSa
from warren_ikev2.wire.message import Payloads
from warren_ikev2.wire.payloads import NotifyPayload, Payload

_SIZE = 4


def announce(connection: ConnectionConfiguration) -> list[Payload]:
    """Return the notify of our window; empty for 1, the default."""
    size = connection.window_size
    return [NotifyPayload(NotifyType.SET_WINDOW_SIZE, size.to_bytes(_SIZE, "big"))] if size > 1 else []


def apply(sa: IkeSa, payloads: Payloads) -> None:
    """Apply the peer's window; a notify of another length is ignored."""
    notify = payloads.notify(NotifyType.SET_WINDOW_SIZE)
    if notify is not None and len(notify.data) == _SIZE:
        sa.open_windows(own=1, peers=int.from_bytes(notify.data, "big"))


class AnnounceWindow:
    """Announce our window on a new IKE_SA."""

    exchange: ClassVar[ExchangeType] = ExchangeType.INFORMATIONAL
    exclusive: ClassVar[bool] = False

    def build(self, sa: IkeSa, now: float) -> Sequence[Payload] | None:
        """See Task. None: our window has the default size."""
        sa.open_windows(own=sa.session.connection.window_size, peers=1)
        return announce(sa.session.connection) or None

    def handle(self, sa: IkeSa, payloads: Payloads, now: float) -> None:
        """Nothing to do."""
