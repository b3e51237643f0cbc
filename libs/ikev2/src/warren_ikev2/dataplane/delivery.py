"""How the packets of an opened train reach the TUN device: as one run at once, or one at a time."""

from collections import Counter
from collections.abc import Iterable

from warren_ikev2.dataplane.merge import Merger, is_udp
from warren_ikev2.esp.drops import DropReason, PacketDroppedError
from warren_ikev2.esp.ecn import is_unchanged
from warren_ikev2.esp.inner import tos_of
from warren_ikev2.esp.sa import InboundSa

_DF = 0x40


def may_be_run(first: bytes, outer_tos: int) -> bool:
    """Whether the headers of a run's first packet allow delivery at once: IPv4 has DF, and ECN stays as it is."""
    return (first[0] >= 0x50 or bool(first[6] & _DF)) and is_unchanged(tos_of(first), outer_tos)


class Delivery:
    """Delivers to `merger`, whose caller flushes it before the next train is opened; what is dropped is counted."""

    def __init__(self, merger: Merger, drops: Counter[DropReason]) -> None:
        self._merger = merger
        self._drops = drops

    def run(self, sa: InboundSa, first: bytes, payloads: list[memoryview], flags: int) -> None:
        """A run whose checksums are right; `first` holds the headers of its first packet, `flags` the TCP flags of all or 0.

        It passes the selectors once, since its addresses, ports and protocol are equal.
        """
        count = len(payloads)
        if not sa.selectors.allows(first):
            self._drops[DropReason.SELECTOR] += count
            return
        sa.packets += count
        sa.octets += count * (len(first) + len(payloads[0]))
        start = 20 if first[0] == 0x45 else 40
        sequence = 0 if is_udp(len(first), start) else int.from_bytes(first[start + 4 : start + 8], "big")
        self._merger.add_run(first, payloads, flags, sequence)

    def one_at_a_time(self, sa: InboundSa, plaintexts: Iterable[bytes], outer_tos: int) -> None:
        """Plaintexts with their trailers, in order."""
        for plaintext in plaintexts:
            try:
                inner = sa.accept(plaintext, outer_tos)
            except PacketDroppedError as dropped:
                self._drops[dropped.reason] += 1
            else:
                self._merger.add(inner)
