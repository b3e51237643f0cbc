"""Leak protection as the agent sees it: what the guard is to protect, handed to it before any tunnel is applied."""

from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Protocol

import structlog

from warren_agent.bypass import LocalReach
from warren_agent.domain.health import Contradiction
from warren_agent.errors import GuardError, GuardRefusedError
from warren_bus.feed.state import FeedState
from warren_contracts.guard import (
    EventKind,
    GuardEvent,
    GuardReply,
    Held,
    HeldRequest,
    HeldState,
    HostFinding,
    InspectRequest,
    ProtectRequest,
    ReleaseRequest,
    Request,
)
from warren_contracts.protection import Protect, ProtectedTraffic
from warren_contracts.status import GuardFacts, GuardState, ReasonCode, TunnelStatus
from warren_contracts.tunnel import Tunnel
from warren_intent.expand import Expansion
from warren_intent.protection import retained, unprotectable

log = structlog.get_logger("warren_agent")


class HostGuard(Protocol):
    """The guard of this host."""

    async def ask(self, request: Request) -> GuardReply:
        """The reply to a request; GuardError if the guard does not answer or refuses it."""

    def events(self) -> AsyncIterator[GuardEvent | None]:
        """What happens, forever: None whenever the guard answers (again), so that anything may have changed."""


