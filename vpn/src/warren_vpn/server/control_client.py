"""The operator's end of the control socket."""

import socket
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from warren_vpn.server.control import MAX_REPLY, ControlRefused, Request
from warren_vpn.server.errors import ControlError, ServerError

_LIMIT_S = 10.0
Answer = TypeVar("Answer", bound=BaseModel)


def ask(path: Path, request: Request, kind: type[Answer]) -> Answer:
    """Send a request and read the reply. ControlError: nobody answers; ServerError: the server refuses, with its reason."""
    received = bytearray()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_LIMIT_S)
        try:
            connection.connect(str(path))
            connection.sendall(request.model_dump_json().encode() + b"\n")
            while part := connection.recv(1 << 20):
                received += part
                if len(received) > MAX_REPLY:
                    raise ControlError(f"{path}: a reply of more than {MAX_REPLY:,} bytes")
        except (ConnectionResetError, BrokenPipeError):
            received.clear()
        except OSError as error:
            reason = error.strerror or "no answer"
            raise ControlError(f"{path}: {reason}: is the server running? (warren vpn server run)") from None
    if not received:
        raise ControlError(f"{path}: the server does not answer this user: be root, or the server's own user")
    try:
        return kind.model_validate_json(bytes(received), extra="forbid")
    except ValidationError:
        pass
    try:
        raise ServerError(ControlRefused.model_validate_json(bytes(received)).refused)
    except ValidationError:
        raise ControlError(f"{path}: an unreadable reply: the server has another version") from None
