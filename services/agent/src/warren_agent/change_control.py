"""Takes changes back: of a tunnel that does not come up although the former configuration worked, and of an intent after which the
bus is lost (commit-confirm). What is decided is in `domain.changes`; this has the clock, the bus and the file.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import structlog

from warren_agent.domain import changes as rules
from warren_agent.domain.changes import ChangePhase, ChangeVerdict, Occurrence, PendingChange, Versions, Window
from warren_agent.domain.health import Contradiction
from warren_agent.ports import Intent
from warren_agent.reconciler import ApplyResult
from warren_agent.state.changes_file import ChangesFile
from warren_contracts.status import ReasonCode, TunnelState, TunnelStatus
from warren_contracts.telemetry import AppliedTunnel
from warren_contracts.tunnel import Tunnel

log = structlog.get_logger("warren_agent")

CONFIRM_WITHIN = 120.0  # s
ROLL_BACK_AFTER = 60.0  # s
TICK = 1.0  # s between two looks while anything is not confirmed
ASK_EVERY = 3.0  # s between two questions to the bus


class BusLink(Protocol):
    """Whether the bus can be reached."""

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection, which may have been cut unnoticed."""

    async def answers(self) -> bool:
        """Whether a server answers now."""


class NoLink:
    """For an agent without a bus: nothing is ever lost."""

    is_connected = False

    async def answers(self) -> bool:
        return False


