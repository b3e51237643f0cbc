"""Fragmentation of encrypted messages (RFC 7383), and sealing in general.

Sending: payloads that do not fit one datagram become SKF messages of equal size. Receiving: each fragment is opened, and so
authenticated, before it is kept; a larger total replaces the set (2.6), a smaller one is ignored. One message is bounded by
itself, all messages of an endpoint together by a `FragmentBudget`.
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
FRAGMENT_OVERHEAD = 128
"""Bytes that count for a kept fragment next to its payloads: its object and its place in a table (about 76 on CPython)."""


def datagram_capacity(fragment_size: int, path: Path) -> int:
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


class FragmentBudget:
    """Bytes of unfinished messages, over many IKE_SAs. Where they become too many, the oldest message gives way.

    Giving way, not refusing: whoever fills the budget cannot keep others out, since the fragments of an honest message
    arrive within milliseconds, and a lost one is repeated.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        """Bytes now, with FRAGMENT_OVERHEAD for each fragment."""
        self._owners: dict[_Parts, Reassembly] = {}

    def charge(self, parts: "_Parts", owner: "Reassembly", size: int) -> None:
        """A message has grown; it may be the one that gives way."""
        self._owners.setdefault(parts, owner)
        parts.charged += size
        self.held += size
        while self.held > self.limit:
            oldest = next(iter(self._owners))
            self._owners[oldest].discard(oldest.message_id)

    def release(self, parts: "_Parts") -> None:
        """A message is complete, or forgotten."""
        if self._owners.pop(parts, None) is not None:
            self.held -= parts.charged


@dataclass(slots=True, eq=False)
class _Parts:
    """The fragments of one message."""

    message_id: int
    total: int
    first: int = 0
    size: int = 0
    charged: int = 0
    parts: dict[int, bytes] = field(default_factory=dict)


@dataclass(slots=True)
class Reassembly:
    """The fragments of the messages of a window, together no longer than one message may be."""

    max_fragments: int
    max_bytes: int
    max_messages: int = 1
    """A message more than that takes the place of the oldest."""
    budget: FragmentBudget | None = None
    """What it shares with others; None: nothing."""
    _messages: dict[int, _Parts] = field(default_factory=dict)

    def add(self, message_id: int, part: EncryptedPart, plaintext: bytes) -> tuple[int, bytes] | None:
        """First payload type and payloads once complete. MalformedMessageError: more than the bounds allow."""
        if part.total > self.max_fragments:
            raise MalformedMessageError(f"{part.total} fragments")
        found = self._messages.get(message_id)
        if found is None or part.total > found.total:
            found = self._begin(message_id, part.total)
        if part.total < found.total or part.number in found.parts:
            return None
        found.size += len(plaintext)
        if sum(message.size for message in self._messages.values()) > self.max_bytes:
            self.discard(message_id)
            raise MalformedMessageError("the fragments exceed the message size")
        found.parts[part.number] = plaintext
        if part.number == 1:
            found.first = part.next_payload
        if len(found.parts) == found.total:
            return self._complete(message_id, found)
        if self.budget is not None:
            self.budget.charge(found, self, len(plaintext) + FRAGMENT_OVERHEAD)
        return None

    def discard(self, message_id: int) -> None:
        """Forget a message's fragments."""
        parts = self._messages.pop(message_id, None)
        if parts is not None and self.budget is not None:
            self.budget.release(parts)

    def clear(self) -> None:
        """Forget everything."""
        for message_id in list(self._messages):
            self.discard(message_id)

    def move_to(self, budget: FragmentBudget) -> None:
        """Forget everything, and share another budget from now on."""
        self.clear()
        self.budget = budget

    def _begin(self, message_id: int, total: int) -> _Parts:
        self.discard(message_id)
        while len(self._messages) >= self.max_messages:
            self.discard(next(iter(self._messages)))
        found = self._messages[message_id] = _Parts(message_id, total)
        return found

    def _complete(self, message_id: int, found: _Parts) -> tuple[int, bytes]:
        self.discard(message_id)
        return found.first, b"".join(found.parts[number] for number in range(1, found.total + 1))
