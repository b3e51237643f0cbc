"""Fragmentation of encrypted messages (RFC 7383), and sealing in general.

Sending: payloads that do not fit one datagram become SKF messages of equal size. Receiving: each fragment is decrypted, and so
authenticated, before it is stored; a larger total replaces the set (2.6), a smaller one is ignored. The size of each message is
limited, and that of all incomplete messages of an endpoint by a `FragmentBudget`.
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
"""Bytes counted for a stored fragment in addition to its payloads: its object and table entry (about 76 on CPython)."""


def datagram_capacity(fragment_size: int, path: Path) -> int:
    """Bytes of IKE message in an IP datagram of `fragment_size` (RFC 7383, 2.5.1); space for the marker is always reserved."""
    ip_header = 20 if path.remote.host.version == 4 else 40
    return fragment_size - ip_header - _UDP_HEADER - _MARKER


def seal(cipher: SkCipher, header: Header, first: int, chain: bytes, capacity: int | None) -> list[bytes]:
    """The messages, one or several, that carry a chain of payloads; `capacity` None: never fragment."""
    body_size = cipher.sealed_size(len(chain))
    if capacity is None or HEADER_SIZE + _GENERIC_HEADER + body_size <= capacity:
        return [_seal_one(cipher, header, PayloadType.SK, first, b"", chain)]
    chunk = _chunk_size(cipher, capacity)
    chunks = [chain[offset : offset + chunk] for offset in range(0, len(chain), chunk)]
    total = len(chunks).to_bytes(2, "big")
    return [
        _seal_one(cipher, header, PayloadType.SKF, first if number == 1 else 0, number.to_bytes(2, "big") + total, part)
        for number, part in enumerate(chunks, 1)
    ]


def _chunk_size(cipher: SkCipher, capacity: int) -> int:
    available = capacity - HEADER_SIZE - _GENERIC_HEADER - _FRAGMENT_HEADER
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
    """The limit of bytes in incomplete messages, over many IKE_SAs. Beyond it the oldest message is evicted.

    Eviction instead of refusal: a peer that fills the budget cannot lock others out, since the fragments of a valid message
    arrive within milliseconds, and lost ones are retransmitted.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        """Bytes now, with FRAGMENT_OVERHEAD for each fragment."""
        self._owners: dict[_MessageFragments, Reassembly] = {}

    def charge(self, parts: "_MessageFragments", owner: "Reassembly", size: int) -> None:
        """Count the bytes by which a message has grown; evicts the oldest messages, possibly this one."""
        self._owners.setdefault(parts, owner)
        parts.charged += size
        self.held += size
        while self.held > self.limit:
            oldest = next(iter(self._owners))
            self._owners[oldest].discard(oldest.message_id)

    def release(self, parts: "_MessageFragments") -> None:
        """Release the bytes of a message that is complete or discarded."""
        if self._owners.pop(parts, None) is not None:
            self.held -= parts.charged


@dataclass(slots=True, eq=False)
class _MessageFragments:
    """The fragments of one message."""

    message_id: int
    total: int
    first: int = 0
    size: int = 0
    charged: int = 0
    parts: dict[int, bytes] = field(default_factory=dict)


@dataclass(slots=True)
class Reassembly:
    """The fragments of the messages of a window; their total size is limited to that of one message."""

    max_fragments: int
    max_bytes: int
    max_messages: int = 1
    """A further message replaces the oldest."""
    budget: FragmentBudget | None = None
    """Shared with other IKE_SAs; None: unlimited."""
    _messages: dict[int, _MessageFragments] = field(default_factory=dict)

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
        """Discard the fragments of a message."""
        parts = self._messages.pop(message_id, None)
        if parts is not None and self.budget is not None:
            self.budget.release(parts)

    def clear(self) -> None:
        """Forget everything."""
        for message_id in list(self._messages):
            self.discard(message_id)

    def move_to(self, budget: FragmentBudget) -> None:
        """Discard all fragments, and use another budget from now on."""
        self.clear()
        self.budget = budget

    def _begin(self, message_id: int, total: int) -> _MessageFragments:
        self.discard(message_id)
        while len(self._messages) >= self.max_messages:
            self.discard(next(iter(self._messages)))
        found = self._messages[message_id] = _MessageFragments(message_id, total)
        return found

    def _complete(self, message_id: int, found: _MessageFragments) -> tuple[int, bytes]:
        self.discard(message_id)
        return found.first, b"".join(found.parts[number] for number in range(1, found.total + 1))


class IncompleteMessages:
    """The fragments of both directions of an IKE_SA: those of the peer's requests, and of its responses to ours."""

    def __init__(self, max_fragments: int, max_bytes: int, budget: FragmentBudget | None = None) -> None:
        self.requests = Reassembly(max_fragments, max_bytes, budget=budget)
        self.responses = Reassembly(max_fragments, max_bytes, budget=budget)

    def add(self, header: Header, part: EncryptedPart, plaintext: bytes) -> tuple[int, bytes] | None:
        """See `Reassembly.add`."""
        reassembly = self.responses if header.is_response else self.requests
        return reassembly.add(header.message_id, part, plaintext)

    def clear(self) -> None:
        """Forget everything."""
        self.requests.clear()
        self.responses.clear()

    def move_to(self, budget: FragmentBudget) -> None:
        """Discard all fragments, and use another budget from now on."""
        self.requests.move_to(budget)
        self.responses.move_to(budget)
