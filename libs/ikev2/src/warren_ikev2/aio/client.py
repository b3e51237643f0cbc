"""The client: builds a configuration, connects, and passes packets to and from one session."""

import asyncio
import socket
from ipaddress import ip_address
from typing import Self

from warren_ikev2.addresses import IPAddress, Path, SocketAddress
from warren_ikev2.aio.builder import EVERYTHING, ConnectionBuilder
from warren_ikev2.aio.driver import EngineDriver
from warren_ikev2.aio.endpoint import open_driver
from warren_ikev2.aio.handshakes import PendingHandshake
from warren_ikev2.aio.metrics import Metrics
from warren_ikev2.aio.offload import DataPlaneOptions
from warren_ikev2.aio.session import Session
from warren_ikev2.aio.udp import local_address_for
from warren_ikev2.configuration import ConnectionConfiguration, EndpointConfiguration
from warren_ikev2.endpoint import Endpoint
from warren_ikev2.errors import NotConnectedError, PeerNotRespondingError, PeerRedirectError

_NAME = "client"
_ANY = {4: ip_address("0.0.0.0"), 6: ip_address("::")}  # noqa: S104  every address of a multihomed host
DEFAULT_TIMEOUT = 30.0
"""Seconds for name, handshake and first CHILD_SA; a dead peer is detected by then (retransmissions after 4 s and 7.2 s)."""


class ClientBuilder(ConnectionBuilder):
    """What a client needs: credentials, an identity; the rest has defaults.

    By default the tunnel carries everything from our own, or our virtual, address.
    """

    def __init__(self) -> None:
        super().__init__()
        self.with_networks(remote=[str(selector) for selector in EVERYTHING])
        self._ike_port = self._natt_port = 0
        self._remote_ports = (500, 4500)

    def with_virtual_address(self, *versions: int) -> Self:
        """Ask for a virtual address of these IP versions (RFC 7296, 2.19)."""
        return self.with_options(request_addresses=versions or (4,))

    def with_local_addresses(self, *hosts: str) -> Self:
        """All our addresses: announced to the gateway, and tried when it does not respond (MOBIKE, RFC 4555).

        A gateway that loses its own address sends to them on port 4500: use `with_local_ports(500, 4500)` for that.
        """
        return self.with_options(local_addresses=tuple(ip_address(host) for host in hosts))

    def with_local_ports(self, ike: int, natt: int) -> Self:
        """Our own ports; the default is any two free ones."""
        self._ike_port, self._natt_port = ike, natt
        return self

    def with_remote_ports(self, ike: int, natt: int) -> Self:
        """The peer's ports, 500 and 4500 by default. Equal ones: start on the NAT traversal port at once."""
        self._remote_ports = (ike, natt)
        return self

    def build(self) -> "Client":
        """Check the configuration. Raises `ConfigurationError`."""
        connection = self.connection(_NAME)
        endpoint = EndpointConfiguration(
            (connection,), self._ike_port, self._natt_port, remote_natt_port=self._remote_ports[1]
        )
        return Client(connection, endpoint, self._remote_ports, self._path_mtu, self._data_plane)


