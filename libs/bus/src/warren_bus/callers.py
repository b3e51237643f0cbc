"""Who called an RPC: the server says it in `Nats-Request-Info`, and overwrites what a caller might write there."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from warren_bus.headers import header
from warren_contracts.problems import Forbidden

HEADER_REQUEST_INFO = "Nats-Request-Info"
AGENTS = "AGENTS"
OPS = "OPS"


@dataclass(frozen=True, slots=True)
class Caller:
    """The account and the user of a call from another account; both empty for a service of CTRL itself."""

    account: str
    user: str


def parse_caller(headers: Mapping[str, str] | None) -> Caller:
    """The caller by the server's header; raises Forbidden when it cannot be read."""
    text = header(headers, HEADER_REQUEST_INFO)
    if not text:
        return Caller("", "")
    try:
        info = json.loads(text)
        return Caller(str(info.get("acc", "")), str(info.get("user", "")))
    except (ValueError, AttributeError, RecursionError):
        raise Forbidden("the server's word on the caller cannot be read") from None


def require_agent(headers: Mapping[str, str] | None, user: str) -> None:
    """Raise Forbidden unless the call comes from this user (a peer id or, before enrolment, an nkey) of AGENTS."""
    if parse_caller(headers) != Caller(AGENTS, user):
        raise Forbidden("the call does not come from the peer that its subject names")


def require_service(headers: Mapping[str, str] | None) -> None:
    """Raise Forbidden unless the call comes from inside CTRL."""
    if parse_caller(headers) != Caller("", ""):
        raise Forbidden("only services call this")
