"""What a handler returns."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from warren_ikev2.wire.payloads import NotifyPayload, Payload


@dataclass(frozen=True, slots=True)
class Reply:
    """A response's payloads, and what to do once it is sent."""

    payloads: Sequence[Payload] = ()
    then: Callable[[], None] | None = None
    """For what must not precede the response: new keys, the end of the IKE_SA."""


def refuse(notify: int, data: bytes = b"") -> Reply:
    """A response that is one error notify."""
    return Reply((NotifyPayload(notify, data),))
