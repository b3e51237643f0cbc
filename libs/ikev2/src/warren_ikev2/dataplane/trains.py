"""What every form of the batched path knows of trains: their limits, and the sizes and trailers of their packets."""

from typing import NamedTuple

from warren_ikev2.esp.sa import InboundSa
from warren_ikev2.esp.transforms import AeadTransform

MAX_SEGMENTS = 64
"""Packets of one UDP_SEGMENT send, the limit of kernels before 6.9; UDP_GRO has the same."""
MAX_TRAIN = 65507
"""Bytes of one UDP datagram over IPv4 (65,535 less the IP and UDP headers)."""
RECEIVE_ROWS, RECEIVE_BYTES = 192, 4 * 65536
"""Packets and bytes that are opened at once if trains of one SA are waiting: four of full size."""
HEAD, TAG = 16, 16
"""Bytes before and after the ciphertext of an AEAD's ESP packet: SPI, sequence number and IV; tag."""
ENDINGS = {
    version: tuple(bytes(range(1, pad + 1)) + bytes((pad, number)) for pad in range(4))
    for version, number in ((4, 4), (6, 41))
}
"""IP version -> pad length -> padding, pad length, next header (RFC 4303, 2.4 to 2.6), for a cipher that aligns to 4."""
_SMALLEST_STRIDE = HEAD + 48 + TAG
"""Bytes: an ESP packet with less carries no TCP segment with payload; a row a packet costs more than it saves."""
_LOW = 0xFFFFFFFF


class Train(NamedTuple):
    """ESP packets of `stride` bytes each, one after the other; only the last may be shorter."""

    parts: tuple[bytes | memoryview, ...]
    stride: int
    packets: int


def may_be_opened(
    sa: InboundSa, stride: int, count: int, most_rows: int = MAX_SEGMENTS, most_bytes: int = MAX_TRAIN
) -> AeadTransform | None:
    """The SA's transform, if trains of `count` packets with `stride` bytes can be opened at once."""
    transform = sa.transform
    if (
        isinstance(transform, AeadTransform)
        and not stride & 3
        and stride >= _SMALLEST_STRIDE
        and 2 <= count <= min(most_rows, sa.replay.size)
        and stride * count <= most_bytes
    ):
        return transform
    return None


def first_sequence(sa: InboundSa, low: int, count: int) -> int | None:
    """The full number of the first of `count` consecutive packets whose header carries `low`, if all are right of the top."""
    if low + count > _LOW:
        return None
    replay = sa.replay
    first = replay.infer(low)
    return first if first > replay.top and replay.infer(low + count - 1) == first + count - 1 else None
