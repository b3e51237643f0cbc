"""Read headers of messages. Names differ in case from one writer to another; NATS preserves them.

`Nats-Request-Info`, the server's header about the caller, is accepted only where the server wrote it. The server removes a caller's
own header of this name and adds its line at the end of the block, but it trusts the block's length: of a block that does not end in
two line ends it cuts the last two bytes, and its line becomes the end of what the caller wrote last. So the name may appear in a
block once, in any case, and only as the complete last line.
"""

import re
from collections.abc import Mapping

HEADER_REQUEST_INFO = "Nats-Request-Info"
FORGED = "(forged)"  # no JSON: the value in place of a caller that cannot be verified

_VERSION = b"NATS/1.0"
_NAME = HEADER_REQUEST_INFO.lower().encode()
_GENUINE = re.compile(rb"NATS/1\.0\r\n(?:[^\r\n]+\r\n)*Nats-Request-Info: [^\r\n]+\r\n\r\n")


def header(headers: Mapping[str, str] | None, name: str) -> str:
    """A header's value in any case of its name; empty when it is absent. Not for `Nats-Request-Info`."""
    if not headers:
        return ""
    if name in headers:
        return headers[name]
    lower = name.lower()
    return next((value for key, value in headers.items() if key.lower() == lower), "")


def is_block(block: bytes) -> bool:
    """Whether these bytes begin like a block of headers: with the version, then a line end or a status."""
    return block.startswith(_VERSION) and block[len(_VERSION) :].startswith((b"\r\n", b" "))


def names_a_caller(block: bytes) -> bool:
    """Whether a raw block contains the name of the server's header, anywhere and in any case."""
    return _NAME in block.lower()


def is_genuine(block: bytes) -> bool:
    """Whether a raw block that names a caller has exactly the line that the server writes, where it writes it."""
    return block.lower().count(_NAME) == 1 and _GENUINE.fullmatch(block) is not None
