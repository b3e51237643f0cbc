"""Runs of TCP segments, alone and in several trains, that are opened and merged at once: as one packet at a time would be."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren_ikev2.dataplane.checksum import complement, ones_complement_sum, pseudo_header, write_ipv4_checksum
from warren_ikev2.dataplane.trains import ENDINGS
from warren_ikev2.esp.table import SaPair
from warren_testkit.examples import examples
from warren_testkit.ikev2.dataplane import Feed, child, comparable, counting_random, tcp_packet


@examples(80)
@given(
    st.lists(
        st.tuples(st.integers(1, 60), st.integers(0, 14), st.sampled_from((True, True, True, False))),
        min_size=2,
        max_size=9,
    ),
    st.sampled_from((100, 901, 1348)),
    st.booleans(),
    st.booleans(),
    st.data(),
)
def test_trains_that_wait_together_are_delivered_as_one_at_a_time(
    shapes: list[tuple[int, int, bool]], size: int, esn: bool, vectorised: bool, data: st.DataObject
) -> None:
    sender = SaPair.of(child(esn=esn), counting_random()).outbound
    sender.sequence = start = data.draw(st.sampled_from((0, 2**32 - 70))) if esn else 0
    trains: list[tuple[list[bytes], int, int]] = []
    position = 7
    for count, change, joined in shapes:
        rows = []
        for number in range(min(count, 65000 // (size + 100))):
            last = change == 1 and number == count - 1
            position += 300 if change == 2 and not number else 0
            length = size - 9 if last else size
            flags = 0x18 if change == 3 and number == count - 1 else 0x10
            rows.append(sender.seal(tcp_packet(bytes([number]) * length, sequence=position, flags=flags)))
            position += length
        at = data.draw(st.integers(0, len(rows) - 1)) if change > 3 else 0
        if change == 4 and len(rows) > 1:
            del rows[at]
        elif change == 5:
            rows[at] = rows[at][:-1] + bytes([rows[at][-1] ^ 1])
        elif change == 6:
            rows[at] = bytes(4) + rows[at][4:]
        elif change == 7:
            rows[at] = b"\0\0\xff\xff" + rows[at][4:]
        elif change == 8:
            rows = [b"\0\0\xff\xff" + row[4:] for row in rows]
        trains.append((rows, len(rows[0]) if joined and len(rows) > 1 else 0, 1 if change == 9 else 0))
        if change == 10:
            trains[-2:] = trains[-2:][::-1]
        elif change == 11:
            trains.append(trains[0])
    feed = Feed("aes256gcm16", esn=esn, vectorised=vectorised, top=start)
    feed.push_all(trains)
    feed.check()


@pytest.mark.parametrize("vectorised", [True, False])
@pytest.mark.parametrize("offload", [True, False])
def test_trains_that_continue_each_other_are_opened_together(vectorised: bool, offload: bool) -> None:
    packets = clean_run(6, 1348, 200, b"", same_identification=True)
    outbound = SaPair.of(child(), counting_random()).outbound
    sealed = [outbound.seal(packet) for packet in packets]
    trains = [(sealed[at : at + 40], len(sealed[0]) if offload else 0, 2) for at in range(0, 200, 40)]
    feed = Feed("aes256gcm16", esn=False, vectorised=vectorised)
    feed.push_all(trains)
    feed.check()
    assert feed.counters.trains_opened == (2 if vectorised else 5)
    assert len(feed.tun.frames) == 5


def clean_run(version: int, size: int, count: int, options: bytes, *, same_identification: bool) -> list[bytes]:
    """Segments that one packet can stand for."""
    return [
        tcp_packet(
            bytes((number * 7 + at) & 0xFF for at in range(size)),
            version=version,
            sequence=(2**32 - 9000 + number * size) & 0xFFFFFFFF if size == 901 else 5 + number * size,
            options=options,
            identification=7 if same_identification else 0xFFFC + number & 0xFFFF,
            tos=2,
            flags=0x18 if number == count - 1 and size & 1 else 0x10,
        )
        for number in range(count)
    ]


def with_checksums(packet: bytearray) -> bytes:
    """The packet with the checksums that its other bytes ask for, where it is IP with TCP."""
    tcp = 20 if packet[0] >> 4 == 4 else 40
    packet[tcp + 16 : tcp + 18] = bytes(2)
    total = ones_complement_sum(packet[tcp:]) + pseudo_header(packet, 6, len(packet) - tcp)
    packet[tcp + 16 : tcp + 18] = complement(total).to_bytes(2, "big")
    if tcp == 20:
        write_ipv4_checksum(packet, 20)
    return bytes(packet)


@examples(100)
@given(
    st.sampled_from((4, 6)),
    st.sampled_from((64, 333, 901, 1348)),
    st.integers(2, 20),
    st.sampled_from((b"", b"\1\1\x08\x0a" + bytes(8))),
    st.sampled_from(("aes256gcm16", "chacha20poly1305")),
    st.tuples(st.booleans(), st.booleans(), st.booleans(), st.booleans()),
    st.data(),
)
def test_one_change_anywhere_in_a_run_is_handled_as_one_at_a_time(
    version: int,
    size: int,
    count: int,
    options: bytes,
    cipher: str,
    choices: tuple[bool, bool, bool, bool],
    data: st.DataObject,
) -> None:
    esn, vectorised, repaired, same_identification = choices
    packets = clean_run(version, size, count, options, same_identification=same_identification)
    at = data.draw(st.integers(0, count - 1))
    changed = bytearray(packets[at])
    headers = len(changed) - size
    where = data.draw(st.one_of(st.integers(0, headers - 1), st.integers(0, len(changed) - 1)))
    changed[where] ^= data.draw(st.integers(0, 255))
    packets[at] = with_checksums(changed) if repaired else bytes(changed)
    sender = SaPair.of(child(cipher, esn=esn), counting_random()).outbound
    sealed = [sender.protect(packet + ENDINGS[version][-(len(packet) + 2) % 4]) for packet in packets]
    feed = Feed(cipher, esn=esn, vectorised=vectorised)
    feed.push(sealed, len(sealed[0]), 2)
    feed.check()
    assert feed.counters.trains_opened == 1


@pytest.mark.parametrize("vectorised", [True, False])
@pytest.mark.parametrize("version", [4, 6])
def test_each_bit_pattern_in_each_header_byte_is_handled_as_one_at_a_time(version: int, vectorised: bool) -> None:
    """In the first, in the last or in all packets of a run; with the checksums of before, or with matching ones."""
    runs = [clean_run(version, 64, 3, b"\1\1\x08\x0a" + bytes(8), same_identification=same) for same in (True, False)]
    sender = SaPair.of(child(), counting_random()).outbound
    feed = Feed("aes256gcm16", esn=False, vectorised=vectorised)
    places = range(len(runs[0][0]) - 64)
    for run, where, mask, rows in product(runs, places, (0x01, 0x42, 0x88), ((0,), (2,), (0, 1, 2))):
        changed = [bytearray(packet) for packet in run]
        for row in rows:
            changed[row][where] ^= mask
        for packets in ([bytes(packet) for packet in changed], [with_checksums(packet) for packet in changed]):
            sealed = [sender.protect(packet + ENDINGS[version][-(len(packet) + 2) % 4]) for packet in packets]
            feed.push(sealed, len(sealed[0]), 2)
    feed.check()


@pytest.mark.parametrize("vectorised", [True, False])
@pytest.mark.parametrize("version", [4, 6])
def test_a_whole_run_is_one_write(version: int, vectorised: bool) -> None:
    packets = clean_run(version, 901, 20, b"", same_identification=version == 6)[:9]
    outbound = SaPair.of(child(), counting_random()).outbound
    sealed = [outbound.seal(packet) for packet in packets]
    feed = Feed("aes256gcm16", esn=False, vectorised=vectorised)
    feed.push(sealed, len(sealed[0]), 2)
    feed.check()
    assert len(feed.tun.frames) == 1
    assert feed.inbound.merger.merged == 9


def test_errors_that_cancel_each_other_are_not_hidden_by_merging() -> None:
    """Two segments whose checksums are wrong by amounts that add up to nothing."""
    for vectorised in (True, False):
        packets = [bytearray(packet) for packet in clean_run(4, 1000, 8, b"", same_identification=True)]
        packets[2][500] += 1
        packets[5][500] -= 1
        outbound = SaPair.of(child(), counting_random()).outbound
        sealed = [outbound.seal(bytes(packet)) for packet in packets]
        feed = Feed("aes256gcm16", esn=False, vectorised=vectorised)
        feed.push(sealed, len(sealed[0]), 2)
        feed.check()
        assert feed.tun.packets == list(map(comparable, map(bytes, packets)))
