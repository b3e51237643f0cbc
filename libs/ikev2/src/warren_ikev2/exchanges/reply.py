"""The response that a handler returns."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from warren_ikev2.wire.payloads import NotifyPayload, Payload


@dataclass(frozen=True, slots=True)
class Reply:
    """The payloads of a response, and an action for after it was sent."""

    payloads: Sequence[Payload] = ()
    then: Callable[[], None] | None = None
    """Changes that must not precede the response: new keys, the end of the IKE_SA."""
    deferred: bool = False
    """No response yet: a later command or timer makes it."""


def refuse(notify: int, data: bytes = b"") -> Reply:
    """Build a response of one error notify."""
    return Reply((NotifyPayload(notify, data),))
