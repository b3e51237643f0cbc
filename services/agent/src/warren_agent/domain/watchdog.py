"""The watchdog: when to start a tunnel. Pure: times are seconds of one monotonic clock, jitter is passed in.

The tunnel's initiator starts it almost at once, and again after every failure. The other end waits until the tunnel was not
converged for TAKEOVER_AFTER, and never starts while a negotiation is under way: both at once would make two IKE_SAs. It
waits EDIT_TAKEOVER_AFTER only if the tunnel carries traffic on an older configuration: the initiator made its SAs before this end
had the edit, and sees nothing to do. Which end that is, `expand` has decided the same way at both ends.

How long to wait after a failure depends on its kind. A peer that refused is there, and may have what it lacks in a moment: the
waits grow from FIRST_WAIT. A peer that did not answer is started again every INITIATION_SPACING, three times, and then ever
more rarely, until an event says that it is back (`returned`).
"""

from dataclasses import dataclass, replace

from warren_agent.drivers.port import TAKEOVER_AFTER
from warren_contracts.tunnel import Tunnel
from warren_process.backoff import pause_s

# s between a change and the first attempt: the other end learns of it at the same time, and applies it too
SETTLE = 0.05
FIRST_WAIT = 0.25  # s
LAST_WAIT = 30.0  # s: the longest pause between two attempts that the peer refused
EDIT_TAKEOVER_AFTER = 2.0  # s
JITTER = 0.25  # of the wait, so that a fleet does not start as one
INITIATIONS = 3  # attempts without an answer before the pauses between them grow
INITIATION_SPACING = 30.0  # s between the beginnings of these attempts
LAST_SILENT_WAIT = 120.0  # s: the longest pause between two attempts that nobody answered
# s before a tunnel is started again whose attempt was given up for another one: charon's first retransmission takes 4 s
PREEMPTED_WAIT = 5.0


@dataclass(frozen=True, slots=True)
class Watch:
    """One tunnel as the watchdog sees it."""

    initiator: bool
    can_start: bool  # it knows an address of the peer, and the policy wants it up
    since: float  # when it was last converged, or was put
    converged: bool = False
    was_converged: bool = False
    connecting: bool = False
    carrying: bool = False  # by whatever configuration
    attempt: float | None = None  # when the attempt under way began
    answered: bool = False  # the peer has answered in this attempt
    failures: int = 0
    unanswered: int = 0  # attempts in a row that nobody answered
    not_before: float = 0.0
    restarts: int = 0


def put(config: Tunnel, now: float, before: Watch | None = None) -> Watch:
    """A tunnel with a new configuration: its first attempt is due as soon as the other end may have it."""
    return Watch(
        initiator=config.initiator,
        can_start=config.auto_start and bool(config.remote_endpoints),
        since=now,
        was_converged=before is not None and before.was_converged,
        carrying=before is not None and before.carrying,
        not_before=now + SETTLE,
        restarts=before.restarts if before else 0,
    )


def observed(watch: Watch, converged: bool, connecting: bool, now: float, carrying: bool = False) -> Watch:
    """Record what the driver reported."""
    watch = replace(watch, carrying=carrying)
    if converged:
        return replace(
            watch,
            converged=True,
            was_converged=True,
            connecting=False,
            attempt=None,
            failures=0,
            unanswered=0,
            since=now,
            not_before=now,
        )
    if watch.converged:
        return replace(watch, converged=False, connecting=connecting, since=now, not_before=now)
    return replace(watch, connecting=connecting)


def failed(watch: Watch, now: float, jitter: float, answered: bool = True) -> Watch:
    """An attempt ended without a tunnel; `jitter` is a number from 0 to 1, `answered` says whether the peer did."""
    if watch.converged or watch.attempt is None:
        return watch
    ended = replace(watch, attempt=None, failures=watch.failures + 1)
    if answered:
        return replace(ended, unanswered=0, not_before=now + wait(watch.failures, jitter))
    silent = watch.unanswered + 1
    return replace(ended, unanswered=silent, not_before=max(now, watch.attempt + silent_wait(silent, jitter)))


def preempted(watch: Watch, now: float) -> Watch:
    """Its attempt was given up for another tunnel, before the peer had much time to answer."""
    if watch.converged or watch.attempt is None:
        return watch
    soon = now + PREEMPTED_WAIT if watch.unanswered == 0 else watch.attempt + INITIATION_SPACING
    return replace(
        watch, attempt=None, failures=watch.failures + 1, unanswered=max(1, watch.unanswered), not_before=soon
    )


def started(watch: Watch, now: float) -> Watch:
    """An attempt began."""
    return replace(watch, attempt=now, answered=False, restarts=watch.restarts + watch.was_converged)


def resumed(watch: Watch, now: float) -> Watch:
    """The daemon is back: what is not up starts again, and the other end gets its full time again."""
    if watch.converged:
        return watch
    return replace(watch, connecting=False, attempt=None, failures=0, unanswered=0, since=now, not_before=now)


def returned(watch: Watch, now: float) -> Watch:
    """An event says that the peer is back: its tunnel is due at once, however long it did not answer."""
    if watch.converged:
        return watch
    return replace(watch, attempt=None, failures=0, unanswered=0, not_before=now)


def due_at(watch: Watch) -> float | None:
    """When the tunnel is to be started next, if nothing changes; None: not before something does, or an attempt is under way."""
    if watch.converged or not watch.can_start or watch.attempt is not None:
        return None
    if watch.initiator:
        return watch.not_before
    if watch.connecting:
        return None
    return max(watch.not_before, watch.since + (EDIT_TAKEOVER_AFTER if watch.carrying else TAKEOVER_AFTER))


def wait(failures: int, jitter: float) -> float:
    """Seconds before the next attempt: FIRST_WAIT doubled for each failure before, at most LAST_WAIT, less some jitter."""
    return pause_s(failures, 1 - jitter, first_s=FIRST_WAIT, limit_s=LAST_WAIT, least=1 - JITTER)


def attempt_limit(watch: Watch) -> float:
    """Seconds without a result after which an attempt is begun again.

    charon's own schedule would wait 165 s for a peer, and send ever more rarely: a peer that returns is met sooner by a
    fresh IKE_SA_INIT.
    """
    return silent_wait(watch.unanswered + 1, 1.0)


def silent_wait(unanswered: int, jitter: float) -> float:
    """Seconds from the beginning of the last of so many attempts that nobody answered to the next one."""
    if unanswered < INITIATIONS:
        return INITIATION_SPACING
    return pause_s(
        unanswered - INITIATIONS + 1, 1 - jitter, first_s=INITIATION_SPACING, limit_s=LAST_SILENT_WAIT, least=1 - JITTER
    )
