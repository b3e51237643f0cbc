"""The running server: the engine with its data process, the accounts, the control socket, and what an operator does with them."""

import asyncio
import contextlib
import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import structlog

from warren_ikev2.aio.offload import DataPlaneOptions, OffloadDriver
from warren_ikev2.aio.session import Session
from warren_ikev2.aio.udp import UdpPort
from warren_ikev2.configuration import EndpointConfiguration
from warren_ikev2.constants import NotifyType
from warren_ikev2.dataplane.tun import OffloadTun
from warren_ikev2.endpoint import Endpoint
from warren_ikev2.errors import CommandError
from warren_ikev2.esp.drops import DropReason
from warren_ikev2.events import ChildSaFailed, Event, IkeSaEstablished, SessionId
from warren_process.token_bucket import TokenBucket
from warren_vpn.login.audit import LoginAudit
from warren_vpn.login.events import AuditedEvents
from warren_vpn.login.verifier import PasswordLogins
from warren_vpn.server.accounts import Account, Accounts, kind_of_refusal
from warren_vpn.server.certificate import expiry_of, warnings_of
from warren_vpn.server.connections import engine_limits
from warren_vpn.server.control import (
    Disconnected,
    DisconnectRequest,
    PoolStatus,
    Reloaded,
    ReloadRequest,
    Reply,
    Request,
    ServerStatus,
    SessionStatus,
    StatusRequest,
)
from warren_vpn.server.errors import ServerError, ServerSettingError
from warren_vpn.server.folder import Keys, read_keys
from warren_vpn.server.members import ServerMembers
from warren_vpn.server.settings import Network, ServerSettings, read_settings
from warren_vpn.users.store import FILE_NAME, UserFile

log = structlog.get_logger("warren_vpn")

CLOSE_SECONDS = 1.0
"""How long the end waits for clients to confirm."""
USERS_SECONDS = 2.0
"""Between looks at the user file: one stat(2)."""
DAY_SECONDS = 86400.0
"""Between warnings of what expires."""
AUDIT_NAME = "logins.jsonl"
REFUSAL_LINES, REFUSAL_LINES_RATE = 100, 2.0
"""Log lines of refusals at once, and a second after that: thousands of attempts do not fill the disk. All are counted."""
_REFUSED_IDLE_SECONDS = 1.0
"""After which a client is disconnected whose CHILD_SA was refused: it has no address, so nothing can be done with its session."""


