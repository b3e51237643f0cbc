"""The caller of an RPC from another account, by the server's header `Nats-Request-Info`.

AGENTS and OPS reach other subjects than services do, by shared imports, and a header that the caller wrote itself is replaced by
`headers.FORGED` (`client.PatchedClient`). A call without the header is nobody's: services sign theirs (`service_callers`).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from warren_bus.headers import HEADER_REQUEST_INFO
from warren_contracts.problems import ForbiddenError

AGENTS = "AGENTS"
OPS = "OPS"
_UNREADABLE = "the caller cannot be verified: send well-formed headers, and no Nats-Request-Info of your own"


@dataclass(frozen=True, slots=True)
class Caller:
    """The account and the user of a call from another account; both empty where the server names none."""

    account: str
    user: str


def parse_caller(headers: Mapping[str, str] | None) -> Caller:
    """The caller by the server's header, nobody when there is none; raises ForbiddenError when it cannot be verified."""
    named = [name for name in headers or {} if name.strip().lower() == HEADER_REQUEST_INFO.lower()]
    if not headers or not named:
        return Caller("", "")
    try:
        info = json.loads(headers[HEADER_REQUEST_INFO])
        account, user = info["acc"], info.get("user", "")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ForbiddenError(_UNREADABLE) from None
    if len(named) > 1 or not (isinstance(account, str) and account and isinstance(user, str)):
        raise ForbiddenError(_UNREADABLE)
    return Caller(account, user)


def require_agent(headers: Mapping[str, str] | None, user: str) -> None:
    """Raise ForbiddenError unless the call comes from this user (a peer id or, before enrolment, an nkey) of AGENTS."""
    if parse_caller(headers) != Caller(AGENTS, user):
        raise ForbiddenError("the call does not come from the peer that its subject names")


def require_operator(headers: Mapping[str, str] | None) -> str:
    """The operator's bus user, `op.<name>`; raises ForbiddenError unless the call comes from OPS."""
    caller = parse_caller(headers)
    if caller.account != OPS or not caller.user:
        raise ForbiddenError("only operators call this: connect with an operator's token")
    return caller.user
