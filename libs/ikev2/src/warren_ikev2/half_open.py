"""How many unauthenticated peers may be at the door: IKE_SAs before authentication, in all and from one address."""

from collections import Counter
from ipaddress import IPv6Address, IPv6Network

from warren_ikev2.addresses import IPAddress
from warren_ikev2.configuration import Limits


class HalfOpen:
    """Counts by IPv4 address or IPv6 /64."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._held: dict[bytes, IPAddress | IPv6Network] = {}
        self._counts: Counter[IPAddress | IPv6Network] = Counter()

    @property
    def demands_cookie(self) -> bool:
        """Whether unauthenticated peers must prove their address first (RFC 7296, 2.6)."""
        return len(self._held) >= self._limits.cookie_threshold

    def has_room(self, host: IPAddress) -> bool:
        """Whether one more from this address may come in."""
        return (
            len(self._held) < self._limits.half_open and self._counts[_place(host)] < self._limits.half_open_per_address
        )

    def enter(self, spi: bytes, host: IPAddress) -> None:
        """Count an IKE_SA by our SPI."""
        self._held[spi] = place = _place(host)
        self._counts[place] += 1

    def leave(self, spi: bytes) -> None:
        """It is authenticated, or gone; harmless if it never entered."""
        place = self._held.pop(spi, None)
        if place is not None:
            self._counts[place] -= 1
            if not self._counts[place]:
                del self._counts[place]


def _place(host: IPAddress) -> IPAddress | IPv6Network:
    return IPv6Network((host, 64), strict=False) if isinstance(host, IPv6Address) else host