class Client:
    """One connection to one gateway. `connect` first; `shutdown` at the end, or use it as a context manager."""

    def __init__(
        self,
        connection: ConnectionConfiguration,
        endpoint: EndpointConfiguration,
        ports: tuple[int, int],
        path_mtu: int,
        data_plane: DataPlaneOptions | None = None,
    ) -> None:
        """Made by `Client.builder()…build()`."""
        self._connection = connection
        self._endpoint = endpoint
        self._remote_ports = ports
        self._path_mtu = path_mtu
        self._data_plane = data_plane
        self._driver: EngineDriver | None = None
        self._engine: Endpoint | None = None
        self._session: Session | None = None
        self._handshake_begun: PendingHandshake | None = None

    @staticmethod
    def builder() -> ClientBuilder:
        """Begin here."""
        return ClientBuilder()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.shutdown()

    async def connect(self, host: str, timeout: float = DEFAULT_TIMEOUT) -> Session:
        """Establish the session with a gateway, by name or address; returns when packets can be sent.

        Raises `AuthenticationError`, `NoProposalChosen`, `TsUnacceptable` and the like (each with an `error_code`),
        `PeerNotRespondingError` after `timeout` seconds or after the last retransmission, `OSError` for an unknown name.
        """
        if self._session is not None and not self._session.closed:
            return self._session
        self._stop()  # a session that has ended leaves its sockets open
        self._handshake_begun = None
        try:
            async with asyncio.timeout(timeout):
                self._session = await self._follow(host)
        except TimeoutError:
            self._stop()
            what = "" if self._handshake_begun is None else f" to {self._handshake_begun.unanswered}"
            raise PeerNotRespondingError(f"no answer{what} from {host} within {timeout:g} s") from None
        except BaseException:
            self._stop()
            raise
        return self._session

    async def _follow(self, host: str) -> Session:
        for _ in range(self._connection.follow_redirects + 1):
            try:
                return await self._handshake(host)
            except PeerRedirectError as redirect:
                self._stop()
                host = redirect.gateway
        raise PeerRedirectError(host)

    async def _handshake(self, host: str) -> Session:
        port, natt = self._remote_ports
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_DGRAM)
        remote = SocketAddress(ip_address(found[0][4][0]), port)
        local = local_address_for(remote)
        driver, self._engine = open_driver(self._endpoint, *self._hosts(local), data_plane=self._data_plane)
        self._driver = driver
        own = driver.natt_port if port == natt else driver.ike_port
        self._handshake_begun = driver.initiate(
            _NAME, Path(SocketAddress(local, own), remote), childless=not self._connection.children
        )
        return await self._handshake_begun.done

    def _hosts(self, local: IPAddress) -> tuple[IPAddress, int, *tuple[IPAddress, ...]]:
        """What to bind: one address, or all of the IP versions of those that we may use."""
        versions = {address.version for address in self._connection.local_addresses}
        if not versions:
            return local, self._path_mtu
        return _ANY[local.version], self._path_mtu, *(_ANY[version] for version in versions - {local.version})

    @property
    def session(self) -> Session:
        """The session. Raises `NotConnectedError` before `connect`."""
        if self._session is None:
            raise NotConnectedError
        return self._session

    @property
    def metrics(self) -> Metrics:
        """The counters. Raises `NotConnectedError` before `connect`."""
        if self._driver is None:
            raise NotConnectedError
        return self._driver.metrics

    async def send_packet(self, packet: bytes) -> None:
        """See `Session.send_packet`."""
        await self.session.send_packet(packet)

    async def recv_packet(self) -> bytes:
        """See `Session.recv_packet`."""
        return await self.session.recv_packet()

    async def rekey(self) -> None:
        """See `Session.rekey`."""
        await self.session.rekey()

    async def migrate(self, host: str, timeout: float = 10.0) -> None:
        """Change to another local address, by MOBIKE (RFC 4555); returns when the peer has accepted.

        Raises `CommandError` if the peer does not support MOBIKE, `OSError` if the address is not ours, `TimeoutError`.
        """
        session, driver, engine = self.session, self._driver, self._engine
        if driver is None or engine is None:
            raise NotConnectedError
        local = SocketAddress(ip_address(host), session.path.local.port)
        path = Path(local, session.path.remote)
        driver.rebind(local)
        driver.command(lambda now: engine.commands.change_path(session.id, path, now))
        async with asyncio.timeout(timeout):
            while session.path.local != local:
                await session.changed()

    def set_addresses(self, *hosts: str) -> None:
        """Announce a changed list of our addresses, after `with_local_addresses`; a path whose address was removed is replaced.

        Raises `CommandError` if the peer does not support MOBIKE or there is no path from them.
        """
        session, driver = self.session, self._driver
        if driver is None:
            raise NotConnectedError
        driver.set_addresses(session, hosts)

    async def shutdown(self, timeout: float = 5.0) -> None:
        """Delete the IKE_SA, wait at most `timeout` seconds for the answer, and close the sockets.

        May be called twice, or before `connect`.
        """
        try:
            if self._session is not None:
                await self._session.close(timeout)
        finally:
            self._stop()

    def _stop(self) -> None:
        if self._driver is not None:
            self._driver.stop()
