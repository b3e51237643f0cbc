"""Coverage-guided fuzzing of the batched data plane: `make fuzz`, or `python fuzz_dataplane.py TARGET [libFuzzer options]`.

`frames`    any frame of a TUN device, vnet header included
`trains`    any trains of datagrams from the network
`inner`     any inner packets of a peer that holds the keys, in trains

A finding is an exception, or a difference between the batched path and scalar ESP: other bytes on the wire, other packets
to the TUN device, other counters.
"""

from collections.abc import Callable, Iterator
from itertools import product

import atheris
from fuzz_target import run

with atheris.instrument_imports(include=["warren_ikev2.dataplane", "warren_ikev2.esp"]):
    from warren_ikev2.dataplane.links import Links
    from warren_ikev2.dataplane.segment import segment
    from warren_ikev2.dataplane.vnet import GSO_NONE, HEADER_SIZE, NEEDS_CSUM, VnetHeader
    from warren_ikev2.esp.drops import PacketDroppedError
    from warren_ikev2.esp.table import SaPair, SaTable
    from warren_testkit.ikev2.dataplane import (
        FakePort,
        Feed,
        child,
        counting_random,
        sent_by_outbound,
        tcp_packet,
        tso_header,
        udp_packet,
    )

PATH_MTU = 65535


def pieces(data: bytes) -> Iterator[bytes]:
    """The data cut into pieces, each behind a length byte; a piece repeats the last one if its length is 255."""
    last = b""
    while data:
        length, data = data[0], data[1:]
        if length == 255:
            yield last
        else:
            last, data = data[:length], data[length:]
            yield last


def fuzz_frames(data: bytes) -> None:
    """A frame that the scalar path refuses sends nothing; all others send the same bytes.

    A frame without segmentation comes once or, for packets that share a send, eleven times, once with its last byte changed.
    """
    if len(data) < HEADER_SIZE + 1:
        return
    frames = [data]
    if not data[1] and len(data) & 1:
        frames = [data] * 5 + [data[:-1] + bytes([data[-1] ^ 1])] + [data] * 5
    found = []
    for vectorised in (True, False):
        links = Links(counting_random(), PATH_MTU)
        links.install(child(), FakePort([]))
        pairs = [(frame[:HEADER_SIZE], frame[HEADER_SIZE:]) for frame in frames]
        sent, _ = sent_by_outbound(links, pairs, vectorised=vectorised)
        found.append(sent)
    reference = SaTable()
    reference.install(SaPair.of(child(), counting_random()))
    expected = []
    for frame in frames:
        try:
            parts = segment(frame[HEADER_SIZE:], VnetHeader.parse(frame))
        except PacketDroppedError:
            parts = []
        for part in parts:
            try:
                expected.append(reference.seal(part))
            except PacketDroppedError:
                continue
    assert found == [expected, expected]


def fuzz_trains(data: bytes) -> None:
    """Datagrams of an unauthenticated sender between authentic ones."""
    feed = Feed("aes256gcm16", esn=bool(data[:1] and data[0] & 1), vectorised=not (data[:1] and data[0] & 4))
    sender = SaPair.of(child(esn=bool(data[:1] and data[0] & 1)), counting_random()).outbound
    rows = [sender.seal(tcp_packet(bytes(100), sequence=1 + 100 * number)) for number in range(6)]
    for number, piece in enumerate(pieces(data[1:])):
        at = number % len(rows)
        cut = piece[: len(rows[at])]
        rows[at] = cut + rows[at][len(cut) :]
    stride, tos = len(rows[0]), data[0] & 3 if data else 0
    if data and data[0] & 8:  # two trains that wait together
        feed.push_all([(rows[:3], stride, tos), (rows[3:], stride, tos)])
    else:
        feed.push(rows, stride, tos)
    feed.check()


def fuzz_inner(data: bytes) -> None:
    """A faulty or malicious peer: each piece overwrites the start of an inner packet."""
    feed = Feed("aes256gcm16", esn=False, vectorised=not (data[:1] and data[0] & 2))
    sender = SaPair.of(child(), counting_random()).outbound
    rows = []
    for number, piece in enumerate(pieces(data)):
        version = 6 if data[0] & 1 else 4
        if data[0] & 4:
            packet = udp_packet(bytes(100), version=version)
        else:
            packet = tcp_packet(bytes(100), sequence=1 + 100 * number, version=version)
        changed = piece[: len(packet)]
        plaintext = changed + packet[len(changed) :] + bytes((1, 2, 2, 4))
        rows.append(sender.protect(plaintext[: len(plaintext) // 4 * 4]))
        if len(rows) == 40:
            break
    if rows:
        rows = [row for row in rows if len(row) == len(rows[0])]
        feed.push(rows, len(rows[0]))
        feed.check()


TARGETS: dict[str, Callable[[bytes], None]] = {"frames": fuzz_frames, "trains": fuzz_trains, "inner": fuzz_inner}


def frames() -> Iterator[bytes]:
    """Frames as the kernel hands them over: with and without a partial checksum, and to be segmented."""
    for version, size in product((4, 6), (64, 65, 7)):
        start = 20 if version == 4 else 40
        datagram, of_tcp = udp_packet(bytes(size), version=version), tcp_packet(bytes(size), version=version)
        large = tcp_packet(bytes(1000), version=version)
        yield bytes(HEADER_SIZE) + datagram
        yield VnetHeader(NEEDS_CSUM, GSO_NONE, 0, 0, start, 6).build() + datagram
        yield VnetHeader(NEEDS_CSUM, GSO_NONE, 0, 0, start, 16).build() + of_tcp
        yield tso_header(large, size + 100).build() + large


if __name__ == "__main__":
    run(TARGETS, {"frames": frames()})
