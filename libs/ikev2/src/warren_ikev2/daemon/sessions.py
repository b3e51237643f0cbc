"""The sessions of the daemon's tunnels, from their establishment to their end: what they change is reported of their tunnel.

The virtual addresses that the peer assigns follow the sessions: they are in use before the tunnel is reported as up.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from time import monotonic
from typing import Any

from warren_ikev2.aio.session import Session
from warren_ikev2.daemon.routes import Routes
from warren_ikev2.daemon.tunnel import DaemonTunnel
from warren_ikev2.errors import IkeError, InternalAddressFailureError


class TunnelSessions:
    """`on_change`: called when what is reported of a tunnel has changed; `on_assigned`: when it has other virtual addresses."""

    def __init__(
        self, routes: Routes, on_change: Callable[[DaemonTunnel], None], on_assigned: Callable[[], None]
    ) -> None:
        self._routes = routes
        self._on_change = on_change
        self._on_assigned = on_assigned
        self._tasks: set[asyncio.Task[None]] = set()

    def follow(self, tunnel: DaemonTunnel, session: Session) -> None:
        """Count a session to its tunnel, and report what happens to it until it ends."""
        tunnel.sessions[session] = monotonic()
        self._on_change(tunnel)
        self._spawn(self._watch(tunnel, session))

    async def take_addresses(self, tunnel: DaemonTunnel, session: Session) -> None:
        """Use the virtual addresses that the peer has assigned, before the tunnel is reported as up. IkeError: they cannot be used."""
        name, addresses = tunnel.specification.name, session.info.network.addresses
        if not tunnel.specification.vips or (addresses and addresses == self._routes.addresses(name)):
            return
        try:
            if not addresses:
                raise InternalAddressFailureError("the peer assigns no virtual address")
            await self._routes.assign(name, addresses)
        except BaseException:
            self.end(session)
            raise
        self._on_assigned()  # a re-authentication requests the same ones

    def close_superseded(self, tunnel: DaemonTunnel) -> None:
        """Once the newest generation is up, the older ones end."""
        newest = tunnel.newest
        if any(session.children for session in newest):
            for session in [session for session in tunnel.sessions if session not in newest]:
                self.end(session)

    def end(self, session: Session) -> None:
        """Begin to close a session."""
        self._spawn(session.close())

    async def _watch(self, tunnel: DaemonTunnel, session: Session) -> None:
        while not session.closed:
            spis = set(session.children)
            await session.changed()
            if spis - set(session.children) and set(session.children) - spis:
                tunnel.rekeys += 1
            if tunnel.converged:
                tunnel.failure = None
            if not session.closed and session in tunnel.newest:  # re-authentication may have brought others
                await self._follow_addresses(tunnel, session)
            self._on_change(tunnel)
        tunnel.count()
        tunnel.sessions.pop(session, None)
        self._on_change(tunnel)

    async def _follow_addresses(self, tunnel: DaemonTunnel, session: Session) -> None:
        try:
            await self.take_addresses(tunnel, session)
        except IkeError as error:
            tunnel.failure = error

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(_quietly(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _quietly(work: Coroutine[Any, Any, None]) -> None:
    """A session that ends meanwhile is reported by its own watch."""
    with contextlib.suppress(IkeError):
        await work
