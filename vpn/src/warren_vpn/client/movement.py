"""The session follows the host's addresses (MOBIKE, RFC 4555)."""

from collections.abc import Callable

from warren_ikev2.aio.client import Client
from warren_ikev2.aio.session import Session
from warren_ikev2.errors import CommandError, IkeError
from warren_vpn.client.inbox import Inbox
from warren_vpn.client.servers import ServerCandidate
from warren_vpn.client.states import ClientTrigger
from warren_vpn.client.tunnel import HostNetwork, HostTunnel


class Movement:
    """How the host is connected, and what the server knows of that."""

    def __init__(self, tunnel: HostTunnel, inbox: Inbox, report: Callable[[str, str], None]) -> None:
        self._tunnel, self._inbox, self._report = tunnel, inbox, report
        self._network = HostNetwork()
        self._announced: tuple[str, ...] = ()
        self._client: Client | None = None

    async def begin(self, candidate: ServerCandidate) -> tuple[str, ...]:
        """Look at the host's network before a connection; returns the addresses to announce, none without a route to the server."""
        self._network = await self._tunnel.network(candidate.ike_address)
        self._announced = self._network.hosts
        return self._announced

    async def compare(self, candidate: ServerCandidate | None) -> None:
        """Addresses or routes have come or gone; it matters if the host is connected in another way than before."""
        if candidate is None:
            return
        network = await self._tunnel.network(candidate.ike_address)
        if network != self._network:
            self._network = network
            self._inbox.post(ClientTrigger.NETWORK_CHANGED)

    async def follow(self, client: Client | None, session: Session | None) -> None:
        """Announce the host's addresses, and send from the one that its routes choose. HostError."""
        network, self._client = self._network, client
        await self._tunnel.follow(network)
        if client is None or session is None:
            return
        if not network.hosts:
            self._report("vpn.no-network", "this host has no route to the server; waiting for one")
            return
        try:
            if set(network.hosts) != set(self._announced):
                self._announced = network.hosts
                client.set_addresses(*network.hosts)
            if str(session.path.local.host) in network.hosts[1:]:
                self._inbox.spawn(self._migrate(client, network.hosts[0]))
        except CommandError as error:  # no MOBIKE, or no path from these addresses
            self._lost(error)

    def end(self) -> None:
        """The session is closed: what is under way for it means nothing any more."""
        self._client = None

    async def _migrate(self, client: Client, host: str) -> None:
        try:
            await client.migrate(host)
        except TimeoutError:  # the engine goes on with every path until the server counts as dead
            return
        except (IkeError, OSError) as error:
            if client is self._client:
                self._lost(error)

    def _lost(self, error: Exception) -> None:
        self._inbox.post(ClientTrigger.SESSION_LOST, f"the host's addresses have changed ({error})")
