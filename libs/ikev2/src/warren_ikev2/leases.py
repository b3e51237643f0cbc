"""Virtual addresses lent to peers (RFC 7296, 2.19): the lowest free address of the connection's pool, returned at the end."""

from collections.abc import Iterator
from itertools import islice

from warren_ikev2.addresses import IPAddress
from warren_ikev2.configuration import AddressPool
from warren_ikev2.events import SessionId

MAX_SCAN = 1 << 16  # addresses of one network that are looked at; larger pools use their first 65,536


class AddressLeases:
    """Who holds which address."""

    def __init__(self) -> None:
        self._leases: dict[IPAddress, SessionId] = {}

    def allocate(
        self, pool: AddressPool, version: int, session: SessionId, requested: IPAddress | None
    ) -> IPAddress | None:
        """An address of an IP version: the requested if it is free and in the pool, else the lowest; None: exhausted."""
        networks = [network for network in pool.networks if network.version == version]
        if (
            requested is not None
            and requested not in self._leases
            and any(requested in network for network in networks)
        ):
            self._leases[requested] = session
            return requested
        for network in networks:
            hosts: Iterator[IPAddress] = network.hosts()
            for address in islice(hosts, MAX_SCAN):
                if address not in self._leases:
                    self._leases[address] = session
                    return address
        return None

    def release(self, session: SessionId) -> None:
        """Free everything that the session holds."""
        for address in [address for address, holder in self._leases.items() if holder == session]:
            del self._leases[address]
