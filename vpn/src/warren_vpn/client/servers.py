"""The servers' addresses, and which one is next. Pure: the caller has the clock and the pauses, and looks up names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from warren_ikev2.addresses import SocketAddress
from warren_vpn.host.changes import Address
from warren_vpn.host.plan import ServerEndpoint
from warren_vpn.profiles.profile import ProfileServer

MAX_ADDRESSES = 4
"""Of one server's name that are tried."""


@dataclass(frozen=True, slots=True)
class ServerCandidate:
    """One address of one server; `rank` 0 is the preferred server."""

    name: str
    rank: int
    endpoint: ServerEndpoint
    ike_port: int
    natt_port: int

    @property
    def ike_address(self) -> SocketAddress:
        """Where IKE_SA_INIT goes."""
        return SocketAddress(self.endpoint.address, self.ike_port)

    def __str__(self) -> str:
        address = str(self.endpoint.address)
        return address if address == self.name else f"{self.name} ({address})"


class ServerOrder:
    """The candidates in order of preference, and which of them has its turn.

    A name that has no address yet has no candidate; it may have some after the next `take`.
    """

    def __init__(self, servers: Sequence[ProfileServer], remembered: Mapping[str, tuple[Address, ...]]) -> None:
        """`remembered`: the addresses of names in a former run, which may be those of now."""
        self._servers = tuple(servers)
        addresses = {server.host: _literal(server.host) for server in servers}
        self.names = tuple(host for host, literal in addresses.items() if not literal)
        """To be looked up, each once."""
        self._addresses = {host: literal or remembered.get(host, ()) for host, literal in addresses.items()}
        self.candidates = list_candidates(self._servers, self._addresses)
        self._turn = 0

    @property
    def remembered(self) -> dict[str, tuple[Address, ...]]:
        """The newest addresses of each name that has any."""
        return {name: self._addresses[name] for name in self.names if self._addresses[name]}

    @property
    def current(self) -> ServerCandidate | None:
        """Whose turn it is; None: no server has an address."""
        return self.candidates[self._turn] if self.candidates else None

    @property
    def preferred(self) -> ServerCandidate | None:
        """The first of all."""
        return self.candidates[0] if self.candidates else None

    def endpoints(self, *more: ServerEndpoint) -> tuple[ServerEndpoint, ...]:
        """The endpoints of all candidates, and others."""
        return tuple(dict.fromkeys((*(candidate.endpoint for candidate in self.candidates), *more)))

    def take(self, found: Mapping[str, tuple[Address, ...]]) -> None:
        """Use the addresses of these names from now on.

        The turn stays with its address; if that is gone, it is the first address's of the same server.
        """
        before = self.current
        self._addresses |= {name: addresses[:MAX_ADDRESSES] for name, addresses in found.items()}
        self.candidates = list_candidates(self._servers, self._addresses)
        same = [at for at, candidate in enumerate(self.candidates) if candidate == before]
        rank = 0 if before is None else before.rank
        of_server = [at for at, candidate in enumerate(self.candidates) if candidate.rank == rank]
        self._turn = next(iter((*same, *of_server)), 0)

    def advance(self) -> bool:
        """Give the turn to the next one; returns whether each has had its turn, so that a pause is due."""
        self._turn = (self._turn + 1) % max(1, len(self.candidates))
        return self._turn == 0

    def start_again(self) -> None:
        """Give the turn to the preferred one."""
        self._turn = 0


def list_candidates(
    servers: Sequence[ProfileServer], addresses: Mapping[str, tuple[Address, ...]]
) -> tuple[ServerCandidate, ...]:
    """Every address of every server, in order of preference."""
    return tuple(
        ServerCandidate(
            server.host, rank, ServerEndpoint(address, tuple(dict.fromkeys((server.ike_port, server.port)))),
            server.ike_port, server.port,
        )
        for rank, server in enumerate(servers)
        for address in addresses[server.host]
    )  # fmt: skip


def _literal(host: str) -> tuple[Address, ...]:
    try:
        return (ip_address(host),)
    except ValueError:
        return ()
