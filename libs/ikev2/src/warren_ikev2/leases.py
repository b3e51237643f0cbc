"""Virtual addresses of peers (RFC 7296, 2.19): the lowest free address of the pool, released when the session ends."""

from collections.abc import Iterator
from itertools import islice

from warren_ikev2.addresses import IPAddress
from warren_ikev2.configuration import AddressPool
from warren_ikev2.events import SessionId

MAX_SCAN = 1 << 16  # addresses of one network that are looked at; larger pools use their first 65,536


class AddressLeases:
    """The addresses in use, with the session of each."""

    def __init__(self) -> None:
        self._leases: dict[IPAddress, SessionId] = {}

    def allocate(
        self, pool: AddressPool, version: int, session: SessionId, requested: IPAddress | None
    ) -> IPAddress | None:
        """Allocate an address of an IP version: the requested one if it is free, else the lowest; None: the pool is exhausted."""
        networks = [network for network in pool.networks if network.version == version]
        if (
            requested is not None
            and requested not in self._leases
            and requested not in pool.reserved
            and any(requested in network for network in networks)
        ):
            self._leases[requested] = session
            return requested
        for network in networks:
            hosts: Iterator[IPAddress] = network.hosts()
            for address in islice(hosts, MAX_SCAN):
                if address not in self._leases and address not in pool.reserved:
                    self._leases[address] = session
                    return address
        return None

    def release(self, session: SessionId) -> None:
        """Release the addresses of a session."""
        for address in [address for address, holder in self._leases.items() if holder == session]:
            del self._leases[address]
