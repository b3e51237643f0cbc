"""The operator's end of the control socket."""

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from warren_process.control_socket import exchange
from warren_vpn.server.control import MAX_REPLY, ControlRefused, Request
from warren_vpn.server.errors import ControlSocketError, ServerError

_LIMIT_S = 10.0
Answer = TypeVar("Answer", bound=BaseModel)


def ask(path: Path, request: Request, kind: type[Answer]) -> Answer:
    """Send a request and read the reply. ControlSocketError: nobody answers; ServerError: the server refuses, with its reason."""
    try:
        received = exchange(path, request.model_dump_json().encode(), limit_s=_LIMIT_S, max_reply=MAX_REPLY)
    except OSError as error:
        reason = error.strerror or "no answer"
        raise ControlSocketError(f"{path}: {reason}: is the server running? (warren vpn server run)") from None
    except ValueError as error:
        raise ControlSocketError(f"{path}: {error}: the server has another version") from None
    if not received:
        raise ControlSocketError(f"{path}: the server does not answer this user: be root, or the server's own user")
    try:
        return kind.model_validate_json(received, extra="forbid")
    except ValidationError:
        pass
    try:
        raise ServerError(ControlRefused.model_validate_json(received).refused)
    except ValidationError:
        raise ControlSocketError(f"{path}: an unreadable reply: the server has another version") from None