class Protection:
    """Keeps the guard's traffic that of the newest intent. Without a guard nothing is protected, and nothing refused."""

    def __init__(
        self, guard: HostGuard | None = None, devices: tuple[str, ...] = (), reach: LocalReach | None = None
    ) -> None:
        self._guard = guard
        self._devices = devices
        self.reach = reach or LocalReach()
        self._bypass_error = ""
        self._error = ""
        self._guard_facts = GuardFacts(state=GuardState.UNREACHABLE)
        self._established: set[str] = set()  # tunnels that were up
        self._waiting: set[str] = set()  # `when-applied`, and never up
        self._findings: tuple[HostFinding, ...] = ()
        self._interface_errors: dict[int, str] = {}  # by XFRM interface id

    @property
    def is_wanted(self) -> bool:
        """Whether this host has a guard."""
        return self._guard is not None

    async def secure(self, desired: Expansion, state: FeedState, running: Mapping[str, Tunnel] | None = None) -> None:
        """Hand over the traffic of an expansion; `refusal` says what must not be applied if that failed.

        `running` are the configurations that drivers hold, by tunnel.
        """
        await self.reach.update(desired.tunnels, running)
        if self._guard is None:
            return
        try:
            held = (await self._guard.ask(HeldRequest())).held
            traffic = self._traffic(desired.protected, held)
            reply = await self._guard.ask(
                ProtectRequest(
                    traffic=traffic,
                    retained=retained(held, desired.protected, state.published, state.directory, state.peer),
                    devices=self._devices,
                    bypass=self.reach.services,
                    networks=self.reach.needed.networks,
                )
            )
            await self._release_what_is_off(reply.held, state)
        except GuardError as error:
            if self._error != str(error):
                log.error("guard.unavailable", error=str(error))
            self._error = str(error)
            refused = isinstance(error, GuardRefusedError)
            seen = GuardState.REFUSED if refused else GuardState.UNREACHABLE
            self._update_facts(state=seen, detail=str(error)[:255])
            return
        self._update_facts(state=GuardState.LOADED, detail="", tunnels=len(reply.held), restored_at=reply.restored_at)
        self._bypass_error = reply.bypass_error
        self._interface_errors = {it.if_id: it.detail for it in reply.interface_errors}
        if self._error or reply.changed:
            log.info("guard.protects", tunnels=len(reply.held))
        self._error = ""

    def _traffic(self, wanted: Iterable[ProtectedTraffic], held: Iterable[Held]) -> tuple[ProtectedTraffic, ...]:
        """All of it but `when-applied` traffic whose tunnel was never up; the guard remembers which was."""
        known = {(entry.policy, entry.tunnel) for entry in held}
        self._waiting = {
            entry.tunnel
            for entry in wanted
            if entry.protect is Protect.WHEN_APPLIED
            and entry.key not in known
            and entry.tunnel not in self._established
        }
        return tuple(entry for entry in wanted if entry.tunnel not in self._waiting)

    async def _release_what_is_off(self, held: Iterable[Held], state: FeedState) -> None:
        """Protection that an operator turned off ends now, whatever its time after a deletion was."""
        assert self._guard is not None
        off = {published.policy.id for published in state.published if published.policy.protect is Protect.OFF}
        for policy in sorted({entry.policy for entry in held if entry.state is not HeldState.WANTED} & off):
            await self._guard.ask(ReleaseRequest(policy=policy))

    def refusal(self, config: Tunnel, passes_by: bool = False) -> tuple[ReasonCode, str] | None:
        """Why a tunnel must not be applied: it would cut the host off, or its traffic is not protected.

        `passes_by`: its driver keeps out of it what must pass it by.
        """
        unavailable = "" if passes_by else self._bypass_unavailable()
        return self.reach.refusal(config, unavailable) or self._unprotected(config)

    def _bypass_unavailable(self) -> str:
        if self._guard is None:
            return (
                'no guard is here that would route it past the tunnel: start warren-guard, and set `guard = "required"`'
            )
        error = self._error or self._bypass_error
        return f"the guard cannot route it past the tunnel ({error})" if error else ""

    def _unprotected(self, config: Tunnel) -> tuple[ReasonCode, str] | None:
        """Its traffic is not protected, or its XFRM interface cannot be made."""
        if self._guard is None or config.protect is Protect.OFF:
            return None
        if self._error:
            return ReasonCode.GUARD_UNAVAILABLE, f"{config.name}: protect: {config.protect}: {self._error}"
        for word in ("if_id_out", "if_id_in"):
            number = getattr(config.link.xfrm, word)
            if number in self._interface_errors:
                return ReasonCode.CONFIG_REFUSED, f"{config.name}: xfrm.{word}: {self._interface_errors[number]}"
        reason = unprotectable(config)
        return (ReasonCode.CONFIG_REFUSED, f"{config.name}: {reason}") if reason else None

    def note_established(self, tunnel: str) -> bool:
        """A tunnel is up; returns whether its protection begins with that, so that `secure` is due."""
        if tunnel not in self._waiting:
            return False
        self._waiting.discard(tunnel)
        self._established.add(tunnel)
        return True

    async def events(self) -> AsyncIterator[GuardEvent | None]:
        """As the guard's, its findings taken note of; nothing without a guard."""
        if self._guard is None:
            return
        async for event in self._guard.events():
            if event is None:
                await self._inspect(self._guard)
            elif event.event is EventKind.FINDINGS_CHANGED:
                self._note(event.findings)
            elif event.event is EventKind.TABLE_RESTORED:
                self._note_restored(event)
            yield event

    def _note_restored(self, event: GuardEvent) -> None:
        if event.failed:
            self._update_facts(state=GuardState.REFUSED, detail=f"table {event.detail}"[:255])
        else:
            self._update_facts(state=GuardState.LOADED, detail="", restored_at=event.at)

    def _update_facts(self, **changes: object) -> None:
        self._guard_facts = self._guard_facts.model_copy(update=changes)

    def guard_facts(self) -> GuardFacts | None:
        """What the guard does, as last seen; None without one."""
        return self._guard_facts if self._guard is not None else None

    # the host's network

    async def _inspect(self, guard: HostGuard) -> None:
        try:
            self._note((await guard.ask(InspectRequest())).findings)
        except GuardError as error:
            log.debug("guard.not_inspected", error=str(error))

    def _note(self, found: tuple[HostFinding, ...]) -> None:
        for finding in set(found) - set(self._findings):
            log.warning("host.finding", code=finding.code.value, detail=finding.detail, fixed=finding.fixed)
        self._findings = found

    def findings(self, config: Tunnel, status: TunnelStatus) -> Iterable[Contradiction]:
        """What contradicts that packets pass this tunnel, as last seen (an Inspector of `warren_agent.health`)."""
        for finding in self._findings:
            if not finding.fixed:
                yield Contradiction(ReasonCode(finding.code.value), finding.detail)
