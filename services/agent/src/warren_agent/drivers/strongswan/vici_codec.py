"""The VICI wire format as pure functions (strongSwan, src/libcharon/plugins/vici/README.md, "Protocol").

A packet on the stream is a u32 length, then a u8 type, for named types a u8 length and a name, then a message. A message
is a sequence of six kinds of elements. Names are at most 255 bytes, values 65,535 bytes, packets 512 kB: charon closes the
connection on anything larger, so that it is refused here with an error that says which.
"""

import struct
from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple

from warren_agent.drivers.strongswan.errors import ViciLimitError, ViciProtocolError

MAX_NAME = 255  # bytes; the length of a name is one byte
MAX_VALUE = 65_535  # bytes; the length of a value is two bytes
MAX_PACKET = 512 * 1024  # bytes; vici_socket.c closes the connection above it
# charon's own limit is not enforced on what it sends (a list-sa event with 1,100 children comes near it); this one only
# keeps a stray length from taking the agent's memory.
MAX_RECEIVED = 16 * 1024 * 1024  # bytes
MAX_DEPTH = 32  # sections in sections; charon's deepest message has 5

Value = bytes | list[bytes] | dict[str, "Value"]
Section = dict[str, Value]
Text = str | bytes
Writable = Text | Sequence[Text] | Mapping[str, "Writable"]
Message = Mapping[str, Writable]


class PacketType(IntEnum):
    """What a packet is."""

    CMD_REQUEST = 0
    CMD_RESPONSE = 1
    CMD_UNKNOWN = 2
    EVENT_REGISTER = 3
    EVENT_UNREGISTER = 4
    EVENT_CONFIRM = 5
    EVENT_UNKNOWN = 6
    EVENT = 7


NAMED = frozenset(
    {PacketType.CMD_REQUEST, PacketType.EVENT_REGISTER, PacketType.EVENT_UNREGISTER, PacketType.EVENT},
)

SECTION_START, SECTION_END, KEY_VALUE, LIST_START, LIST_ITEM, LIST_END = range(1, 7)

_LENGTH = struct.Struct("!I")
_U16 = struct.Struct("!H")


class Packet(NamedTuple):
    """One packet: its type, its name (empty for unnamed types) and its message, not yet parsed."""

    type: PacketType
    name: str
    payload: bytes


def build_packet(packet: Packet) -> bytes:
    """The packet with its length in front, ready for the stream. ViciLimitError above MAX_PACKET."""
    head = bytes([packet.type])
    if packet.type in NAMED:
        head += _name(packet.name)
    size = len(head) + len(packet.payload)
    if size > MAX_PACKET:
        raise ViciLimitError(f"{packet.name}: {size} bytes are more than one VICI packet holds ({MAX_PACKET})")
    return _LENGTH.pack(size) + head + packet.payload


def parse_packet(data: bytes) -> Packet:
    """The packet in `data`, which excludes the length. ViciProtocolError for anything malformed."""
    if not data:
        raise ViciProtocolError("an empty packet")
    try:
        kind = PacketType(data[0])
    except ValueError:
        raise ViciProtocolError(f"packet type {data[0]} is unknown") from None
    if kind not in NAMED:
        return Packet(kind, "", data[1:])
    name, at = _read_name(data, 1)
    return Packet(kind, name, data[at:])


