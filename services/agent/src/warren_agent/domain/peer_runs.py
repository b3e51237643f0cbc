"""Which peers' daemons were restarted, as the directory says. Pure.

An agent announces the run of its daemon. When it changes, the SAs of the run before are gone at that peer, whatever this end
still holds: DPD would notice in minutes.
"""

from collections.abc import Mapping

from warren_contracts.names import PeerId
from warren_contracts.peers import PeerRecord

Runs = Mapping[tuple[PeerId, str], str]  # by peer and kind of driver


def runs_of(directory: Mapping[PeerId, PeerRecord]) -> Runs:
    """The runs that the peers of a directory have announced."""
    return {(peer, driver.kind): driver.run for peer, it in directory.items() for driver in it.drivers if driver.run}


def restarted(before: Runs, after: Runs) -> frozenset[PeerId]:
    """The peers of which a daemon has another run than `before`; of a peer that is new, nothing is known to be lost."""
    return frozenset(peer for (peer, kind), run in after.items() if before.get((peer, kind), run) != run)
