"""The VICI codec against itself, against the serializer of the `vici` wheel, and against everything malformed."""

import contextlib
import itertools
import struct
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vici.protocol import FiniteStream, Message
from vici.protocol import Packet as WheelPacket

from warren_agent.drivers.strongswan.errors import ViciLimitError, ViciProtocolError
from warren_agent.drivers.strongswan.vici_codec import (
    MAX_DEPTH,
    MAX_PACKET,
    Packet,
    PacketReader,
    PacketType,
    Section,
    build_message,
    build_packet,
    number,
    parse_message,
    parse_packet,
    subsection,
    subsections,
    text,
    texts,
)

NAMES = st.text(min_size=0, max_size=60)
VALUES = st.binary(max_size=200)
SECTIONS = st.recursive(
    st.dictionaries(NAMES, VALUES | st.lists(VALUES, max_size=4), max_size=4),
    lambda inner: st.dictionaries(NAMES, VALUES | st.lists(VALUES, max_size=3) | inner, max_size=4),
    max_leaves=12,
)


@given(SECTIONS)
def test_message_survives_the_round_trip(section: Section) -> None:
    assert parse_message(build_message(section)) == section


@given(SECTIONS)
def test_message_is_what_the_wheel_writes_and_reads(section: Section) -> None:
    data = build_message(section)
    assert data == Message.serialize(section)
    assert Message.deserialize(FiniteStream(data)) == section


@given(st.sampled_from(PacketType), NAMES.filter(lambda name: len(name.encode()) < 256), VALUES)
def test_packet_survives_the_round_trip(kind: PacketType, name: str, payload: bytes) -> None:
    named = kind in (PacketType.CMD_REQUEST, PacketType.EVENT_REGISTER, PacketType.EVENT_UNREGISTER, PacketType.EVENT)
    packet = Packet(kind, name if named else "", payload)
    assert parse_packet(build_packet(packet)[4:]) == packet


def test_request_is_what_the_wheel_writes() -> None:
    payload = Message.serialize({"ike": "gw1"})
    ours = build_packet(Packet(PacketType.CMD_REQUEST, "list-sas", payload))
    theirs = WheelPacket.request("list-sas", payload)
    assert ours == struct.pack("!I", len(theirs)) + theirs


@given(st.lists(VALUES, max_size=6), st.data())
def test_reader_cuts_packets_however_they_arrive(payloads: list[bytes], data: st.DataObject) -> None:
    packets = [Packet(PacketType.EVENT, "log", payload) for payload in payloads]
    stream = b"".join(build_packet(packet) for packet in packets)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    reader = PacketReader()
    edges = [0, *cuts, len(stream)]
    received = [packet for start, end in pairs(edges) for packet in reader.feed(stream[start:end])]
    assert received == packets


def pairs(edges: list[int]) -> Iterable[tuple[int, int]]:
    return itertools.pairwise(edges)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_one_typed_error(data: bytes) -> None:
    with contextlib.suppress(ViciProtocolError):
        parse_message(data)


@given(SECTIONS, st.data())
def test_truncated_message_is_a_message_or_one_typed_error(section: Section, data: st.DataObject) -> None:
    whole = build_message(section)
    cut = data.draw(st.integers(0, len(whole)))
    with contextlib.suppress(ViciProtocolError):
        parse_message(whole[:cut])


@pytest.mark.parametrize(
    "data",
    [b"", b"\x09", b"\x07", b"\x07\x05ab", b"\x07\x02\xff\xfe"],
    ids=["empty", "unknown type", "no name", "short name", "no UTF-8"],
)
def test_malformed_packet_is_one_typed_error(data: bytes) -> None:
    with pytest.raises(ViciProtocolError):
        parse_packet(data)


def test_reader_refuses_a_length_that_no_packet_has() -> None:
    with pytest.raises(ViciProtocolError):
        PacketReader().feed(b"HTTP/1.1 400 Bad Request\r\n")


def test_sections_nested_without_end_are_refused() -> None:
    with pytest.raises(ViciProtocolError):
        parse_message(b"\x01\x01a" * (MAX_DEPTH + 1) + b"\x02" * (MAX_DEPTH + 1))


def test_limits_are_refused_with_the_name_of_the_key() -> None:
    with pytest.raises(ViciLimitError, match="has 256 bytes"):
        build_message({"n" * 256: "x"})
    with pytest.raises(ViciLimitError, match="certs: 65536 bytes"):
        build_message({"certs": [b"x" * 65_536]})
    with pytest.raises(ViciLimitError, match="load-conn"):
        build_packet(Packet(PacketType.CMD_REQUEST, "load-conn", b"x" * MAX_PACKET))


@pytest.mark.parametrize("value", [None, 5, True, [1], {"a": None}])
def test_numbers_and_none_are_refused_not_written_as_words(value: object) -> None:
    with pytest.raises(TypeError):
        build_message({"mobike": value})  # type: ignore[dict-item]  # the point of the test


def test_readers_answer_defaults_for_what_is_missing_or_of_another_kind() -> None:
    section = parse_message(build_message({"a": "7", "l": ["x", "y"], "s": {"k": "v"}, "n": "-1"}))
    assert (text(section, "a"), text(section, "l"), text(section, "none", "-")) == ("7", "", "-")
    assert (number(section, "a"), number(section, "n", 3), number(section, "none")) == (7, 3, 0)
    assert (texts(section, "l"), texts(section, "a")) == (["x", "y"], [])
    assert (subsection(section, "s"), subsection(section, "a")) == ({"k": b"v"}, {})
    assert subsections(section) == {"s": {"k": b"v"}}
