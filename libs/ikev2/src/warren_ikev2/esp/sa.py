"""One ESP SA in one direction, tunnel mode (RFC 4303, 3.3 and 3.4)."""

import struct

from warren_ikev2.children import EspKeys
from warren_ikev2.esp.drops import DropReason, PacketDroppedError
from warren_ikev2.esp.ecn import decapsulate
from warren_ikev2.esp.inner import PROTO_IPV4, PROTO_IPV6, PROTO_NO_NEXT, packet_length
from warren_ikev2.esp.replay import DEFAULT_WINDOW, ReplayWindow
from warren_ikev2.esp.selectors import SelectorCheck
from warren_ikev2.esp.transforms import build_transform
from warren_ikev2.randomness import RandomBytes
from warren_ikev2.suites import EspSuite

_SEQUENCE = struct.Struct(">I").unpack_from
_NEXT_HEADER = {4: PROTO_IPV4, 6: PROTO_IPV6}
_PADDING = bytes(range(1, 256))
_ENDINGS_OF_VERSION = {
    version: tuple(_PADDING[:pad] + bytes((pad, number)) for pad in range(256))
    for version, number in _NEXT_HEADER.items()
}
_ENDINGS = tuple(_ENDINGS_OF_VERSION.get(first >> 4, ()) for first in range(256))
"""First byte of the inner packet -> pad length -> padding 1, 2, 3…, pad length, next header (RFC 4303, 2.4)."""


class OutboundSa:
    """Protects packets that leave. `sequence` is the number of the last packet sent.

    Without ESN the counter never cycles: after 2^32 - 1 packets `seal` raises `PacketDroppedError(EXHAUSTED)`.
    `ConfigurationError` for keys that ESP cannot use.
    """

    __slots__ = ("_alignment", "_limit", "_seal", "octets", "selectors", "sequence", "spi", "transform")

    def __init__(
        self, spi: int, suite: EspSuite, keys: EspKeys, selectors: SelectorCheck, random_bytes: RandomBytes
    ) -> None:
        self.spi = spi
        self.selectors = selectors
        self.transform = build_transform(suite, keys, random_bytes)
        self.sequence = 0
        self.octets = 0
        self._limit = (1 << 64) - 1 if suite.esn else (1 << 32) - 1
        self._alignment = self.transform.alignment
        self._seal = self.transform.seal

    @property
    def remaining(self) -> int:
        """Sequence numbers left."""
        return self._limit - self.sequence

    def seal(self, packet: bytes) -> bytes:
        """Encapsulate an IP packet; it must be one that the SA may carry (see `SaTable.outbound_for`)."""
        sequence = self.sequence + 1
        if sequence > self._limit:
            raise PacketDroppedError(DropReason.EXHAUSTED)
        length = len(packet)
        self.sequence = sequence
        self.octets += length
        return self._seal(self.spi, sequence, packet + _ENDINGS[packet[0]][-(length + 2) % self._alignment])

    def seal_all(self, packets: list[bytes]) -> list[bytes]:
        """Encapsulate packets as `seal` does, in order. Raises `PacketDroppedError(EXHAUSTED)`, with none sealed, if there are
        not enough sequence numbers.
        """
        first = self.reserve(len(packets), sum(map(len, packets)))
        alignment = self._alignment
        plaintexts = [packet + _ENDINGS[packet[0]][-(len(packet) + 2) % alignment] for packet in packets]
        return self.transform.seal_all(self.spi, first, plaintexts)

    def seal_dummy(self, length: int = 0) -> bytes:
        """A dummy packet with `length` bytes of zeroes (RFC 4303, 2.6)."""
        pad = -(length + 2) % self._alignment
        return self.protect(bytes(length) + _PADDING[:pad] + bytes((pad, PROTO_NO_NEXT)))

    def reserve(self, count: int, octets: int) -> int:
        """Take the sequence numbers of `count` packets that the caller seals itself; returns the first.

        `octets` is the length of their inner packets together. Raises `PacketDroppedError(EXHAUSTED)`, with none taken.
        """
        first = self.sequence + 1
        if self.sequence + count > self._limit:
            raise PacketDroppedError(DropReason.EXHAUSTED)
        self.sequence += count
        self.octets += octets
        return first

    def protect(self, plaintext: bytes) -> bytes:
        """Seal a plaintext that has its trailer already, under the next sequence number."""
        sequence = self.sequence + 1
        if sequence > self._limit:
            raise PacketDroppedError(DropReason.EXHAUSTED)
        self.sequence = sequence
        return self._seal(self.spi, sequence, plaintext)


class InboundSa:
    """Opens packets that arrive. `window` is the size of the anti-replay window in packets."""

    __slots__ = ("_esn", "_open", "_shortest", "octets", "packets", "replay", "selectors", "spi", "transform")

    def __init__(
        self,
        spi: int,
        suite: EspSuite,
        keys: EspKeys,
        selectors: SelectorCheck,
        random_bytes: RandomBytes,
        *,
        window: int = DEFAULT_WINDOW,
    ) -> None:
        self.spi = spi
        self.selectors = selectors
        self.transform = build_transform(suite, keys, random_bytes)
        self.replay = ReplayWindow(window, esn=suite.esn)
        self.packets = 0
        self.octets = 0
        self._esn = suite.esn
        self._open = self.transform.open
        self._shortest = 8 + self.transform.iv_length + self.transform.alignment + self.transform.icv_length

    def open(self, packet: bytes, outer_tos: int = 0) -> bytes:
        """Decapsulate an ESP packet; raises `PacketDroppedError` with the reason.

        `outer_tos` is the DSCP and ECN byte of the outer header. The order is that of RFC 4303, 3.4: replay check,
        integrity, window update, padding; then RFC 4301, 5.2: the inner packet must be one that this SA may carry.
        """
        if len(packet) < self._shortest:
            raise PacketDroppedError(DropReason.MALFORMED)
        replay = self.replay
        (sequence,) = _SEQUENCE(packet, 4)
        if self._esn:
            sequence = replay.infer(sequence)
        if sequence <= replay.top:
            replay.check(sequence)
        plaintext = self._open(packet, sequence)
        replay.update(sequence)
        return self.accept(plaintext, outer_tos)

    def is_newest(self, packet: bytes) -> bool:
        """Whether a packet that was opened has the highest sequence number so far."""
        return int.from_bytes(packet[4:8], "big") == self.replay.top & 0xFFFFFFFF

    def accept(self, plaintext: bytes, outer_tos: int = 0) -> bytes:
        """The second half of `open`, for an authentic plaintext whose sequence number is recorded."""
        inner = _strip(plaintext)
        if not self.selectors.allows(inner):
            raise PacketDroppedError(DropReason.SELECTOR)
        self.packets += 1
        self.octets += len(inner)
        return decapsulate(inner, outer_tos) if outer_tos & 3 else inner


def _strip(plaintext: bytes) -> bytes:
    """The inner packet without padding; what exceeds its own length is TFC padding (RFC 4303, 2.7)."""
    endings = _ENDINGS[plaintext[0]]
    if endings:
        ending = endings[plaintext[-2]]
        length = packet_length(plaintext)
        if plaintext[length:] == ending:
            return plaintext[:length]
        if 0 < length <= len(plaintext) - len(ending) and plaintext.endswith(ending):
            return plaintext[:length]
    raise PacketDroppedError(DropReason.DUMMY if plaintext[-1] == PROTO_NO_NEXT else DropReason.MALFORMED)