class VpnServer:
    """Make it within the event loop; the device and the ports are open already and stay the caller's."""

    def __init__(
        self, path: Path, settings: ServerSettings, keys: Keys, tun: OffloadTun, ports: tuple[UdpPort, ...]
    ) -> None:
        """`path` is that of server.toml. Starts the data process. Raises `OSError`, ServerSettingError."""
        loop = asyncio.get_running_loop()
        self._path = path
        self.members = ServerMembers(path, settings, keys)
        self.since = datetime.now(UTC)
        configuration = EndpointConfiguration(
            self.members.connections.engine, settings.ike_port, settings.natt_port, limits=engine_limits(settings)
        )
        self._engine = Endpoint(configuration, os.urandom, lambda: datetime.now(UTC))
        self.accounts = Accounts(lambda: datetime.now(UTC), loop.call_later)
        self.accounts.on_closed = self._closed
        options = DataPlaneOptions(tun, rate_of=self._rate_of)
        self.driver = OffloadDriver(self._engine, ports, settings.ike_port, settings.tunnel.path_mtu, options)
        self.driver.on_event = self._take_event
        self.driver.on_statistics = self.accounts.take_statistics
        self.driver.dispatcher.on_session = self._opened
        self.logins = PasswordLogins(UserFile(path.parent / FILE_NAME), LoginAudit(path.parent / AUDIT_NAME))
        self.driver.logins.verifier = self.logins
        self._audited = AuditedEvents(self.logins.audit)
        self._poll = loop.call_later(USERS_SECONDS, self._follow_users)
        self._daily = loop.call_soon(self._warn_of_expiry)
        self._lines = TokenBucket(REFUSAL_LINES, REFUSAL_LINES_RATE)
        self._warn_of_no_users()
        self.on_session_change: Callable[[Account, bool], None] | None = None
        """Called with each session that begins, or is over (True)."""

    @property
    def users(self) -> int:
        """How many users may connect."""
        return self.members.connections.users

    @property
    def settings(self) -> ServerSettings:
        """Those in force."""
        return self.members.settings

    # ---- sessions

    def _rate_of(self, info: IkeSaEstablished) -> int | None:
        traits = self.members.connections.traits.get(info.user)
        return None if traits is None else traits.rate

    def _take_event(self, event: Event) -> None:
        self.accounts.take_event(event)
        if isinstance(event, IkeSaEstablished):
            self._take_login(event)
        if not self._audited.take_event(event):
            log.error("audit.failed", file=str(self._path.parent / AUDIT_NAME))
            if isinstance(event, IkeSaEstablished):  # a login that is not recorded does not count
                asyncio.get_running_loop().call_soon(self._end, event.session)
        if isinstance(event, ChildSaFailed):
            if event.notify == NotifyType.INTERNAL_ADDRESS_FAILURE:
                log.warning("pool.exhausted", session=event.session, pools=_texts(self.settings.tunnel.pools))
            asyncio.get_running_loop().call_later(_REFUSED_IDLE_SECONDS, self._end_if_idle, event.session)
        elif (kind := kind_of_refusal(event)) and self._lines.take(asyncio.get_running_loop().time()):
            log.warning("login.refused", kind=kind, reason=getattr(event, "reason", ""), peer=_peer_of(event))

    def _take_login(self, event: IkeSaEstablished) -> None:
        traits = self.members.connections.traits.get(event.user)
        if (
            traits is None or traits.secret != event.user_version
        ):  # removed or replaced while the handshake was under way
            asyncio.get_running_loop().call_soon(self._end, event.session)

    def _end_if_idle(self, session: SessionId) -> None:
        found = self.driver.dispatcher.sessions.get(session)
        if found is not None and not found.children:
            self._end(session)

    def _opened(self, session: Session) -> None:
        account = self.accounts.sessions.get(session.id)
        if account is None:
            return
        account.session = session
        log.info(
            "session.opened", session=account.id, user=account.user, peer=str(session.path.remote),
            addresses=_texts(account.info.network.addresses),
        )  # fmt: skip
        self._report(account, closed=False)

    def _closed(self, account: Account, reason: str) -> None:
        traffic = account.traffic
        duration = datetime.now(UTC) - account.since
        log.info(
            "session.closed", session=account.id, user=account.user, reason=reason, bytes_in=traffic.bytes_in,
            bytes_out=traffic.bytes_out, duration_s=round(duration.total_seconds()),
        )  # fmt: skip
        self._report(account, closed=True)

    def _report(self, account: Account, *, closed: bool) -> None:
        if self.on_session_change is not None:
            self.on_session_change(account, closed)

    def _end(self, session: SessionId) -> bool:
        try:
            self.driver.command(partial(self._engine.commands.delete, session))
        except CommandError:  # it has ended
            return False
        return True

    # ---- the operator

    def answer(self, request: Request) -> Reply:
        """Answer a request of the control socket. Raises ServerError."""
        match request:
            case StatusRequest():
                return self.status()
            case DisconnectRequest(target=target):
                return self.disconnect(target)
            case ReloadRequest():
                return self.reload()

    def disconnect(self, target: str) -> Disconnected:
        """End the sessions of a user, or one session by its number. ServerError: there is none."""
        found = self.accounts.of_user(target)
        if not found and target.isascii() and target.isdecimal():
            found = [account for account in self.accounts.sessions.values() if account.id == int(target)]
        if not found:
            raise ServerError(f"{target!r}: neither a user who is connected nor the number of a session")
        return Disconnected(sessions=tuple(account.id for account in found if self._end(account.id)))

    def reload(self) -> Reloaded:
        """Read server.toml, the users and the certificates again. Sessions of users who are gone, or whose secret is replaced, end.

        ServerError: something is wrong with a file; what can be applied is applied (`members`).
        """
        problems = self.members.reload()
        connections = self.members.connections
        self._engine.set_connections(connections.engine)
        for account in list(self.accounts.sessions.values()):
            traits = connections.traits.get(account.user)
            if account.user not in self.members.uncertain and (
                traits is None or traits.secret != account.info.user_version
            ):
                self._end(account.id)
        log.info("settings.reloaded", users=connections.users, refused=len(self.members.uncertain))
        self._warn_of_no_users()
        if problems:
            raise ServerSettingError("; ".join(problems))
        return Reloaded(users=connections.users)

    def _follow_users(self) -> None:
        """Reload when the user file has changed, or has become unusable, which is reported once."""
        self._poll = asyncio.get_running_loop().call_later(USERS_SECONDS, self._follow_users)
        if self.members.user_file_has_changed():
            try:
                self.reload()
            except ServerError as error:
                log.error("settings.invalid", error=str(error))

    def _warn_of_no_users(self) -> None:
        """Without connections the engine takes every client for one from an address that it does not know."""
        if not self.users:
            log.warning("users.none", remedy="nobody can log in: add or enable a user (warren vpn user add NAME)")

    def _warn_of_expiry(self) -> None:
        self._daily = asyncio.get_running_loop().call_later(DAY_SECONDS, self._warn_of_expiry)
        for warning in warnings_of(self.members.keys, datetime.now(UTC)):
            log.warning("certificate.expires", reason=warning)

    def status(self) -> ServerStatus:
        """Everything about the server now."""
        drops = self.driver.metrics.drops
        plane = self.driver.plane
        accounts = sorted(self.accounts.sessions.values(), key=lambda account: account.id)
        sessions = tuple(self._session_status(account) for account in accounts if account.session is not None)
        return ServerStatus(
            identity=self.settings.identity,
            certificate_expires=expiry_of(self.members.keys),
            process_id=os.getpid(),
            data_process_id=plane.process_id,
            data_process_starts=plane.starts,
            since=self.since,
            connected=len(sessions),
            logins=self.accounts.logins,
            half_open=self._engine.state.half_open.size,
            sessions=sessions,
            pools=self._pools(accounts),
            refusals=dict(sorted(self.accounts.refusals.items())),
            packets_dropped={str(reason): drops[reason] for reason in DropReason if drops[reason]},
            datagrams_ignored=dict(sorted(self.accounts.datagrams.items())),
        )

    def connected(self) -> Sequence[tuple[Account, float]]:
        """The sessions that carry traffic, each with the seconds since the client's last packet."""
        return [(it, self._idle_s(it)) for it in self.accounts.sessions.values() if it.session is not None]

    def _idle_s(self, account: Account) -> float:
        held = self._engine.state.sessions.get(account.id)
        return 0.0 if held is None else max(0.0, asyncio.get_running_loop().time() - held.last_inbound)

    def _session_status(self, account: Account) -> SessionStatus:
        session, info, traffic = account.session, account.info, account.traffic
        assert session is not None
        children = list(session.children.values())
        return SessionStatus(
            id=account.id,
            user=account.user,
            login=_LOGINS.get(info.remote_auth, info.remote_auth) if info.peer_certificate is None else "certificate",
            addresses=tuple(map(str, info.network.addresses)),
            endpoint=str(session.path.remote),
            behind_nat=info.nat.remote,
            since=account.since,
            bytes_in=traffic.bytes_in,
            bytes_out=traffic.bytes_out,
            packets_in=traffic.packets_in,
            packets_out=traffic.packets_out,
            idle_s=round(self._idle_s(account), 1),
            ike=str(info.suite),
            esp=str(children[-1].suite) if children else "",
            rekeys=account.rekeys + session.ike_rekeys,
        )

    def _pools(self, accounts: list[Account]) -> tuple[PoolStatus, ...]:
        addresses = [address for account in accounts for address in account.info.network.addresses]
        return tuple(
            PoolStatus(network=str(pool), size=_usable(pool), used=sum(address in pool for address in addresses))
            for pool in self.settings.tunnel.pools
        )

    async def close(self) -> None:
        """Delete all sessions, and end the data process."""
        sessions = list(self.driver.dispatcher.sessions.values())
        with contextlib.suppress(CommandError):
            await asyncio.gather(*(session.close(timeout=CLOSE_SECONDS) for session in sessions))
        self.stop()

    def stop(self) -> None:
        """Stop at once. May be called twice."""
        self._poll.cancel()
        self._daily.cancel()
        self.logins.stop()
        self.driver.stop()


_LOGINS = {"pubkey": "raw-key"}


def load(path: Path) -> tuple[ServerSettings, Keys]:
    """The settings and the keys that they name. ServerError: what is wrong with them."""
    settings = read_settings(path)
    return settings, read_keys(path.parent, settings)


def _usable(pool: Network) -> int:
    """The addresses of a pool that clients can get: not the network's, the broadcast's and the server's own."""
    return max(0, pool.num_addresses - (3 if pool.version == 4 else 2))


def _texts(values: object) -> list[str]:
    return [str(value) for value in values] if isinstance(values, tuple) else []


def _peer_of(event: Event) -> str:
    path = getattr(event, "path", None)
    return "" if path is None else str(path.remote)


def check(path: Path) -> tuple[int, list[str]]:
    """Check everything that a start reads; returns the number of users, and what will soon be wrong. ServerError: the reason."""
    settings, keys = load(path)
    return ServerMembers(path, settings, keys).connections.users, list(warnings_of(keys, datetime.now(UTC)))
