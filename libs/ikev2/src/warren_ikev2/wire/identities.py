"""From an ID payload to an identity."""

from warren_ikev2.constants import IdType
from warren_ikev2.errors import MalformedMessageError
from warren_ikev2.identity import Identity
from warren_ikev2.wire.payloads import IdPayload

MAX_IDENTITY = 1024  # bytes; distinguished names stay far below
_SIZES = {IdType.IPV4_ADDR: 4, IdType.IPV6_ADDR: 16}


def parse_identity(payload: IdPayload) -> Identity:
    """MalformedMessageError: of an unknown type, empty, or of a wrong size."""
    try:
        kind = IdType(payload.id_type)
    except ValueError as error:
        raise MalformedMessageError(f"an identity of unknown type {payload.id_type}") from error
    if not 0 < len(payload.data) <= MAX_IDENTITY or len(payload.data) != _SIZES.get(kind, len(payload.data)):
        raise MalformedMessageError(f"an identity of {len(payload.data)} bytes")
    return Identity(kind, payload.data)