class PacketReader:
    """Cuts a stream of bytes into packets; nothing is lost or repeated however the bytes arrive."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Packet]:
        """The packets that are complete with `data`. ViciProtocolError when the stream is no VICI."""
        self._buffer += data
        packets = []
        start = 0
        while len(self._buffer) - start >= _LENGTH.size:
            (size,) = _LENGTH.unpack_from(self._buffer, start)
            if size > MAX_RECEIVED:
                raise ViciProtocolError(f"a packet of {size} bytes")
            end = start + _LENGTH.size + size
            if len(self._buffer) < end:
                break
            packets.append(parse_packet(bytes(self._buffer[start + _LENGTH.size : end])))
            start = end
        del self._buffer[:start]
        return packets


def build_message(section: Message) -> bytes:
    """A message as VICI elements: mappings are sections, sequences lists, text and bytes values.

    TypeError for anything else: VICI has no numbers and no booleans, and `str(None)` would reach charon as a word.
    ViciLimitError names the key that is too long.
    """
    out = bytearray()
    _build_section(out, section)
    return bytes(out)


def _build_section(out: bytearray, section: Message) -> None:
    for key, value in section.items():
        if isinstance(value, Mapping):
            out.append(SECTION_START)
            out += _name(key)
            _build_section(out, value)
            out.append(SECTION_END)
        elif isinstance(value, str | bytes):
            out.append(KEY_VALUE)
            out += _name(key)
            out += _blob(key, value)
        elif isinstance(value, Sequence):
            out.append(LIST_START)
            out += _name(key)
            for item in value:
                out.append(LIST_ITEM)
                out += _blob(key, item)
            out.append(LIST_END)
        else:
            raise TypeError(f"{key}: VICI carries text, bytes, lists and sections, not {type(value).__name__}")


def _name(name: str) -> bytes:
    data = name.encode()
    if len(data) > MAX_NAME:
        raise ViciLimitError(f"the name {name[:40]!r}... has {len(data)} bytes; VICI allows {MAX_NAME}")
    return bytes([len(data)]) + data


def _blob(key: str, value: object) -> bytes:
    if not isinstance(value, str | bytes):
        raise TypeError(f"{key}: VICI values are text or bytes, not {type(value).__name__}")
    data = value.encode() if isinstance(value, str) else value
    if len(data) > MAX_VALUE:
        raise ViciLimitError(f"{key}: {len(data)} bytes; VICI allows {MAX_VALUE} in one value")
    return _U16.pack(len(data)) + data


def parse_message(data: bytes) -> Section:
    """The sections, lists and values of a message; values stay bytes. ViciProtocolError for anything malformed."""
    root: Section = {}
    section, stack = root, []
    at, end = 0, len(data)
    while at < end:
        element = data[at]
        at += 1
        if element == KEY_VALUE:
            key, at = _read_name(data, at)
            section[key], at = _read_blob(data, at)
        elif element == SECTION_START:
            key, at = _read_name(data, at)
            stack.append(section)
            if len(stack) > MAX_DEPTH:
                raise ViciProtocolError(f"more than {MAX_DEPTH} sections within each other")
            child: Section = {}
            section[key] = child
            section = child
        elif element == SECTION_END and stack:
            section = stack.pop()
        elif element == LIST_START:
            key, at = _read_name(data, at)
            section[key], at = _read_list(data, at)
        else:
            raise ViciProtocolError(f"element {element} at byte {at - 1} does not belong there")
    if stack:
        raise ViciProtocolError("the message ends within a section")
    return root


def _read_name(data: bytes, at: int) -> tuple[str, int]:
    if at >= len(data):
        raise ViciProtocolError("the packet ends before a name")
    end = at + 1 + data[at]
    if end > len(data):
        raise ViciProtocolError("the packet ends within a name")
    try:
        return data[at + 1 : end].decode(), end
    except UnicodeDecodeError:
        raise ViciProtocolError("a name is no UTF-8") from None


def _read_blob(data: bytes, at: int) -> tuple[bytes, int]:
    start = at + _U16.size
    if start > len(data):
        raise ViciProtocolError("the packet ends before a value")
    end = start + _U16.unpack_from(data, at)[0]
    if end > len(data):
        raise ViciProtocolError("the packet ends within a value")
    return data[start:end], end


def _read_list(data: bytes, at: int) -> tuple[list[bytes], int]:
    items: list[bytes] = []
    while at < len(data):
        element = data[at]
        at += 1
        if element == LIST_END:
            return items, at
        if element != LIST_ITEM:
            raise ViciProtocolError(f"element {element} within a list")
        item, at = _read_blob(data, at)
        items.append(item)
    raise ViciProtocolError("the message ends within a list")


def text(section: Mapping[str, Value], key: str, default: str = "") -> str:
    """The value under `key` as text; `default` where there is none or it is no value."""
    value = section.get(key)
    return value.decode(errors="replace") if isinstance(value, bytes) else default


def number(section: Mapping[str, Value], key: str, default: int = 0) -> int:
    """The value under `key` as a decimal number; `default` where it is none."""
    value = text(section, key)
    return int(value) if value.isascii() and value.isdigit() else default


def hexadecimal(section: Mapping[str, Value], key: str) -> int:
    """The value under `key` as a hexadecimal number; 0 where it is none."""
    try:
        return int(text(section, key), 16)
    except ValueError:
        return 0


def texts(section: Mapping[str, Value], key: str) -> list[str]:
    """The list under `key` as text; empty where there is none."""
    value = section.get(key)
    return [item.decode(errors="replace") for item in value] if isinstance(value, list) else []


def subsection(section: Mapping[str, Value], key: str) -> Section:
    """The section under `key`; empty where there is none."""
    value = section.get(key)
    return value if isinstance(value, dict) else {}


def subsections(section: Mapping[str, Value]) -> dict[str, Section]:
    """All sections right below this one."""
    return {key: value for key, value in section.items() if isinstance(value, dict)}
