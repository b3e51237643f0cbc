"""The selector check (RFC 4301, 4.4.1.1 and 5.2; RFC 7296, 2.9): which packets an SA may carry, in both directions.

A packet belongs to an SA when its source is in the sender's selectors and its destination in the receiver's, with one
protocol that both allow. Most SAs select only by addresses: for those
the decision on a pair of addresses is cached, and nothing else is parsed.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from warren_ikev2.esp.inner import OPAQUE, SelectorFields, parse_flow
from warren_ikev2.selectors import ANY_PROTOCOL, MAX_PORT, TrafficSelector

_REMEMBERED = 4096
"""Pairs of addresses in the cache: 500 kB at most, and far more than are active at a time."""


@dataclass(frozen=True, slots=True)
class Selector:
    """One traffic selector: a range of addresses (big-endian bytes, inclusive), a protocol (0: any), a range of ports.

    `start_port` 65535 with `end_port` 0 means OPAQUE: only packets whose ports cannot be seen (RFC 7296, 3.13.1).
    """

    start: bytes
    end: bytes
    protocol: int = ANY_PROTOCOL
    start_port: int = 0
    end_port: int = MAX_PORT

    @classmethod
    def of(cls, selector: TrafficSelector) -> "Selector":
        """Compile IKE's form."""
        ports = (selector.protocol, selector.start_port, selector.end_port)
        return cls(selector.start.packed, selector.end.packed, *ports)

    @property
    def addresses_only(self) -> bool:
        """Whether any protocol and any port matches."""
        return self.protocol == ANY_PROTOCOL and self.start_port == 0 and self.end_port == MAX_PORT

    def covers(self, address: bytes, protocol: int, port: int) -> bool:
        """Whether one end of a flow lies in the selector."""
        if len(address) != len(self.start) or not self.start <= address <= self.end:
            return False
        if self.protocol not in (ANY_PROTOCOL, protocol):
            return False
        if self.start_port == 0 and self.end_port == MAX_PORT:
            return True
        if self.start_port == MAX_PORT and self.end_port == 0:
            return port == OPAQUE
        return self.start_port <= port <= self.end_port


class SelectorCheck:
    """Whether a packet that goes from `source` to `destination` selectors may pass."""

    __slots__ = ("_by_address", "_destination", "_pairs", "_source", "addresses_only", "destination_hosts")

    def __init__(self, source: Iterable[TrafficSelector], destination: Iterable[TrafficSelector]) -> None:
        self._source = tuple(Selector.of(selector) for selector in source)
        self._destination = tuple(Selector.of(selector) for selector in destination)
        self.addresses_only = all(selector.addresses_only for selector in self._source + self._destination)
        self.destination_hosts: frozenset[bytes] | None = None
        """The addresses of the destination, if they are single hosts."""
        if all(selector.start == selector.end for selector in self._destination):
            self.destination_hosts = frozenset(selector.start for selector in self._destination)
        self._pairs = tuple(
            (s.start, s.end, d.start, d.end)
            for s in self._source
            for d in self._destination
            if s.addresses_only and d.addresses_only
        )
        self._by_address: dict[bytes, bool] = {}

    def allows(self, packet: bytes) -> bool:
        """Check a packet whose header is sound (`packet_length` is not 0)."""
        addresses = packet[12:20] if packet[0] < 0x50 else packet[8:40]
        allowed = self._by_address.get(addresses)
        if allowed is None:
            allowed = self._remember(addresses)
        return allowed or (not self.addresses_only and self._allows_flow(packet))

    def _remember(self, addresses: bytes) -> bool:
        """Decide by the pair of addresses, and cache the decision."""
        half = len(addresses) // 2
        source, destination = addresses[:half], addresses[half:]
        allowed = any(
            len(s_start) == len(d_start) == half and s_start <= source <= s_end and d_start <= destination <= d_end
            for s_start, s_end, d_start, d_end in self._pairs
        )
        if len(self._by_address) >= _REMEMBERED:
            self._by_address.clear()
        self._by_address[addresses] = allowed
        return allowed

    def _allows_flow(self, packet: bytes) -> bool:
        flow = parse_flow(packet)
        return flow is not None and _ends_match(flow, self._source, self._destination)


def _ends_match(flow: SelectorFields, source: tuple[Selector, ...], destination: tuple[Selector, ...]) -> bool:
    return any(s.covers(flow.source, flow.protocol, flow.source_port) for s in source) and any(
        d.covers(flow.destination, flow.protocol, flow.destination_port) for d in destination
    )
