"""The session with a server: its IKE client, its watch, and its end as an event of the client."""

import contextlib
import errno
from time import monotonic

from warren_ikev2.aio.client import Client
from warren_ikev2.aio.session import Session
from warren_ikev2.errors import IkeError, PeerDeadError, SessionReplacedError
from warren_process.token_bucket import TokenBucket
from warren_vpn.client.connection import Credentials, build_client
from warren_vpn.client.events import ProfileReport
from warren_vpn.client.inbox import Inbox
from warren_vpn.client.monitor import NetworkMonitor
from warren_vpn.client.movement import Movement
from warren_vpn.client.reasons import data_process_ended, ended, replaced
from warren_vpn.client.servers import ServerCandidate
from warren_vpn.client.states import ClientTrigger
from warren_vpn.client.tunnel import HostTunnel, TunnelFacts
from warren_vpn.profiles.profile import ClientProfile

CLOSE_TIMEOUT_S = 2.0
DATA_PROCESS_LINES, DATA_PROCESS_LINES_RATE = 5, 1 / 60
"""Lines about ended data processes at once, and a second after that: one that cannot start is started every second."""


class VpnSession:
    """One session at a time: opened with a candidate, watched once it is up, and closed."""

    def __init__(
        self, profile: ClientProfile, credentials: Credentials, tunnel: HostTunnel, monitor: NetworkMonitor, inbox: Inbox,
        report: ProfileReport,
    ) -> None:  # fmt: skip
        self._profile, self._credentials = profile, credentials
        self._tunnel, self._monitor, self._inbox, self._report = tunnel, monitor, inbox, report
        self._movement = Movement(tunnel, inbox, report)
        self._lines = TokenBucket(DATA_PROCESS_LINES, DATA_PROCESS_LINES_RATE)
        self._client: Client | None = None
        self._session: Session | None = None

    async def open(self, candidate: ServerCandidate, timeout_s: float) -> TunnelFacts:
        """Connect to a server and configure the host. HostError, IkeError, OSError."""
        tun = await self._tunnel.open()
        self._monitor.device = await self._tunnel.index()
        hosts = await self._movement.begin(candidate)
        if not hosts:
            raise OSError(errno.ENETUNREACH, "this host has no route to the server")
        self._client = build_client(self._profile, self._credentials, candidate, hosts, tun, self._data_process_ended)
        self._session = await self._client.connect(str(candidate.endpoint.address), timeout_s)
        return await self._tunnel.configure(candidate, self._session)

    def watch(self) -> None:
        """Report what happens to the session, and post its end, unless `close` comes first."""
        assert self._session is not None
        self._inbox.spawn(self._watch(self._session))

    def network_changed(self, candidate: ServerCandidate | None) -> None:
        """Compare how the host is connected with what it was; an event is posted if it differs."""
        self._inbox.spawn(self._movement.compare(candidate))

    async def move(self) -> None:
        """Follow the host's addresses. HostError."""
        await self._movement.follow(self._client, self._session)

    async def close(self) -> None:
        """End the session, if there is one."""
        self._movement.end()
        client, self._client = self._client, None
        if client is None:
            return
        self._session = None
        with contextlib.suppress(IkeError):
            await client.shutdown(CLOSE_TIMEOUT_S)

    async def _watch(self, session: Session) -> None:
        path = session.path
        while not session.closed:
            await session.changed()
            if session.path != path and not session.closed:
                path = session.path
                self._report("vpn.moved", f"now from {path.local.host} to {path.remote.host}", local=path.local.host)
        if self._session is session:
            match await session.wait_closed():
                case SessionReplacedError():
                    self._inbox.post(ClientTrigger.SESSION_REPLACED, replaced(self._profile))
                case PeerDeadError() as dead:
                    self._inbox.post(ClientTrigger.SERVER_DEAD, ended(dead))
                case reason:
                    self._inbox.post(ClientTrigger.SESSION_LOST, ended(reason))

    def _data_process_ended(self, exit_code: int | None) -> None:
        if self._lines.take(monotonic()):
            self._report("vpn.data-process", data_process_ended(exit_code), exit_code=exit_code)
