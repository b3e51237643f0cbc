"""Follow the tags of all peers by the registry's directory: they say which gateways a policy concerns before any of them reports."""

import asyncio
from collections.abc import Callable, Mapping

from nats.aio.client import Client

from warren_contracts.names import PeerId, Tag
from warren_contracts.peers import PeerRecord
from warren_service.registry_directory import RegistryDirectory

INTERVAL = 30.0  # s between two reads without an event
GATHER = 0.2  # s that a read waits for more events: while a fleet enrols, the registry has five calls a second


def _tags(record: PeerRecord) -> tuple[Tag, ...]:
    return record.tags


class Membership:
    """Calls `changed` with the tags of every peer, after each change of a record. `step` is a worker's."""

    def __init__(
        self, client: Callable[[], Client], changed: Callable[[Mapping[PeerId, tuple[Tag, ...]]], None]
    ) -> None:
        self._directory = RegistryDirectory(client, _tags)
        self._changed = changed
        self._newest: Mapping[PeerId, tuple[Tag, ...]] | None = None

    async def step(self) -> None:
        """Read what has changed. Raises UnavailableError, BusError or TrustError; the last directory stays in use meanwhile."""
        await asyncio.sleep(GATHER)
        peers = (await self._directory.read()).peers
        if peers is not self._newest:
            self._newest = peers
            self._changed(peers)

    def remark(self, failure: str) -> str:
        """What a failing worker means for rollouts, for the health of the service; empty without a failure."""
        if not failure:
            return ""
        used = "reported tunnels" if self._newest is None else "the last directory"
        return f"rollouts count gateways by {used}: the registry's directory was not read ({failure})"
