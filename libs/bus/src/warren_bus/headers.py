"""Header names differ in case from one writer to another; NATS keeps them as they are. One header is not like the others:
what the server says of the caller is believed only where the server wrote it.

The server removes a caller's own `Nats-Request-Info` and adds its line at the end of the block, but it trusts the block's
length: of one that does not end in two line ends it cuts the last two bytes, and its line becomes the end of whatever the
caller wrote last. So the name may stand in a block once, in whatever case, and only as the whole last line.
"""

import re
from collections.abc import Mapping

HEADER_REQUEST_INFO = "Nats-Request-Info"
FORGED = "(forged)"  # no JSON: what stands for a caller that cannot be believed

_VERSION = b"NATS/1.0"
_NAME = HEADER_REQUEST_INFO.lower().encode()
_GENUINE = re.compile(rb"NATS/1\.0\r\n(?:[^\r\n]+\r\n)*Nats-Request-Info: [^\r\n]+\r\n\r\n")


def header(headers: Mapping[str, str] | None, name: str) -> str:
    """A header's value whatever the case of its name; empty when it is absent. Never for what the server says of a caller."""
    if not headers:
        return ""
    if name in headers:
        return headers[name]
    wanted = name.lower()
    return next((value for key, value in headers.items() if key.lower() == wanted), "")


def is_block(block: bytes) -> bool:
    """Whether these bytes begin as a block of headers does: with the version, then a line end or a status."""
    return block.startswith(_VERSION) and block[len(_VERSION) :].startswith((b"\r\n", b" "))


def names_a_caller(block: bytes) -> bool:
    """Whether a raw block holds the name of the server's header, wherever and in whatever case."""
    return _NAME in block.lower()


def is_genuine(block: bytes) -> bool:
    """Whether a raw block that names a caller holds exactly what the server writes, where it writes it."""
    return block.lower().count(_NAME) == 1 and _GENUINE.fullmatch(block) is not None
