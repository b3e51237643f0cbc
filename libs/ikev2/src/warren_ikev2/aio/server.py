"""The server: accepts sessions of many peers on one pair of ports."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from ipaddress import ip_address, ip_network
from typing import Self

from warren_ikev2.addresses import SocketAddress
from warren_ikev2.aio.builder import EVERYTHING, ConnectionBuilder
from warren_ikev2.aio.driver import EngineDriver
from warren_ikev2.aio.endpoint import open_driver
from warren_ikev2.aio.logins import LoginVerifier
from warren_ikev2.aio.metrics import Metrics
from warren_ikev2.aio.session import Session
from warren_ikev2.configuration import AddressPool, ConnectionConfiguration, EndpointConfiguration, Limits
from warren_ikev2.errors import CommandError, SessionClosedError


class ServerBuilder(ConnectionBuilder):
    """What a server needs: credentials, an identity; the rest has defaults.

    By default the tunnel carries everything to the peer's own, or its virtual, address.
    """

    def __init__(self) -> None:
        super().__init__()
        self.with_networks(local=[str(selector) for selector in EVERYTHING])
        self._limits = Limits()
        self._more: list[ConnectionConfiguration] = []
        self._verifier: LoginVerifier | None = None

    def with_address_pool(self, *networks: str, dns: Sequence[str] = (), required: bool = False) -> Self:
        """Give peers that ask virtual addresses out of these networks."""
        pool = AddressPool(
            tuple(ip_network(network) for network in networks),
            tuple(ip_address(host) for host in dns),
            required=required,
        )
        return self.with_options(address_pool=pool)

    def with_limits(self, limits: Limits) -> Self:
        """The limits of the state that peers can cause."""
        self._limits = limits
        return self

    def with_logins(self, verifier: LoginVerifier) -> Self:
        """Who decides on the passwords of connections with `EapTrust`; without it they are all refused."""
        self._verifier = verifier
        return self

    def with_connection(self, connection: ConnectionConfiguration) -> Self:
        """Another kind of peer, next to the one of this builder."""
        self._more.append(connection)
        return self

    async def bind(self, host: str = "0.0.0.0", ike_port: int = 500, natt_port: int = 4500) -> "Server":  # noqa: S104  a server listens
        """Check the configuration and open the ports. Raises `ConfigurationError` or `OSError`."""
        connections = (self.connection("server"), *self._more)
        endpoint = EndpointConfiguration(connections, ike_port, natt_port, limits=self._limits)
        driver, _ = open_driver(endpoint, host, self._path_mtu, data_plane=self._data_plane)
        driver.logins.verifier = self._verifier
        return Server(driver)


class Server:
    """Accepts sessions. Use it as a context manager, or `close` it."""

    def __init__(self, driver: EngineDriver) -> None:
        """Made by `Server.builder()…bind()`."""
        self._driver = driver
        self._accepted: asyncio.Queue[Session | None] = asyncio.Queue()
        self._closed = False
        driver.dispatcher.on_session = self._accepted.put_nowait

    @staticmethod
    def builder() -> ServerBuilder:
        """A builder without settings."""
        return ServerBuilder()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def __aiter__(self) -> AsyncIterator[Session]:
        while True:
            try:
                yield await self.accept()
            except SessionClosedError:
                return

    async def accept(self) -> Session:
        """Wait for the next session that a peer has begun. Raises `SessionClosedError` when the server is closed."""
        session = None if self._closed else await self._accepted.get()
        if session is None:
            self._accepted.put_nowait(None)
            raise SessionClosedError("the server is closed")
        return session

    @property
    def ike_address(self) -> SocketAddress:
        """Where IKE_SA_INIT is expected."""
        return self._driver.address_of(self._driver.ike_port)

    @property
    def natt_address(self) -> SocketAddress:
        """The address for NAT traversal, where ESP is received."""
        return self._driver.address_of(self._driver.natt_port)

    @property
    def metrics(self) -> Metrics:
        """The counters."""
        return self._driver.metrics

    @property
    def sessions(self) -> tuple[Session, ...]:
        """The sessions that are up, accepted or not."""
        return tuple(self._driver.dispatcher.sessions.values())

    def set_addresses(self, *hosts: str) -> None:
        """Announce a changed list of our addresses to the clients that support MOBIKE, and leave removed addresses.

        A client without a path from these addresses keeps its path.
        """
        for session in self.sessions:
            with contextlib.suppress(CommandError):
                self._driver.set_addresses(session, hosts)

    def stop(self) -> None:
        """Close the ports at once, without a message to the peers. May be called twice."""
        self._closed = True
        self._driver.stop()
        self._accepted.put_nowait(None)

    async def close(self) -> None:
        """Delete all sessions and close the ports. May be called twice."""
        if not self._closed:
            self._closed = True
            await asyncio.gather(*(session.close(timeout=1.0) for session in self.sessions))
            self.stop()
