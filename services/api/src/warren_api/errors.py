"""What the door itself refuses. A docstring is the default detail, with its remedy."""

from typing import ClassVar

from warren_contracts.problems import InvalidInputError, UnavailableError, WarrenError


class BusUnavailableError(UnavailableError):
    """NATS is unavailable: it is reconnected to all the time; repeat the call in a moment."""


# Where to look whether a change that nobody answered to was carried out all the same.
_LOOK = {
    ("policy", "apply"): "warren policy list",
    ("policy", "delete"): "warren policy list",
    ("registry", "advance_epoch"): "warren events --kind epoch",
    ("registry", "retag"): "warren peers",
    ("registry", "revoke"): "warren peers",
}


def unanswered(service: str, verb: str, detail: str) -> UnavailableError:
    """A call without an answer: a change that was asked for may have begun, and whoever asked must know."""
    look = _LOOK.get((service, verb))
    remedy = f"it may still be carried out: look with `{look}`" if look else "`warren health` says what is unavailable"
    return UnavailableError(f"{detail}; {remedy}")


class TooManyEventStreamsError(UnavailableError):
    """Too many clients listen to events: close one, or read the stream EVENT on the bus."""


class TooManyStreamsOfTokenError(WarrenError):
    """This token listens to events 32 times already: close one of its streams, or use a token of its own for each system."""

    code: ClassVar[str] = "too-many-listeners"
    title: ClassVar[str] = "Too many listeners"
    status: ClassVar[int] = 429


class TooManyFailedTokensError(WarrenError):
    """Too many wrong bearer tokens came from this address: wait a second, and look which client has an old token."""

    code: ClassVar[str] = "too-many-wrong-tokens"
    title: ClassVar[str] = "Too many wrong tokens"
    status: ClassVar[int] = 429


class TooManyConnectionsError(UnavailableError):
    """Too many connections are open: repeat the call in a moment, and close connections that are not used."""


class RequestTimeoutError(WarrenError):
    """The request did not arrive whole in time: send its headers within 10 s and its body within 60 s."""

    code: ClassVar[str] = "request-too-slow"
    title: ClassVar[str] = "Request too slow"
    status: ClassVar[int] = 408


class BodyTooLargeError(WarrenError):
    """The body is larger than what one message of the bus carries: apply fewer policies at once."""

    code: ClassVar[str] = "body-too-large"
    title: ClassVar[str] = "Body too large"
    status: ClassVar[int] = 413


class UnsupportedMediaTypeError(WarrenError):
    """The body is not said to be JSON: send it with the header `Content-Type: application/json`."""

    code: ClassVar[str] = "unsupported-media-type"
    title: ClassVar[str] = "Unsupported media type"
    status: ClassVar[int] = 415


class PolicySetTooLargeError(InvalidInputError):
    """The set of one reader is too large to travel: split it over several tags."""

    code: ClassVar[str] = "policy-set-too-large"
    title: ClassVar[str] = "Policy set too large"


class PreconditionFailedError(WarrenError):
    """The policy has another version by now: read it again and repeat with its new ETag."""

    code: ClassVar[str] = "precondition-failed"
    title: ClassVar[str] = "Precondition failed"
    status: ClassVar[int] = 412


class MovedToBusError(WarrenError):
    """This happens on the bus, not over HTTP."""

    code: ClassVar[str] = "on-the-bus"
    title: ClassVar[str] = "Gone to the bus"
    status: ClassVar[int] = 410
