"""Errors of the API server itself. A docstring is the default detail, with its remedy."""

from warren_contracts.problems import InvalidInputError, UnavailableError, WarrenError


class BusUnavailableError(UnavailableError):
    """NATS is unavailable: the API server reconnects; repeat the call in a moment."""


# The command that shows whether a change without a reply was executed nevertheless.
_LOOK = {
    ("policy", "apply"): "warren policy list",
    ("policy", "delete"): "warren policy list",
    ("registry", "advance_epoch"): "warren events --kind epoch",
    ("registry", "retag"): "warren peers",
    ("registry", "set_priority"): "warren peers",
    ("registry", "revoke"): "warren peers",
    ("registry", "order_tunnel"): "warren tunnels show",
}


def unanswered(service: str, verb: str, detail: str) -> UnavailableError:
    """The error of a call without a reply: a requested change may still be executed, and the caller must know."""
    look = _LOOK.get((service, verb))
    remedy = f"it may still be executed: check with `{look}`" if look else "`warren health` shows what is unavailable"
    return UnavailableError(f"{detail}; {remedy}")


class TooManyEventStreamsError(UnavailableError):
    """Too many event streams are open: close one, or read the stream EVENT on the bus."""


class TooManyStreamsOfTokenError(WarrenError):
    """This token has 32 event streams open: close one of them, or use a separate token for each system."""

    code = "too-many-listeners"
    status = 429


class TooManyStreamsOfAddressError(WarrenError):
    """64 live streams are open from this address: close one of them, or use one for several readers."""

    code = "too-many-listeners"
    status = 429


class TooManyFailedTokensError(WarrenError):
    """Too many unknown bearer tokens came from this address: wait a second, and find the client with an outdated token."""

    code = "too-many-wrong-tokens"
    status = 429


class ForeignOriginError(WarrenError):
    """A page of another origin asked for a change with this browser's session (header Origin): open the page of this server."""

    code = "foreign-origin"
    status = 403


class PageMissingError(WarrenError):
    """The page is not part of this installation: run `make web` and start the API server again. The API is at /api."""

    code = "page-missing"
    status = 404


class TooManyConnectionsError(UnavailableError):
    """Too many connections are open: repeat the call in a moment, and close connections that are not used."""


class TooManyConnectionsOfAddressError(WarrenError):
    """Too many connections are open from this address: close those that are not used. A reverse proxy is named in
    WARREN_TRUSTED_PROXIES, which lifts this limit for it."""

    code = "too-many-connections"
    status = 429


class AmbiguousLengthError(InvalidInputError):
    """The request has Transfer-Encoding and Content-Length: send one of them (RFC 9112, 6.3)."""

    code = "ambiguous-length"
    status = 400


class RequestTimeoutError(WarrenError):
    """The request did not arrive completely in time: send its headers within 10 s and its body within 60 s."""

    code = "request-too-slow"
    status = 408


class BodyTooLargeError(WarrenError):
    """The body is larger than what one message of the bus carries: apply fewer policies at once."""

    code = "body-too-large"
    status = 413


class UnsupportedMediaTypeError(WarrenError):
    """The content type is not JSON: send the header `Content-Type: application/json`."""

    code = "unsupported-media-type"
    status = 415


class PolicySetTooLargeError(InvalidInputError):
    """The set of one reader is too large for a message: distribute it over several tags."""

    code = "policy-set-too-large"


class PreconditionFailedError(WarrenError):
    """The policy has another version by now: read it again and repeat with its new ETag."""

    code = "precondition-failed"
    status = 412


class MovedToBusError(WarrenError):
    """This is done on the bus, not over HTTP."""

    code = "on-the-bus"
    title = "Moved to the bus"
    status = 410


class ScopeTooLargeError(WarrenError):
    """The scope of this token has more than 10,000 peers: use a token with fewer tags, or one for the whole fleet."""

    code = "scope-too-large"
    status = 403
