"""The daemon's tunnels. Each has a newest specification, a generation that counts its changes, and sessions.

A changed specification becomes a connection of a new generation next to the old one; what is up stays up until the tunnel is
started: then the new generation is brought up first, and after that the older sessions are closed.
"""

import asyncio
from collections.abc import Callable, Collection, Iterator
from functools import partial

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from warren_ikev2.addresses import Path, SocketAddress
from warren_ikev2.aio.driver import EngineDriver
from warren_ikev2.aio.session import Session
from warren_ikev2.aio.udp import local_address_for
from warren_ikev2.daemon.build import build_connection, tunnel_of
from warren_ikev2.daemon.messages import TunnelReport, TunnelSpecification
from warren_ikev2.daemon.routes import Network, Routes
from warren_ikev2.daemon.sessions import TunnelSessions
from warren_ikev2.daemon.tunnel import DaemonTunnel
from warren_ikev2.endpoint import Endpoint
from warren_ikev2.errors import CommandError, IkeError, PeerNotRespondingError

_SILENCE_SECONDS = 5.0
"""Without an answer for so long, and one retransmission, the peer is reported as unreachable while it is still tried."""


class UnknownTunnelError(IkeError):
    """There is no tunnel of this name. Put it first."""


class Tunnels:
    """All tunnels of the daemon. `on_change` is called with each report of a change."""

    def __init__(
        self, driver: EngineDriver, engine: Endpoint, routes: Routes, on_change: Callable[[TunnelReport], None]
    ) -> None:
        self._driver = driver
        self._engine = engine
        self._routes = routes
        self._on_change = on_change
        self._tunnels: dict[str, DaemonTunnel] = {}
        self._sessions = TunnelSessions(routes, self._changed, self._set_connections)
        self._key: Ed25519PrivateKey | None = None
        driver.dispatcher.on_session = self._peer_began

    def __iter__(self) -> Iterator[TunnelReport]:
        return iter([tunnel.report() for tunnel in self._tunnels.values()])

    async def set_key(self, private_key: bytes) -> None:
        """Authenticate by this key. Another one than before closes every tunnel."""
        key = Ed25519PrivateKey.from_private_bytes(private_key)
        if self._key is not None and self._key.private_bytes_raw() != private_key:
            await self.close()
        self._key = key

    async def put(self, specification: TunnelSpecification) -> str:
        """Let a tunnel have this specification; returns created, updated or unchanged. Raises `ConfigurationError`."""
        known = self._tunnels.get(specification.name)
        if known is not None and known.specification == specification:
            self._changed(known)
            return "unchanged"
        if self._key is None:
            raise CommandError("no private key was given yet")
        generation = known.generation + 1 if known else 1
        build_connection(specification, generation, self._key)  # refuses before anything is changed
        await self._routes.set(specification)
        if known is None:
            known = self._tunnels[specification.name] = DaemonTunnel(specification)
        else:
            known.specification, known.generation, known.failure = specification, generation, None
        self._set_connections()
        self._changed(known)
        return "created" if generation == 1 else "updated"

    async def remove(self, name: str) -> None:
        """Close a tunnel and forget it."""
        tunnel = self._tunnels.pop(name, None)
        if tunnel is None:
            return
        await self._close(tunnel)
        await self._routes.remove(name)
        self._set_connections()

    async def restore_routes(self) -> dict[str, tuple[Network, ...]]:
        """Put back routes that others have removed; returns those of each tunnel that were missing. Raises `ConfigurationError`."""
        return await self._routes.restore()

    def start(self, name: str) -> None:
        """Try once to bring a tunnel up. Raises `UnknownTunnelError`; a failed attempt is reported."""
        tunnel = self._known(name)
        if tunnel.converged:
            return
        tunnel.cancel_attempt()
        tunnel.failure = None
        tunnel.attempt = asyncio.create_task(self._attempt(tunnel))
        self._changed(tunnel)

    def renew(self, name: str) -> None:
        """Let the next start make new SAs: what is up becomes an older generation. Raises `UnknownTunnelError`."""
        tunnel = self._known(name)
        if tunnel.sessions:
            tunnel.generation += 1
            self._set_connections()
            self._changed(tunnel)

    def rekey(self, name: str, *, ike: bool, children: Collection[str]) -> None:
        """Begin to rekey the IKE_SA, and the CHILD_SAs of these children. Raises `UnknownTunnelError`, `CommandError`."""
        commands, tunnel = self._engine.commands, self._known(name)
        for session, spi_in in tunnel.children_of(children):
            self._driver.command(partial(commands.rekey_child, session.id, spi_in))
        for session in list(tunnel.sessions) if ike else ():
            self._driver.command(partial(commands.rekey_ike, session.id))

    def close_children(self, name: str, children: Collection[str]) -> None:
        """Begin to close the CHILD_SAs of these children. Raises `UnknownTunnelError`, `CommandError`."""
        for session, spi_in in self._known(name).children_of(children):
            self._driver.command(partial(self._engine.commands.delete_child, session.id, spi_in))

    def give_up(self, name: str, *, force: bool) -> bool:
        """Give up the attempt under way; False if the peer has answered in it, unless `force`. Raises `UnknownTunnelError`."""
        tunnel = self._known(name)
        if tunnel.converged or tunnel.attempt is None:
            return True
        if not force and tunnel.handshake is not None and tunnel.handshake.answered:
            return False
        tunnel.cancel_attempt()
        if tunnel.failure is None:
            tunnel.failure = PeerNotRespondingError("no answer to IKE_SA_INIT yet")
        self._changed(tunnel)
        return True

    async def stop(self, name: str) -> None:
        """Close a tunnel's SAs. Raises `UnknownTunnelError`."""
        tunnel = self._known(name)
        tunnel.failure = None
        await self._close(tunnel)
        self._changed(tunnel)

    async def close(self) -> None:
        """Close and forget every tunnel."""
        for name in list(self._tunnels):
            await self.remove(name)

    async def _close(self, tunnel: DaemonTunnel) -> None:
        tunnel.cancel_attempt()
        await asyncio.gather(*(session.close(timeout=1.0) for session in list(tunnel.sessions)))

    # ---- bringing up

    async def _attempt(self, tunnel: DaemonTunnel) -> None:
        try:
            newest = tunnel.newest
            session = newest[0] if newest else await self._handshake(tunnel)
            self._add_children(tunnel, session)
        except (IkeError, OSError) as error:
            tunnel.failure = error if isinstance(error, IkeError) else PeerNotRespondingError(str(error))
        finally:
            tunnel.handshake = None
            if tunnel.attempt is asyncio.current_task():
                tunnel.attempt = None
        self._changed(tunnel)
        self._sessions.close_superseded(tunnel)

    async def _handshake(self, tunnel: DaemonTunnel) -> Session:
        specification = tunnel.specification
        if specification.vips:
            self._set_connections()  # which request the addresses that the tunnel had before
        if not specification.remote:
            raise CommandError("this end has no address of the peer, and can only respond")
        host = specification.remote[tunnel.attempts % len(specification.remote)]
        tunnel.attempts += 1
        remote = SocketAddress(host, specification.remote_port)
        own = [address for address in specification.local if address.version == host.version]
        local = SocketAddress(own[0] if own else local_address_for(remote), self._driver.ike_port)
        name = f"{specification.name}~{tunnel.generation}"
        tunnel.handshake = self._driver.initiate(name, Path(local, remote), childless=False)
        done = tunnel.handshake.done
        try:
            await asyncio.wait((done,), timeout=_SILENCE_SECONDS)
            if not done.done():
                tunnel.failure = PeerNotRespondingError(
                    f"no answer to {tunnel.handshake.unanswered} from {remote} yet; check that UDP 500 and 4500 pass"
                )
                self._changed(tunnel)
            session = await done
        except asyncio.CancelledError:
            self._driver.abandon(tunnel.handshake)
            raise
        tunnel.failure = None
        await self._sessions.take_addresses(tunnel, session)
        self._sessions.follow(tunnel, session)
        return session

    def _add_children(self, tunnel: DaemonTunnel, session: Session) -> None:
        present = {child.name for child in session.children.values()}
        for child in tunnel.specification.children:
            if child.name not in present:
                self._driver.command(partial(self._engine.commands.create_child, session.id, child.name))

    def _peer_began(self, session: Session) -> None:
        name, _ = tunnel_of(session.info.connection)
        tunnel = self._tunnels.get(name)
        if tunnel is None:
            self._sessions.end(session)
        else:
            self._sessions.follow(tunnel, session)

    # ---- helpers

    def _known(self, name: str) -> DaemonTunnel:
        tunnel = self._tunnels.get(name)
        if tunnel is None:
            raise UnknownTunnelError(f"{name}: no such tunnel")
        return tunnel

    def _changed(self, tunnel: DaemonTunnel) -> None:
        if self._tunnels.get(tunnel.specification.name) is tunnel:
            self._on_change(tunnel.report())

    def _set_connections(self) -> None:
        """The newest generation of each tunnel; SAs of older ones live on with what they were made of."""
        assert self._key is not None
        key = self._key
        self._engine.set_connections(
            [
                build_connection(tunnel.specification, tunnel.generation, key, self._routes.addresses(name))
                for name, tunnel in self._tunnels.items()
            ]
        )
