"""One question over a Unix socket. Who answers there is not trusted to be short, quick, or of this version."""

import socket
from pathlib import Path
from time import monotonic

_PART = 1 << 20


class TooLongError(ValueError):
    """The answer exceeds the limit."""


def exchange(path: Path, request: bytes, limit_s: float, max_bytes: int) -> bytes:
    """Send a request and return all that comes until the other end closes; nothing if it closes at once.

    OSError: nobody is there, or the whole takes more than `limit_s` seconds. TooLongError: it is more than `max_bytes`.
    """
    deadline = monotonic() + limit_s
    received = bytearray()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(limit_s)
        connection.connect(str(path))
        try:
            connection.sendall(request)
            while part := connection.recv(_PART):
                received += part
                if len(received) > max_bytes:
                    raise TooLongError(f"an answer of more than {max_bytes:,} bytes")
                left = deadline - monotonic()
                if left <= 0:
                    raise TimeoutError
                connection.settimeout(left)
        except (ConnectionResetError, BrokenPipeError):
            return b""
    return bytes(received)