class ChangeControl:
    """The changes of one agent. `confirm_within` and `roll_back_after` are seconds; 0 switches that off."""

    def __init__(
        self, monotonic: Callable[[], float], file: ChangesFile | None = None, link: BusLink | None = None,
        confirm_within: float = CONFIRM_WITHIN, roll_back_after: float = ROLL_BACK_AFTER,
    ) -> None:  # fmt: skip
        self._monotonic = monotonic
        self._file = file
        self._link = link or NoLink()
        self._confirm_within = confirm_within
        self._roll_back_after = roll_back_after
        self._changes: dict[str, PendingChange] = {}
        self._in_force: dict[str, Tunnel] = {}
        self._deadlines: dict[str, float] = {}  # of changes that are tried
        self._window: Window | None = None
        self._window_before: Window | None = None  # the round under way
        self._up_since: dict[str, float] = {}  # converged tunnels
        self._asked_at = float("-inf")
        self._fresh: dict[str, PendingChange | None] = {}  # of the round under way, with the changes before
        self._derived: dict[str, Tunnel] = {}
        self._versions = Versions(0, 0, {})
        self._saved: list[PendingChange] = []
        self._more = asyncio.Event()
        self._rolled_back: Callable[[str, str], None] = lambda name, detail: None
        self._wake: Callable[[], None] = lambda: None
        self._is_up: Callable[[str], bool] = lambda name: True

    def connect(
        self, wake: Callable[[], None], rolled_back: Callable[[str, str], None], is_up: Callable[[str], bool]
    ) -> None:
        """Set what is called when something else is to be in force, and for each tunnel that is rolled back; `is_up` says whether
        a tunnel's daemon answers."""
        self._wake, self._rolled_back, self._is_up = wake, rolled_back, is_up

    def restore(self) -> None:
        """Read what an earlier run left; what was not confirmed has its whole time again."""
        if self._file is None:
            return
        try:
            self._saved = self._file.read()
        except (OSError, ValueError) as error:
            log.error("changes.not_read", error=str(error))
        self._changes = {change.name: change for change in self._saved}
        now = self._monotonic()
        for change in self._saved:
            if change.phase in rules.TIMED:
                self._deadlines[change.name] = now + self._roll_back_after
        if any(change.phase is not ChangePhase.HELD for change in self._saved) and self._confirm_within:
            self._window = Window(now + self._confirm_within)
        self._more.set()

    # a round of the reconciler

    def in_effect(self, tunnels: Iterable[Tunnel], intent: Intent) -> tuple[Tunnel, ...]:
        """The tunnels that are to be in force of those that an intent derives."""
        self._derived = {tunnel.name: tunnel for tunnel in tunnels}
        revisions = {published.policy.id: published.revision for published in intent.state.published}
        self._versions = Versions(intent.epoch, intent.revision, revisions)
        before, self._changes = self._changes, rules.current(self._changes, self._derived, self._versions)
        for name in before.keys() - self._changes.keys():
            log.info("tunnel.rollback_superseded", tunnel=name, revision=intent.revision)
            self._deadlines.pop(name, None)
        self._save()
        return rules.in_effect(self._changes, self._derived.values())

    def assume(self, tunnels: Iterable[Tunnel]) -> None:
        """Take these as in force: an earlier run applied them."""
        self._in_force = {tunnel.name: tunnel for tunnel in tunnels}

    def begin(self, tunnels: Iterable[Tunnel], up: Iterable[str]) -> None:
        """Before these tunnels are applied: store what they would be taken back to. `up` are tunnels that carry traffic."""
        after = {tunnel.name: tunnel for tunnel in tunnels}
        tried = up if self._roll_back_after else ()
        changes = rules.begin(self._changes, self._in_force, after, self._versions, tried)
        self._fresh = {
            name: self._changes.get(name) for name, change in changes.items() if change is not self._changes.get(name)
        }
        self._changes = changes
        for name in self._fresh:
            self._deadlines.pop(name, None)
        self._window_before = self._window
        if self._fresh and self._confirm_within and self._link.is_connected:
            self._window = Window(self._monotonic() + self._confirm_within)
        if self._window is None:
            self._confirm()
        self._save()

    def finish(self, tunnels: Iterable[Tunnel], outcome: ApplyResult) -> None:
        """After a round: a step that was not done is not a change; the time of the others begins."""
        given = {tunnel.name: tunnel for tunnel in tunnels}
        self._in_force = {name: it for name, it in self._in_force.items() if name not in outcome.deleted}
        self._in_force |= {name: given[name] for name in outcome.put if name in given}
        undone = [name for name in self._fresh if name not in outcome.put and name not in outcome.deleted]
        for name in undone:
            self._put(name, self._fresh[name])
        if len(undone) == len(self._fresh):
            self._window = self._window_before
        now = self._monotonic()
        for name, change in self._changes.items():
            if change.phase in rules.TIMED and name in outcome.put and name not in self._deadlines:
                self._deadlines[name] = now + self._roll_back_after
        self._fresh = {}
        if not self._changes:
            self._window = None
        self._save()
        self._more.set()

    def observed(self, name: str, converged: bool) -> None:
        """A driver reported a tunnel: whether it is up on what the driver was given last."""
        if not converged:
            self._up_since.pop(name, None)
            return
        self._up_since.setdefault(name, self._monotonic())
        if self._phase(name) is ChangePhase.FINAL:
            self._advance(name, Occurrence.CONVERGED)

    def attempt_failed(self, name: str, code: ReasonCode) -> None:
        """A negotiation failed: a reason of the other end may be that it has got the new configuration by now."""
        if (
            code in rules.DIFFERENT
            and self._phase(name) is ChangePhase.HELD
            and self._advance(name, Occurrence.PEER_DIFFERS)
        ):
            log.info("tunnel.retried", tunnel=name, cause="the peer negotiates another configuration")
            self._wake()

    # time and the bus

    async def run(self) -> None:
        """Watch the time and the bus as long as anything is not confirmed, forever; ends by cancellation."""
        while True:
            if self._window is None and not self._deadlines:
                self._more.clear()
                await self._more.wait()
            await self.look()
            await asyncio.sleep(TICK)

    async def look(self) -> None:
        """Decide what is due now."""
        now = self._monotonic()
        if self._window is not None and now - self._asked_at >= ASK_EVERY:
            self._asked_at = now
            answers = await self._link.answers()
            now = self._monotonic()
            self._window = None if self._window is None else rules.observe(self._window, answers, now)
        self._settle(now)
        self._expire(now)
        if self._window is not None:
            await self._judge(self._window, now)

    def _settle(self, now: float) -> None:
        """A report may be about the configuration before: what stays up for a while is up."""
        for name, deadline in list(self._deadlines.items()):
            since = self._up_since.get(name)
            if since is not None and now - max(since, deadline - self._roll_back_after) >= TICK:
                self._advance(name, Occurrence.CONVERGED)

    def _expire(self, now: float) -> None:
        for name in [name for name, deadline in self._deadlines.items() if now >= deadline]:
            if not self._is_up(name):
                self._deadlines[name] = (
                    now + self._roll_back_after
                )  # its daemon does not answer, or another tunnel is used
                continue
            was = self._phase(name)
            limit = f"{self._roll_back_after:g} s"
            detail = f"did not come up within {limit} of a change, and the former configuration had worked: rolled back to it"
            self._advance(name, Occurrence.EXPIRED, detail if was is ChangePhase.TRIAL else "")
            if was is ChangePhase.TRIAL:
                log.error("tunnel.rolled_back", tunnel=name, cause=f"not up within {limit}")
                self._rolled_back(name, detail)
            else:
                log.warning(
                    "tunnel.rollback_ended", tunnel=name, cause="the former configuration does not come up either"
                )
            self._wake()

    async def _judge(self, window: Window, now: float) -> None:
        found = rules.verdict(window, now)
        if found is ChangeVerdict.OPEN:
            return
        self._window = None
        if found is ChangeVerdict.CONFIRMED:
            self._confirm()
            self._save()
            return
        detail = (
            f"the bus was lost within {self._confirm_within:g} s of a change: rolled back to the former configuration"
        )
        cut_off = [name for name, change in self._changes.items() if change.phase is not ChangePhase.HELD]
        log.error("intent.rolled_back", revision=self._versions.revision, tunnels=len(cut_off))
        for name in cut_off:
            self._advance(name, Occurrence.CUT_OFF, detail)
            self._rolled_back(name, detail)
        self._save()
        self._wake()
        self._more.set()

    def _confirm(self) -> None:
        for name, change in list(self._changes.items()):
            self._put(name, rules.advance(change, Occurrence.CONFIRMED))

    # what is reported

    def failures(self) -> list[AppliedTunnel]:
        """The changes that are not in force, for the report of a round."""
        return [
            AppliedTunnel(name=name, step="failed", reason=ReasonCode.ROLLED_BACK, detail=change.detail)
            for name, change in sorted(self._changes.items())
            if change.phase in rules.ROLLED_BACK
        ]

    def undeployed(self) -> Mapping[str, TunnelStatus]:
        """The derived tunnels that were rolled back to nothing."""
        return {
            name: TunnelStatus(
                name=name, policy=tunnel.policy, peer=tunnel.peer, state=TunnelState.ERROR, initiator=tunnel.initiator,
                reason=ReasonCode.ROLLED_BACK, detail=change.detail,
            )
            for name, change in self._changes.items()
            if change.phase in rules.ROLLED_BACK and change.former is None
            and (tunnel := self._derived.get(name)) is not None
        }  # fmt: skip

    def findings(self, config: Tunnel, status: TunnelStatus) -> Iterable[Contradiction]:
        """That a tunnel has its former configuration (an Inspector of `warren_agent.health`)."""
        change = self._changes.get(config.name)
        if change is not None and change.phase in rules.ROLLED_BACK:
            yield Contradiction(ReasonCode.ROLLED_BACK, change.detail)

    def former(self) -> tuple[Tunnel, ...]:
        """The former configurations that are in force in place of what was rolled back."""
        held = (change for change in self._changes.values() if change.phase in rules.ROLLED_BACK)
        return tuple(change.former for change in held if change.former is not None)

    # the table of changes

    def _phase(self, name: str) -> ChangePhase | None:
        change = self._changes.get(name)
        return None if change is None else change.phase

    def _advance(self, name: str, occurrence: Occurrence, detail: str = "") -> bool:
        """Whether that changed anything."""
        change = self._changes.get(name)
        if change is None:
            return False
        after = rules.advance(change, occurrence, detail)
        self._deadlines.pop(name, None)
        if after is not None and after.phase is ChangePhase.APPLIED and self._window is None:
            after = None  # nothing is missing
        self._put(name, after)
        self._save()
        return after != change

    def _put(self, name: str, change: PendingChange | None) -> None:
        if change is None:
            self._changes.pop(name, None)
            self._deadlines.pop(name, None)
        else:
            self._changes[name] = change

    def _save(self) -> None:
        """Write what changed. A disk that does not take it leaves the changes in memory."""
        held = list(self._changes.values())
        if self._file is None or held == self._saved:
            return
        with contextlib.suppress(OSError):
            self._file.write(held)
            self._saved = held
            return
        log.error("changes.not_saved", changes=len(held))
