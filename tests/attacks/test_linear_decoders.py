"""F16: one megabyte of pcapng options took 9.8 s to decode.

Work is counted instead of timed: a buffer that counts the bytes copied out of it by slices.
"""

import io
import struct
from typing import Any

import pytest

from warren_ikev2 import pcap
from warren_ikev2.errors import MalformedCaptureError

SIZE = 1 << 20


class Counted(bytes):
    """Bytes that count what is copied out of them."""

    copied = 0

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        if isinstance(key, slice):
            Counted.copied += len(found)
            return Counted(found)
        return found


@pytest.fixture(autouse=True)
def counting() -> None:
    Counted.copied = 0


def option(kind: int, value: bytes) -> bytes:
    return struct.pack("<HH", kind, len(value)) + value + bytes(-len(value) % 4)


@pytest.mark.parametrize(
    "each", [option(2, b""), option(2, b"x"), option(9, b"xx"), option(0, b"")], ids=["empty", "one byte", "resolution of two bytes", "end"]
)  # fmt: skip
def test_options_of_an_interface_are_read_once(each: bytes) -> None:
    options = Counted(each * (SIZE // len(each)))
    assert pcap._time_unit("<", options) == 1e-6
    assert Counted.copied <= len(options)


def test_the_last_of_many_options_is_found() -> None:
    options = Counted(option(2, b"x") * 100_000 + option(9, b"\x09"))
    assert pcap._time_unit("<", options) == 1e-9
    assert Counted.copied <= len(options)


@pytest.mark.parametrize("tail", [b"", b"\x09", b"\x09\x00", b"\x09\x00\x01", b"\x09\x00\x01\x00"])
def test_options_that_end_early_have_no_resolution(tail: bytes) -> None:
    assert pcap._time_unit("<", tail) == 1e-6


def test_a_frame_of_vlan_tags_is_read_once() -> None:
    frame = Counted(bytes(12) + b"\x81\x00\x00\x01" * (SIZE // 4))
    assert pcap._strip_ethernet(frame, pcap.Missed()) == b""
    assert Counted.copied <= 3 * len(frame)


class CountedFile(io.BytesIO):
    """A file that counts what is read of it."""

    total = 0

    def read(self, size: int | None = -1, /) -> bytes:
        found = super().read(size)
        self.total += len(found)
        return found


def block(kind: int, body: bytes) -> bytes:
    length = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + length + body + length


SECTION = block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))


@pytest.mark.parametrize("kind", [1, 3, 5, 6, 0xBAD], ids=["interfaces", "simple", "statistics", "enhanced", "unknown"])
def test_many_small_blocks_are_read_once(kind: int) -> None:
    body = struct.pack("<HHI", 1, 0, 0) if kind == 1 else bytes(20)
    count = 9_000 if kind == 1 else 50_000
    file = CountedFile(SECTION + block(kind, body) * count)
    assert list(pcap.read_capture(file)) == []
    assert file.total == len(file.getvalue())


def test_more_interfaces_than_a_capture_has_are_refused() -> None:
    file = io.BytesIO(SECTION + block(1, struct.pack("<HHI", 1, 0, 0)) * 10_001)
    with pytest.raises(MalformedCaptureError):
        list(pcap.read_capture(file))
