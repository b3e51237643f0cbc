"""Virtual addresses of peers (RFC 7296, 2.19): the lowest free address of the pool, released when the session ends."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from warren_ikev2.addresses import IPAddress
from warren_ikev2.configuration import AddressPool
from warren_ikev2.events import SessionId

MAX_SCAN = 1 << 16  # addresses of one network that are looked at; larger pools use their first 65,536


@dataclass(slots=True)
class _Lease:
    """An address in use."""

    owner: object
    """Whose sessions may share it; None: nobody else's."""
    sessions: set[SessionId]


class AddressLeases:
    """The addresses in use, with the sessions of each."""

    def __init__(self) -> None:
        self._leases: dict[IPAddress, _Lease] = {}

    def allocate(
        self,
        pool: AddressPool,
        version: int,
        session: SessionId,
        requested: IPAddress | None,
        owner: object = None,
    ) -> IPAddress | None:
        """Allocate an address of an IP version: the one that the owner has already, else the requested one if it is free, else the lowest
        free one; None: the pool is exhausted.
        """
        networks = [network for network in pool.networks if network.version == version]

        def is_free(address: IPAddress) -> bool:
            return address not in self._leases and address not in pool.reserved

        for address, lease in self._leases.items():
            if owner is not None and lease.owner == owner and any(address in network for network in networks):
                lease.sessions.add(session)
                return address
        if requested is not None and is_free(requested) and any(requested in network for network in networks):
            self._leases[requested] = _Lease(owner, {session})
            return requested
        for network in networks:
            hosts: Iterator[IPAddress] = network.hosts()
            for address in islice(hosts, MAX_SCAN):
                if is_free(address):
                    self._leases[address] = _Lease(owner, {session})
                    return address
        return None

    def release(self, session: SessionId) -> None:
        """Release the addresses of a session."""
        for address, lease in list(self._leases.items()):
            lease.sessions.discard(session)
            if not lease.sessions:
                del self._leases[address]
