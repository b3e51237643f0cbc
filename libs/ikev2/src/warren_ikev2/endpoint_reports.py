"""What the data plane reports about the CHILD_SAs of an endpoint, and what the protocol does about it."""

from warren_ikev2 import maintenance
from warren_ikev2.addresses import Path
from warren_ikev2.children import ChildUsage
from warren_ikev2.deadlines import Deadlines
from warren_ikev2.endpoint_state import EndpointState
from warren_ikev2.exchanges.mobike import follows_nat, move
from warren_ikev2.ike_sa import IkeSa


class EndpointReports:
    """The implementation of `engine.DataPlaneReports`, which documents the calls."""

    def __init__(self, state: EndpointState, deadlines: Deadlines) -> None:
        self._state = state
        self._deadlines = deadlines

    def child_usage(self, spi_in: int, usage: ChildUsage, now: float) -> None:
        """See DataPlaneReports."""
        if (found := self._state.find_child(spi_in)) is not None:
            maintenance.count_usage(*found, usage, now)
            self._finish(found[0])

    def child_path(self, spi_in: int, path: Path, now: float) -> None:
        """See DataPlaneReports."""
        found = self._state.find_child(spi_in)
        if found is not None and follows_nat(found[0], path):
            move(found[0], path)
            self._finish(found[0])

    def sequence_exhausted(self, spi_in: int, now: float) -> None:
        """See DataPlaneReports."""
        if (found := self._state.find_child(spi_in)) is not None:
            maintenance.rekey_child(*found, now)
            self._finish(found[0])

    def _finish(self, sa: IkeSa) -> None:
        self._state.touch(sa)
        self._deadlines.update()
