"""Fragmentation of encrypted messages (RFC 7383), and sealing in general.

Sending: payloads that do not fit one datagram become SKF messages of equal size. Receiving: each fragment is opened, and so
authenticated, before it is kept; a larger total replaces the set (2.6), a smaller one is ignored.
"""

from dataclasses import dataclass, field

from warren_ikev2.addresses import Path
from warren_ikev2.constants import PayloadType
from warren_ikev2.crypto.sk import SkCipher
from warren_ikev2.errors import MalformedMessageError
from warren_ikev2.wire.header import HEADER_SIZE, Header, build_header
from warren_ikev2.wire.message import EncryptedPart, build_generic_header

_GENERIC_HEADER = 4
_FRAGMENT_HEADER = 4
_UDP_HEADER = 8
_MARKER = 4


def datagram_room(fragment_size: int, path: Path) -> int:
    """Bytes of IKE message in an IP datagram of `fragment_size` (RFC 7383, 2.5.1); room for the marker is always kept."""
    ip_header = 20 if path.remote.host.version == 4 else 40
    return fragment_size - ip_header - _UDP_HEADER - _MARKER


def seal(cipher: SkCipher, header: Header, first: int, chain: bytes, room: int | None) -> list[bytes]:
    """The messages, one or several, that carry a chain of payloads; `room` None: never fragment."""
    body_size = cipher.sealed_size(len(chain))
    if room is None or HEADER_SIZE + _GENERIC_HEADER + body_size <= room:
        return [_seal_one(cipher, header, PayloadType.SK, first, b"", chain)]
    chunk = _chunk_size(cipher, room)
    chunks = [chain[offset : offset + chunk] for offset in range(0, len(chain), chunk)]
    total = len(chunks).to_bytes(2, "big")
    return [
        _seal_one(cipher, header, PayloadType.SKF, first if number == 1 else 0, number.to_bytes(2, "big") + total, part)
        for number, part in enumerate(chunks, 1)
    ]


def _chunk_size(cipher: SkCipher, room: int) -> int:
    available = room - HEADER_SIZE - _GENERIC_HEADER - _FRAGMENT_HEADER
    size = available - cipher.sealed_size(0)
    while size > 1 and cipher.sealed_size(size) > available:
        size -= 1
    return max(size, 1)


def _seal_one(
    cipher: SkCipher, header: Header, kind: PayloadType, following: int, fields: bytes, plaintext: bytes
) -> bytes:
    inner = len(fields) + cipher.sealed_size(len(plaintext))
    length = HEADER_SIZE + _GENERIC_HEADER + inner
    aad = build_header(header, kind, length) + build_generic_header(following, inner) + fields
    return aad + cipher.seal(aad, plaintext)


@dataclass(slots=True)
class Reassembly:
    """The fragments of one message; a message of another id starts anew."""

    max_fragments: int
    max_bytes: int
    _message_id: int = -1
    _total: int = 0
    _size: int = 0
    _first: int = 0
    _parts: dict[int, bytes] = field(default_factory=dict)

    def add(self, message_id: int, part: EncryptedPart, plaintext: bytes) -> tuple[int, bytes] | None:
        """First payload type and payloads once complete. MalformedMessageError: more than the bounds allow."""
        if part.total > self.max_fragments:
            raise MalformedMessageError(f"{part.total} fragments")
        if message_id != self._message_id or part.total > self._total:
            self._message_id, self._total, self._size, self._first = message_id, part.total, 0, 0
            self._parts = {}
        if part.total < self._total or part.number in self._parts:
            return None
        self._size += len(plaintext)
        if self._size > self.max_bytes:
            self.clear()
            raise MalformedMessageError("the fragments exceed the message size")
        self._parts[part.number] = plaintext
        if part.number == 1:
            self._first = part.next_payload
        return self._complete() if len(self._parts) == self._total else None

    def clear(self) -> None:
        """Forget everything."""
        self._message_id, self._parts = -1, {}

    def _complete(self) -> tuple[int, bytes]:
        chain = b"".join(self._parts[number] for number in range(1, self._total + 1))
        first = self._first
        self.clear()
        return first, chain
