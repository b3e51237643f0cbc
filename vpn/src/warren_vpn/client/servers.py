"""Which server is next. Pure: the caller has the clock and the pauses."""

from collections.abc import Sequence
from dataclasses import dataclass

from warren_ikev2.addresses import SocketAddress
from warren_vpn.host.plan import Endpoint

MAX_ADDRESSES = 4
"""Of one server's name that are tried."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One address of one server; `rank` 0 is the preferred server."""

    name: str
    rank: int
    endpoint: Endpoint
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
    """The candidates in order of preference, and which of them has its turn."""

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        self.candidates = tuple(candidates)
        self._turn = 0

    @property
    def current(self) -> Candidate:
        """Whose turn it is."""
        return self.candidates[self._turn]

    @property
    def preferred(self) -> Candidate:
        """The first of all."""
        return self.candidates[0]

    def advance(self) -> bool:
        """Give the turn to the next one; returns whether each has had its turn, so that a pause is due."""
        self._turn = (self._turn + 1) % len(self.candidates)
        return self._turn == 0

    def start_again(self) -> None:
        """Give the turn to the preferred one."""
        self._turn = 0
