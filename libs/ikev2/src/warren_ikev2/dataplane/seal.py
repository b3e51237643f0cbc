"""The batched way out: a TSO packet of the TUN device becomes trains of ESP packets (AEAD ciphers, numpy).

The segments are laid out as rows (see `layout`): one assignment writes the headers of all of them, one the payload, one the
TCP sequence numbers. One sum over the rows gives their checksums: the row includes the ESP trailer, whose constant share
is subtracted, since then every row is a multiple of 4 bytes whatever the MSS. The result is byte for byte what `segment`
and `OutboundSa.seal` produce.
"""

from collections.abc import Iterator

import numpy as np

from warren_ikev2.dataplane.checksum import MODULUS, PROTO_TCP, ones_complement_sum
from warren_ikev2.dataplane.layout import ROW_NUMBERS, Cache, TrainBuffers
from warren_ikev2.dataplane.rows import SendLayout, SendRows, encrypt_rows, number_rows
from warren_ikev2.dataplane.segment import TCP_CWR, TCP_FIN_PSH, TransportShape, segment
from warren_ikev2.dataplane.trains import HEAD, MAX_TRAIN, TAG, Train
from warren_ikev2.dataplane.vnet import GSO_ECN, GSO_UDP_L4, VnetHeader
from warren_ikev2.esp.sa import OutboundSa
from warren_ikev2.esp.transforms import AeadTransform

_DF = 0x40
_LOW = 0xFFFFFFFF
_MODULUS, _LARGEST_SUM = np.uint64(MODULUS), np.uint64(MODULUS - 1)


