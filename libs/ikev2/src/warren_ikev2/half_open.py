"""Half-open IKE_SAs, those of unauthenticated initiators: found by address and SPI, limited in all and from one address."""

from collections import Counter
from ipaddress import IPv6Address, IPv6Network

from warren_ikev2.addresses import IPAddress, SocketAddress
from warren_ikev2.configuration import Limits
from warren_ikev2.ike_sa import IkeSa

COOKIE_OF_ADDRESS = 1  # half-open IKE_SAs of one address without a cookie
ADDRESSES_OF_SITE = 10
"""A site has up to a /48 (RFC 6177), 65,536 times a /64: as many half-open IKE_SAs as so many addresses, and no more."""
_SITE_LENGTH = 48


class HalfOpen:
    """Counts by IPv4 address or IPv6 /64, and by IPv6 /48."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._ike_sas: dict[tuple[SocketAddress, bytes], IkeSa] = {}
        self._prefixes: dict[bytes, IPAddress | IPv6Network] = {}
        self._counts: Counter[IPAddress | IPv6Network] = Counter()
        self._sites: Counter[IPv6Network] = Counter()

    def demands_cookie(self, host: IPAddress) -> bool:
        """Whether an initiator must return a cookie first (RFC 7296, 2.6): when there are many, and from the second of an address.

        So an attacker that forges an address occupies one of its half-open IKE_SAs, and the host that has it gets the others.
        """
        return len(self._prefixes) >= self._limits.cookie_threshold or self._counts[_prefix(host)] >= COOKIE_OF_ADDRESS

    @property
    def size(self) -> int:
        """How many there are."""
        return len(self._prefixes)

    def admits(self, host: IPAddress) -> bool:
        """Whether another one from this address is within the limits."""
        return (
            len(self._prefixes) < self._limits.half_open
            and self._counts[_prefix(host)] < self._limits.half_open_per_address
            and (
                not isinstance(host, IPv6Address)
                or self._sites[_site(host)] < ADDRESSES_OF_SITE * self._limits.half_open_per_address
            )
        )

    def find(self, remote: SocketAddress, spi_i: bytes) -> IkeSa | None:
        """Return the IKE_SA that a repeated IKE_SA_INIT request began."""
        return self._ike_sas.get((remote, spi_i))

    def add(self, sa: IkeSa) -> None:
        """Count an IKE_SA that a peer began."""
        remote = sa.session.first_remote
        self._ike_sas[remote, sa.spi_i] = sa
        self._prefixes[sa.own_spi] = prefix = _prefix(remote.host)
        self._counts[prefix] += 1
        if isinstance(prefix, IPv6Network):
            self._sites[_site(prefix.network_address)] += 1

    def remove(self, sa: IkeSa) -> None:
        """Stop counting an IKE_SA that is authenticated or removed; others are ignored."""
        if sa.initiator:
            return
        self._ike_sas.pop((sa.session.first_remote, sa.spi_i), None)
        prefix = self._prefixes.pop(sa.own_spi, None)
        if prefix is not None:
            self._counts[prefix] -= 1
            if not self._counts[prefix]:
                del self._counts[prefix]
        if isinstance(prefix, IPv6Network):
            site = _site(prefix.network_address)
            self._sites[site] -= 1
            if not self._sites[site]:
                del self._sites[site]


def _site(host: IPv6Address) -> IPv6Network:
    return IPv6Network((host, _SITE_LENGTH), strict=False)


def _prefix(host: IPAddress) -> IPAddress | IPv6Network:
    return IPv6Network((host, 64), strict=False) if isinstance(host, IPv6Address) else host
