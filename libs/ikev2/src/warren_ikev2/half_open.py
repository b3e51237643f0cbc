"""The limits of half-open IKE_SAs, those before authentication: in all and from one address."""

from collections import Counter
from ipaddress import IPv6Address, IPv6Network

from warren_ikev2.addresses import IPAddress
from warren_ikev2.configuration import Limits


class HalfOpen:
    """Counts by IPv4 address or IPv6 /64."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._places: dict[bytes, IPAddress | IPv6Network] = {}
        self._counts: Counter[IPAddress | IPv6Network] = Counter()

    @property
    def demands_cookie(self) -> bool:
        """Whether an initiator must return a cookie first (RFC 7296, 2.6)."""
        return len(self._places) >= self._limits.cookie_threshold

    def admits(self, host: IPAddress) -> bool:
        """Whether another one from this address is within the limits."""
        return (
            len(self._places) < self._limits.half_open
            and self._counts[_place(host)] < self._limits.half_open_per_address
        )

    def add(self, spi: bytes, host: IPAddress) -> None:
        """Count an IKE_SA, by our SPI."""
        self._places[spi] = place = _place(host)
        self._counts[place] += 1

    def remove(self, spi: bytes) -> None:
        """Stop counting an IKE_SA that is authenticated or removed; unknown SPIs are ignored."""
        place = self._places.pop(spi, None)
        if place is not None:
            self._counts[place] -= 1
            if not self._counts[place]:
                del self._counts[place]


def _place(host: IPAddress) -> IPAddress | IPv6Network:
    return IPv6Network((host, 64), strict=False) if isinstance(host, IPv6Address) else host