class TcpLayout(SendLayout):
    """The rows of the segments of one flow shape: header length, MSS, offset of the TCP header, IP version."""

    def __init__(self, buffers: TrainBuffers, header: int, mss: int, tcp: int, version: int, esn: bool) -> None:
        super().__init__(buffers, header + mss, version, esn=esn)
        self.headers = self.plain32[:, : header // 4]
        self.payloads = self.plain8[:, header : header + mss]
        self.identification = self.plain16_wire[:, 2]
        self.ip_checksum = self.plain16_wire[:, 5]
        self.tcp_sequence = self.plain32_wire[:, tcp // 4 + 1]
        self.tcp_flags = self.plain8[:, tcp + 13]
        self.tcp_checksum = self.plain16[:, (tcp + 16) // 2]
        self.summed = self.plain32[:, tcp // 4 :]
        self.offsets = ROW_NUMBERS[: self.capacity] * np.uint32(mss)
        self._buffers = buffers
        self._first = TcpRows(self, buffers, self.capacity)

    def first(self, count: int) -> "TcpRows":
        """The first `count` rows."""
        if count != self._first.count:
            self._first = TcpRows(self, self._buffers, count)
        return self._first


class TcpRows(SendRows):
    """The columns of the first `count` rows of a layout, and what is computed for them."""

    def __init__(self, layout: TcpLayout, buffers: TrainBuffers, count: int) -> None:
        super().__init__(layout, buffers, count)
        self.headers = layout.headers[:count]
        self.payloads = layout.payloads[:count]
        self.tcp_sequence = layout.tcp_sequence[:count]
        self.offsets = layout.offsets[:count]
        self.summed = layout.summed[:count]
        self.tcp_checksum = layout.tcp_checksum[:count]


class TcpSealer:
    """Segments and seals TSO packets. The buffers are shared by all SAs."""

    def __init__(self, buffers: TrainBuffers) -> None:
        self._buffers = buffers
        self._layouts = Cache(self._make)

    def _make(self, header: int, mss: int, tcp: int, version: int, esn: bool) -> TcpLayout:
        return TcpLayout(self._buffers, header, mss, tcp, version, esn)

    def seal(self, sa: OutboundSa, packet: memoryview, header: VnetHeader, shape: TransportShape) -> Iterator[Train]:
        """Yield the trains of a TSO packet; each must be sent before the next is asked for.

        `packet` is writable, starts at a multiple of 4 bytes, and is changed. `takes` must have accepted it.
        """
        transform = sa.transform
        assert isinstance(transform, AeadTransform)
        tcp, payload, mss = shape.transport, shape.payload, header.gso_size
        full, rest = divmod(len(packet) - payload, mss)
        tail = self._last_segment(packet, header, shape, full, rest)
        flags = packet[tcp + 13]
        layout = self._layouts.get(payload, mss, tcp, shape.version, transform.esn)
        packet_row = np.frombuffer(packet, np.uint8)
        if full:
            _write_common(packet, shape, mss, layout.trailer)
        first = int.from_bytes(packet[tcp + 4 : tcp + 8], "big")
        distinct = shape.version == 4 and not packet[6] & _DF
        headers = packet_row[:payload].view("<u4")
        done = 0
        while done < full:
            count = min(layout.capacity, full - done)
            rows = layout.first(count)
            rows.headers[...] = headers
            start = payload + done * mss
            rows.payloads[...] = packet_row[start : start + count * mss].reshape(count, mss)
            rows.tcp_sequence[...] = np.add(rows.offsets, (first + done * mss) & _LOW, rows.scratch)
            if distinct:
                _write_identifications(layout, packet, shape, done, count)
            if not done:
                layout.tcp_flags[0] |= flags & TCP_CWR
            if done + count == full and not rest:
                layout.tcp_flags[count - 1] |= flags & TCP_FIN_PSH
            self._encrypt(layout, rows, sa, transform, mss + payload)
            done += count
            if done == full and tail is not None and count < layout.capacity:
                yield Train((rows.train, sa.seal(tail)), layout.stride, count + 1)
                return
            yield Train((rows.train,), layout.stride, count)
        if tail is not None:
            sealed = sa.seal(tail)
            yield Train((sealed,), len(sealed), 1)

    @staticmethod
    def takes(sa: OutboundSa, packet_length: int, header: VnetHeader, shape: TransportShape) -> bool:
        """Whether `seal` can serve this packet: TCP, an AEAD cipher, enough sequence numbers, sizes and places that make rows."""
        size, payload = header.gso_size, shape.payload
        return (
            header.gso_type & ~GSO_ECN != GSO_UDP_L4
            and isinstance(sa.transform, AeadTransform)
            and sa.remaining >= (packet_length - payload) // size + 1
            and payload + size + 5 + HEAD + TAG <= MAX_TRAIN
            and not payload & 3
        )

    def _encrypt(self, layout: TcpLayout, rows: TcpRows, sa: OutboundSa, transform: AeadTransform, length: int) -> None:
        """Number the packets, complete their checksums and encrypt them."""
        number_rows(self._buffers, layout, rows, sa, transform, length)
        sums = rows.sums
        np.add.reduce(rows.summed, 1, np.uint64, out=sums)
        np.remainder(sums, _MODULUS, sums)
        np.subtract(_LARGEST_SUM, sums, sums)
        rows.tcp_checksum[...] = sums
        encrypt_rows(rows, transform)

    @staticmethod
    def _last_segment(
        packet: memoryview, header: VnetHeader, shape: TransportShape, full: int, rest: int
    ) -> bytes | None:
        """The last, shorter segment."""
        if not rest:
            return None
        head = bytearray(packet[: shape.payload])
        return _cut(head, bytes(packet[len(packet) - rest :]), header, shape, full)


def _cut(head: bytearray, payload: bytes, header: VnetHeader, shape: TransportShape, number: int) -> bytes:
    """Segment `number` of a packet, built by the scalar segmentation from its headers and its payload."""
    tcp = shape.transport
    if shape.version == 4 and not head[6] & _DF:
        identification = int.from_bytes(head[4:6], "big") + number
        head[4:6] = (identification & 0xFFFF).to_bytes(2, "big")
    if number:
        head[tcp + 13] &= ~TCP_CWR & 0xFF
    sequence = int.from_bytes(head[tcp + 4 : tcp + 8], "big") + number * header.gso_size
    head[tcp + 4 : tcp + 8] = (sequence & _LOW).to_bytes(4, "big")
    (only,) = segment(bytes(head) + payload, header)
    return only


def _write_common(packet: memoryview, shape: TransportShape, mss: int, trailer: int) -> None:
    """Turn the headers into those of a full segment, apart from its numbers.

    The TCP checksum field gets what each row's sum lacks: the pseudo header, less the ESP trailer's share, less one. A sum
    `s` in the range 1 to 65,535 has the complement 65,535 - s, which is 65,534 - ((s - 1) mod 65,535).
    """
    tcp, length = shape.transport, shape.payload + mss
    packet[tcp + 13] &= ~(TCP_CWR | TCP_FIN_PSH) & 0xFF
    if shape.version == 6:
        packet[4:6] = (length - 40).to_bytes(2, "big")
        addresses = packet[8:40]
    else:
        packet[2:4] = length.to_bytes(2, "big")
        packet[10:12] = b"\0\0"
        # the sum of a header is not zero, so its remainder is the sum
        packet[10:12] = (MODULUS - (int.from_bytes(packet[:tcp], "big") % MODULUS or MODULUS)).to_bytes(2, "big")
        addresses = packet[12:20]
    pseudo = (int.from_bytes(addresses, "big") + PROTO_TCP + length - tcp) % MODULUS
    little = (pseudo >> 8 | (pseudo & 0xFF) << 8) + MODULUS - trailer - 1
    packet[tcp + 16 : tcp + 18] = (little % MODULUS).to_bytes(2, "little")


def _write_identifications(layout: TcpLayout, packet: memoryview, shape: TransportShape, done: int, count: int) -> None:
    """Distinct identifications, and the header checksums that go with them (RFC 6864, 4.1)."""
    header = bytearray(packet[: shape.transport])
    identification = int.from_bytes(header[4:6], "big")
    header[4:6] = header[10:12] = b"\0\0"
    numbers = (ROW_NUMBERS[:count] + np.uint32(identification + done)) & np.uint32(0xFFFF)
    layout.identification[:count] = numbers
    sums = (numbers + np.uint32(ones_complement_sum(header) + MODULUS - 1)) % np.uint32(MODULUS)
    layout.ip_checksum[:count] = np.uint32(MODULUS - 1) - sums
