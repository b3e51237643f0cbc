"""All SAs of an endpoint: outbound by selector, inbound by SPI, with rollover at a rekey (RFC 7296, 2.8).

A rekey leaves two SA pairs for a while. The initiator of the rekey may send on the new one at once, for its peer has installed
it first. The responder goes on sending on the old one until it knows that the initiator is ready: an authentic packet
arrived on the new SA, or the old one is being deleted. Packets on the old SA are accepted for a few seconds after its
deletion, since packets can be reordered.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from warren_ikev2.children import ChildSa
from warren_ikev2.configuration import Mode
from warren_ikev2.errors import ConfigurationError
from warren_ikev2.esp.drops import DropReason, PacketDroppedError
from warren_ikev2.esp.inner import packet_length
from warren_ikev2.esp.replay import DEFAULT_WINDOW
from warren_ikev2.esp.sa import InboundSa, OutboundSa
from warren_ikev2.esp.selectors import SelectorCheck
from warren_ikev2.randomness import RandomBytes

_REMEMBERED = 4096
"""Pairs of addresses in the cache: 500 kB at most, and far more than are active at a time."""
_IPV4 = struct.Struct(">BxH8x8s").unpack_from
"""First byte, total length, and both addresses (RFC 791, 3.1)."""
_NO_OPTIONS = 0x45
LINGER = 5.0
"""Seconds that a replaced inbound SA still accepts packets (strongSwan's delete_rekeyed_delay)."""


@dataclass(slots=True, eq=False)
class SaPair:
    """The two SAs of a CHILD_SA. `waits_for` is the inbound SPI of the pair that goes on sending for now, or None."""

    inbound: InboundSa
    outbound: OutboundSa
    waits_for: int | None = None
    order: int = 0
    """Its number among those that send, 0 while it does not; set by the table."""

    @classmethod
    def of(
        cls,
        child: ChildSa,
        random_bytes: RandomBytes,
        *,
        waits_for: int | None = None,
        window: int = DEFAULT_WINDOW,
    ) -> "SaPair":
        """The pair of a CHILD_SA; `ConfigurationError` for what scalar ESP does not have, such as transport mode."""
        if child.mode is not Mode.TUNNEL:
            raise ConfigurationError(f"CHILD_SA {child.name!r}: this ESP has tunnel mode only")
        inward = SelectorCheck(child.remote_ts, child.local_ts)
        outward = SelectorCheck(child.local_ts, child.remote_ts)
        return cls(
            InboundSa(child.spi_in, child.suite, child.keys_in, inward, random_bytes, window=window),
            OutboundSa(child.spi_out, child.suite, child.keys_out, outward, random_bytes),
            waits_for,
        )


class SaTable:
    """The SAs of one endpoint. Times are seconds of the caller's clock."""

    def __init__(self) -> None:
        self._by_spi: dict[bytes, SaPair] = {}
        self._sending: list[SaPair] = []
        self._by_host: dict[bytes, list[SaPair]] = {}
        """The pairs whose peers are single hosts, as a VPN server's are, by their addresses: a thousand of them need not be
        looked at for one packet. They are not in `_sending`."""
        self._installed = 0
        self._by_addresses: dict[bytes, OutboundSa] = {}
        self._lingering: dict[bytes, float] = {}

    def __iter__(self) -> Iterator[SaPair]:
        return iter(list(self._by_spi.values()))

    def install(self, pair: SaPair) -> None:
        """Add a pair; of those that wait for nothing, the newest whose selectors cover a packet sends it."""
        self._by_spi[_key(pair.inbound.spi)] = pair
        if pair.waits_for is None:
            self._prefer(pair)

    def remove(self, inbound_spi: int, now: float, linger: float = LINGER) -> None:
        """Stop sending on a pair at once and accepting on it after `linger` seconds; unknown SPIs are ignored.

        A pair that waits for this one sends from now on: the peer that agrees to the deletion has the new one.
        """
        key = _key(inbound_spi)
        pair = self._by_spi.get(key)
        if pair is None:
            return
        self._stop_sending(pair)
        self._lingering.setdefault(key, now + linger)
        for other in self:
            if other.waits_for == inbound_spi:
                self._activate(other)

    def get_timer(self) -> float | None:
        """When `handle_timer` has something to do."""
        return min(self._lingering.values(), default=None)

    def handle_timer(self, now: float) -> list[bytes]:
        """Remove the replaced pairs whose time is over; returns their inbound SPIs as they stand in packets."""
        over = [key for key, until in self._lingering.items() if until <= now]
        for key in over:
            del self._lingering[key], self._by_spi[key]
        return over

    def outbound_for(self, packet: bytes) -> OutboundSa:
        """The SA that sends this IP packet; `PacketDroppedError` if it is malformed or no SA covers it."""
        if len(packet) >= 20:
            first, length, addresses = _IPV4(packet)
            if first == _NO_OPTIONS and length == len(packet) and addresses in self._by_addresses:
                return self._by_addresses[addresses]
        if packet_length(packet) != len(packet) or not packet:
            raise PacketDroppedError(DropReason.MALFORMED)
        return self.select(packet)

    def select(self, headers: bytes) -> OutboundSa:
        """`outbound_for` for the headers of a packet whose length was checked."""
        known = self._by_addresses.get(_addresses(headers))
        return self._choose(headers) if known is None else known

    def knows_addresses(self, packet: bytes) -> bool:
        """Whether all packets with the addresses of this one, and no IPv4 options, are sent by the same SA."""
        return _addresses(packet) in self._by_addresses

    def _choose(self, packet: bytes) -> OutboundSa:
        """Choose by the selectors, and cache the decision where only the addresses matter."""
        by_addresses = packet[0] == _NO_OPTIONS or packet[0] >> 4 == 6
        for pair in self._candidates(packet):
            selectors = pair.outbound.selectors
            by_addresses = by_addresses and selectors.addresses_only
            if selectors.allows(packet):
                if by_addresses and len(self._by_addresses) < _REMEMBERED:
                    self._by_addresses[_addresses(packet)] = pair.outbound
                return pair.outbound
        raise PacketDroppedError(DropReason.NO_SA)

    def seal(self, packet: bytes) -> bytes:
        """Encapsulate one IP packet."""
        return self.outbound_for(packet).seal(packet)

    def open(self, datagram: bytes, outer_tos: int = 0) -> bytes:
        """Decapsulate one ESP packet (see `InboundSa.open`); `PacketDroppedError(NO_SA)` for an unknown SPI."""
        pair = self._by_spi.get(datagram[:4])
        if pair is None:
            raise PacketDroppedError(DropReason.NO_SA)
        inner = pair.inbound.open(datagram, outer_tos)
        if pair.waits_for is not None:
            self._activate(pair)
        return inner

    def is_newest(self, datagram: bytes) -> bool:
        """Whether a packet that was opened has the highest sequence number of its SA so far: only such a one says where the
        peer is, for others may have been delayed, or caught and sent by somebody else.
        """
        return self._by_spi[datagram[:4]].inbound.is_newest(datagram)

    def pair_for(self, spi: bytes) -> SaPair | None:
        """The pair of an inbound SPI as it stands in packets."""
        return self._by_spi.get(spi)

    def confirm(self, pair: SaPair) -> None:
        """An authentic packet arrived on this pair: if it waited for another one, it sends from now on."""
        if pair.waits_for is not None:
            self._activate(pair)

    def _activate(self, pair: SaPair) -> None:
        pair.waits_for = None
        if _key(pair.inbound.spi) not in self._lingering:
            self._prefer(pair)

    def _candidates(self, packet: bytes) -> list[SaPair]:
        """The pairs that may cover a packet, newest first."""
        destination = packet[16:20] if packet[0] >> 4 == 4 else packet[24:40]
        of_host = self._by_host.get(destination)
        if of_host is None:
            return self._sending
        return (
            sorted((*of_host, *self._sending), key=lambda pair: pair.order, reverse=True) if self._sending else of_host
        )

    def _prefer(self, pair: SaPair) -> None:
        self._installed += 1
        pair.order = self._installed
        hosts = pair.outbound.selectors.destination_hosts
        if hosts is None:
            self._sending.insert(0, pair)
        else:
            for host in hosts:
                self._by_host.setdefault(host, []).insert(0, pair)
        self._by_addresses.clear()

    def _stop_sending(self, pair: SaPair) -> None:
        if not pair.order:
            return
        pair.order = 0
        self._by_addresses.clear()
        hosts = pair.outbound.selectors.destination_hosts
        if hosts is None:
            self._sending.remove(pair)
            return
        for host in hosts:
            pairs = self._by_host[host]
            pairs.remove(pair)
            if not pairs:
                del self._by_host[host]


def _addresses(packet: bytes) -> bytes:
    """Both addresses; nothing for IPv4 with options, whose decisions are not cached."""
    if packet[0] == _NO_OPTIONS:
        return packet[12:20]
    return packet[8:40] if packet[0] >> 4 == 6 else b""


def _key(spi: int) -> bytes:
    return spi.to_bytes(4, "big")
