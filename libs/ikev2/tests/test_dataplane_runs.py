"""Runs of TCP segments and of UDP datagrams that are opened and merged at once, alone and in several trains: as one packet at a
time would be.
"""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren_ikev2.dataplane.checksum import complement, ones_complement_sum, pseudo_header, write_ipv4_checksum
from warren_ikev2.dataplane.trains import ENDINGS
from warren_ikev2.esp.table import SaPair
from warren_testkit.examples import examples
from warren_testkit.ikev2.dataplane import Feed, child, comparable, counting_random, tcp_packet, udp_packet


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


def clean_run(version: int, size: int, count: int, options: bytes | None, *, same_identification: bool) -> list[bytes]:
    """Packets that one packet can stand for: TCP segments with these options, or UDP datagrams (`None`)."""
    packets = []
    for number in range(count):
        payload = bytes((number * 7 + at) & 0xFF for at in range(size))
        identification = 7 if same_identification else 0xFFFC + number & 0xFFFF
        if options is None:
            packets.append(udp_packet(payload, version=version, identification=identification, tos=2))
            continue
        packets.append(
            tcp_packet(
                payload,
                version=version,
                sequence=(2**32 - 9000 + number * size) & 0xFFFFFFFF if size == 901 else 5 + number * size,
                options=options,
                identification=identification,
                tos=2,
                flags=0x18 if number == count - 1 and size & 1 else 0x10,
            )
        )
    return packets


def with_checksums(packet: bytearray) -> bytes:
    """The packet with the checksums that its other bytes ask for, where it is IP with TCP or UDP."""
    start = 20 if packet[0] >> 4 == 4 else 40
    protocol = packet[9] if start == 20 else packet[6]
    at = start + (6 if protocol == 17 else 16)
    packet[at : at + 2] = bytes(2)
    total = ones_complement_sum(packet[start:]) + pseudo_header(packet, protocol, len(packet) - start)
    packet[at : at + 2] = (complement(total) or (0xFFFF if protocol == 17 else 0)).to_bytes(2, "big")
    if start == 20:
        write_ipv4_checksum(packet, 20)
    return bytes(packet)


@examples(100)
@given(
    st.sampled_from((4, 6)),
    st.sampled_from((64, 333, 901, 1348)),
    st.integers(2, 20),
    st.sampled_from((b"", b"\1\1\x08\x0a" + bytes(8), None)),
    st.sampled_from(("aes256gcm16", "chacha20poly1305")),
    st.tuples(st.booleans(), st.booleans(), st.booleans(), st.booleans()),
    st.data(),
)
def test_one_change_anywhere_in_a_run_is_handled_as_one_at_a_time(
    version: int,
    size: int,
    count: int,
    options: bytes | None,
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
@pytest.mark.parametrize("options", [b"\1\1\x08\x0a" + bytes(8), None])
def test_each_bit_pattern_in_each_header_byte_is_handled_as_one_at_a_time(
    version: int, vectorised: bool, options: bytes | None
) -> None:
    """In the first, in the last or in all packets of a run; with the checksums of before, or with matching ones."""
    runs = [clean_run(version, 64, 3, options, same_identification=same) for same in (True, False)]
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
@pytest.mark.parametrize("options", [b"", None])
def test_a_whole_run_is_one_write(version: int, vectorised: bool, options: bytes | None) -> None:
    packets = clean_run(version, 901, 20, options, same_identification=version == 6)[:9]
    outbound = SaPair.of(child(), counting_random()).outbound
    sealed = [outbound.seal(packet) for packet in packets]
    feed = Feed("aes256gcm16", esn=False, vectorised=vectorised)
    feed.push(sealed, len(sealed[0]), 2)
    feed.check()
    assert len(feed.tun.frames) == 1
    assert feed.inbound.merger.merged == 9


def test_errors_that_cancel_each_other_are_not_hidden_by_merging() -> None:
    """Two segments whose checksums are wrong by amounts that add up to nothing."""
    for vectorised, options in product((True, False), (b"", None)):
        packets = [bytearray(packet) for packet in clean_run(4, 1000, 8, options, same_identification=True)]
        packets[2][500] += 1
        packets[5][500] -= 1
        outbound = SaPair.of(child(), counting_random()).outbound
        sealed = [outbound.seal(bytes(packet)) for packet in packets]
        feed = Feed("aes256gcm16", esn=False, vectorised=vectorised)
        feed.push(sealed, len(sealed[0]), 2)
        feed.check()
        assert feed.tun.packets == list(map(comparable, map(bytes, packets)))


@pytest.mark.parametrize("vectorised", [True, False])
def test_one_packet_stands_for_64_datagrams_at_most(vectorised: bool) -> None:
    packets = clean_run(4, 100, 150, None, same_identification=True)
    outbound = SaPair.of(child(), counting_random()).outbound
    sealed = [outbound.seal(packet) for packet in packets]
    feed = Feed("aes256gcm16", esn=False, vectorised=vectorised)
    feed.push_all(
        [(sealed[:60], len(sealed[0]), 2), (sealed[60:120], len(sealed[0]), 2), (sealed[120:], len(sealed[0]), 2)]
    )
    feed.check()
    assert len(feed.tun.frames) == 3
    assert feed.inbound.merger.merged == 150


@pytest.mark.parametrize("vectorised", [True, False])
@pytest.mark.parametrize("version", [4, 6])
def test_datagrams_without_a_checksum_are_delivered_as_they_are(version: int, vectorised: bool) -> None:
    """Also those whose checksum would be right as zero, which stands for none (RFC 768)."""
    packets = clean_run(version, 100, 6, None, same_identification=True)
    start = 20 if version == 4 else 40
    without = bytearray(packets[2])
    without[start + 6 : start + 8] = b"\0\0"
    total = ones_complement_sum(without[start:]) + pseudo_header(without, 17, len(without) - start)
    payload = int.from_bytes(without[-2:], "big") + 0xFFFF - total % 0xFFFF
    without[-2:] = (payload % 0xFFFF).to_bytes(2, "big")
    outbound = SaPair.of(child(), counting_random()).outbound
    for changed in ([2], range(6)):
        for at in changed:
            packets[at] = bytes(without)
        sealed = [outbound.seal(packet) for packet in packets]
        feed = Feed("aes256gcm16", esn=False, vectorised=vectorised)
        feed.link.pair.inbound.replay.top = feed.reference.replay.top = outbound.sequence - 6
        feed.push(sealed, len(sealed[0]), 2)
        feed.check()
        assert bytes(without) in [frame[10:] for frame in feed.tun.frames]


def test_datagrams_are_not_merged_for_a_kernel_that_does_not_take_them() -> None:
    packets = clean_run(4, 100, 20, None, same_identification=True)
    outbound = SaPair.of(child(), counting_random()).outbound
    sealed = [outbound.seal(packet) for packet in packets]
    for vectorised in (True, False):
        feed = Feed("aes256gcm16", esn=False, vectorised=vectorised, merge_udp=False)
        feed.push(sealed, len(sealed[0]), 2)
        feed.check()
        assert [frame[10:] for frame in feed.tun.frames] == packets
