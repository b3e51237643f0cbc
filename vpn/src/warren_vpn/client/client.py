"""The client's process: performs the actions of `states`, and turns what happens into its events."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any

from warren_ikev2.credentials import EapGtcAuth
from warren_ikev2.errors import AuthenticationError, IkeError
from warren_vpn.client.connection import Credentials, build_inquiry
from warren_vpn.client.events import ProfileReport, Report
from warren_vpn.client.inbox import Inbox
from warren_vpn.client.lookups import Lookups
from warren_vpn.client.monitor import NetworkMonitor
from warren_vpn.client.pauses import Pauses
from warren_vpn.client.reasons import explain, reason_of
from warren_vpn.client.servers import ServerCandidate, ServerOrder
from warren_vpn.client.session import VpnSession
from warren_vpn.client.states import ClientAction, ClientState, ClientTrigger, transition
from warren_vpn.client.tunnel import HostTunnel, TunnelFacts
from warren_vpn.host.errors import HostError
from warren_vpn.host.plan import KillSwitch
from warren_vpn.profiles.profile import ClientProfile

CONNECT_TIMEOUT_S = 10.0
"""For one address of one server: with seconds of loss on the path, and a slow password check of the server."""
HOLD_DOWN_S = 300.0
"""On a less preferred server, before a more preferred one is asked whether it is back, and between two such questions."""
REFUSED_PAUSE_S = 300.0
"""After a refused login that was accepted before: a fifth of what a server allows a user (`warren_vpn.login.throttle`)."""
_FAILURES = frozenset({ClientTrigger.LOGIN_REFUSED, ClientTrigger.HOST_REFUSED, ClientTrigger.SESSION_REPLACED})


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """Of one run."""

    kill_switch: KillSwitch
    hold_down_s: float = HOLD_DOWN_S
    connect_timeout_s: float = CONNECT_TIMEOUT_S


class VpnClient:
    """One run of the client. `run` returns its exit code."""

    def __init__(
        self,
        profile: ClientProfile,
        credentials: Credentials,
        order: ServerOrder,
        tunnel: HostTunnel,
        lookups: Lookups,
        options: ClientOptions,
        report: Report,
    ) -> None:
        self._profile, self._credentials, self._options = profile, credentials, options
        self._order, self._tunnel, self._lookups = order, tunnel, lookups
        self._report = ProfileReport(profile.name, report)
        self._pauses = Pauses(random.random)
        self._inbox = Inbox()
        self._state = ClientState.CONNECTING
        self._monitor = NetworkMonitor(self._network_changed, lambda: self._inbox.post(ClientTrigger.TUN_REMOVED))
        self._session = VpnSession(profile, credentials, tunnel, self._monitor, self._inbox, self._report)
        self._attempt: asyncio.Task[None] | None = None
        self._remove_kill_switch = options.kill_switch != "always"
        self._facts: TunnelFacts | None = None
        self._connected_to: ServerCandidate | None = None
        self._since = 0.0
        self._exit_code = 0
        self._problems: list[str] = []

    async def run(self) -> int:
        """Connect, and stay connected until `stop`; returns 0, or 1 if the login or a change of the host was refused."""
        self._inbox.spawn(self._monitor.run())
        try:
            if self._options.kill_switch == "always":
                await self._tunnel.apply_kill_switch(await self._tunnel.interfaces())
                self._report("vpn.kill-switch", "the kill switch is in force until `warren vpn down`")
            await self._perform(ClientAction.ATTEMPT)
            while self._state is not ClientState.STOPPED:
                event, detail = await self._inbox.next()
                await self._take(event, detail)
        except HostError as error:
            self._report("vpn.failed", f"stopped: {error}", reason=str(error))
            self._exit_code = 1
        finally:
            if self._state is not ClientState.STOPPED:  # whatever it was that ended the loop, the host is put back
                self._state, actions = transition(self._state, ClientTrigger.STOP)
                await self._perform(*actions)
            await self._end()
        return self._exit_code

    def stop(self, *, kill_switch: bool = False) -> None:
        """Stop; `kill_switch`: remove it even if it is to last."""
        self._remove_kill_switch = self._remove_kill_switch or kill_switch
        self._inbox.post(ClientTrigger.STOP)

    async def handle(self, command: str) -> dict[str, Any]:
        """Carry out a command of the control socket."""
        if command == "down":
            self.stop(kill_switch=True)
            return {"stopping": True}
        return await self.status() if command == "status" else {"error": "unknown command"}

    async def status(self) -> dict[str, Any]:
        """What `warren vpn status` shows."""
        facts, server = self._facts, self._connected_to
        up = self._state is ClientState.UP
        return {
            "state": self._state.value,
            "profile": self._profile.name,
            "device": self._tunnel.device,
            "server": str(server) if server is not None and up else None,
            "up_seconds": round(monotonic() - self._since) if up else None,
            "addresses": [str(address) for address in facts.addresses] if facts else [],
            "routes": [str(network) for network in self._profile.routes],
            "dns": [str(address) for address in facts.dns] if facts else [],
            "kill_switch": self._options.kill_switch,
            **(await self._tunnel.counters()),
        }

    # ---- events

    async def _take(self, event: ClientTrigger, detail: str) -> None:
        before = self._state
        self._state, actions = transition(before, event)
        if self._state is ClientState.RECONNECTING and before is ClientState.UP:
            self._report("vpn.reconnecting", f"reconnecting: {detail or reason_of(event)}", reason=event.value)
        elif event in _FAILURES and self._state is ClientState.STOPPED and before is not ClientState.STOPPED:
            self._report("vpn.failed", f"stopped: {detail}", reason=event.value)
            self._exit_code = 1
        await self._perform(*actions)

    async def _perform(self, *actions: ClientAction) -> None:
        for action in actions:
            work = _PERFORM[action](self)
            if work is not None:
                await work

    # ---- connecting

    async def _begin_attempt(self, *, look_up: bool = True) -> None:
        """`look_up`: at the begin of each round over the servers, and for each reconnection."""
        await self._cancel_attempt()
        self._attempt = asyncio.create_task(self._try(look_up))

    async def _try(self, look_up: bool) -> None:
        """One attempt; its outcome is an event."""
        try:
            if look_up:
                await self._look_up()
            candidate = self._order.current
            if candidate is None:
                self._inbox.post(ClientTrigger.ATTEMPT_FAILED)
                return
            self._report("vpn.connecting", f"connecting to {candidate}", server=str(candidate))
            facts = await self._session.open(candidate, self._options.connect_timeout_s)
        except HostError as error:
            self._inbox.post(ClientTrigger.HOST_REFUSED, str(error))
        except (IkeError, OSError) as error:
            self._failed(error)
        else:
            self._facts, self._connected_to, self._since = facts, candidate, monotonic()
            for remark in facts.remarks:
                self._report("vpn.remark", remark)
            addresses = ", ".join(map(str, facts.addresses))
            self._report(
                "vpn.up", f"up: {candidate}, address {addresses}, mtu {facts.mtu}",
                server=str(candidate), addresses=list(facts.addresses), dns=list(facts.dns), mtu=facts.mtu,
            )  # fmt: skip
            self._inbox.post(ClientTrigger.CONNECTED)

    async def _look_up(self) -> None:
        """Look up the names of the servers. One without an answer has its former addresses. HostError."""
        for problem in await self._lookups.refresh(self._order):
            self._report("vpn.name-unresolved", problem)
        in_use = (
            () if self._state is not ClientState.UP or self._connected_to is None else (self._connected_to.endpoint,)
        )
        await self._tunnel.set_endpoints(self._order.endpoints(*in_use), self._order.remembered)

    def _failed(self, error: Exception) -> None:
        candidate = self._order.current
        assert candidate is not None
        reason = explain(candidate, self._profile, error)
        self._report("vpn.attempt-failed", reason, server=str(candidate), error=type(error).__name__)
        refused = isinstance(error, AuthenticationError) and error.by_peer and error.peer_proven
        if refused and isinstance(self._credentials.local, EapGtcAuth):
            self._inbox.post(
                ClientTrigger.LOGIN_REFUSED, "the login was refused; check user and password, then start again"
            )
        else:
            self._inbox.post(ClientTrigger.ATTEMPT_FAILED)

    async def _next_server(self) -> None:
        if not self._order.advance():
            await self._begin_attempt(look_up=False)
            return
        self._wait(self._pauses.after_round(), "no server could be used")

    async def _attempt_after_loss(self) -> None:
        pause = self._pauses.after_session(monotonic() - self._since)
        if pause:
            self._wait(pause, "the server ends each session soon, as if another device had the same login")
        else:
            await self._begin_attempt()

    def _wait(self, pause: float, reason: str) -> None:
        self._report("vpn.waiting", f"{reason}; next attempt in {pause:.0f} s", seconds=round(pause, 1))
        self._inbox.post_later(pause, ClientTrigger.RETRY_DUE)

    def _wait_refused(self) -> None:
        self._wait(REFUSED_PAUSE_S, "the login was accepted before and is refused now; see the server's log")

    def _other_server(self) -> None:
        self._order.advance()

    async def _cancel_attempt(self) -> None:
        self._inbox.cancel_timers()
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            attempt.cancel()
            await asyncio.gather(attempt, return_exceptions=True)

    # ---- up

    def _watch_session(self) -> None:
        self._pauses.connected()
        self._session.watch()
        if self._connected_to is not None and self._connected_to.rank > 0:
            self._inbox.post_later(self._options.hold_down_s, ClientTrigger.PREFERRED_DUE)

    def _network_changed(self) -> None:
        candidate = self._connected_to if self._state is ClientState.UP else self._order.current
        self._session.network_changed(candidate)

    def _begin_question(self) -> None:
        self._attempt = asyncio.create_task(self._ask_preferred())

    async def _ask_preferred(self) -> None:
        try:
            await self._look_up()
            preferred, connected = self._order.preferred, self._connected_to
            if preferred is not None and connected is not None and preferred.rank < connected.rank:
                async with build_inquiry(self._profile, self._credentials, preferred) as inquiry:
                    await inquiry.connect(str(preferred.endpoint.address), self._options.connect_timeout_s)
                self._inbox.post(ClientTrigger.PREFERRED_ANSWERS, f"the preferred server {preferred} is back")
                return
        except HostError as error:
            self._inbox.post(ClientTrigger.HOST_REFUSED, str(error))
        except (IkeError, OSError):
            pass
        self._inbox.post_later(self._options.hold_down_s, ClientTrigger.PREFERRED_DUE)

    async def _close_session(self) -> None:
        self._inbox.cancel_timers()
        await self._session.close()

    # ---- the end

    async def _restore(self) -> None:
        self._problems = await self._tunnel.restore(kill_switch=self._remove_kill_switch)
        for problem in self._problems:
            self._report("vpn.not-restored", f"not put back: {problem}")
        if not self._remove_kill_switch:
            stays = self._tunnel.has_kill_switch
            text = "stays in force until `warren vpn down`" if stays else "is not in force: packets leave in clear"
            self._report("vpn.kill-switch", f"the kill switch {text}")
        self._report("vpn.stopped", "stopped; routes and DNS are put back" if not self._problems else "stopped")

    async def _end(self) -> None:
        self._monitor.close()
        await self._inbox.close()


_PERFORM: dict[ClientAction, Callable[[VpnClient], Awaitable[None] | None]] = {
    ClientAction.ATTEMPT: VpnClient._begin_attempt,
    ClientAction.ATTEMPT_AFTER_LOSS: VpnClient._attempt_after_loss,
    ClientAction.NEXT_SERVER: VpnClient._next_server,
    ClientAction.FIRST_SERVER: lambda client: client._order.start_again(),
    ClientAction.OTHER_SERVER: VpnClient._other_server,
    ClientAction.WAIT_REFUSED: VpnClient._wait_refused,
    ClientAction.WATCH_SESSION: VpnClient._watch_session,
    ClientAction.CANCEL_ATTEMPT: VpnClient._cancel_attempt,
    ClientAction.CLOSE_SESSION: VpnClient._close_session,
    ClientAction.DROP_TUN: lambda client: client._tunnel.drop(),
    ClientAction.MOVE: lambda client: client._session.move(),
    ClientAction.ASK_PREFERRED: VpnClient._begin_question,
    ClientAction.RESTORE: VpnClient._restore,
}
