"""The watchdog: when to start a tunnel. Pure: times are seconds of one monotonic clock, jitter is passed in.

The tunnel's initiator starts it almost at once, and again after every failure with a growing wait. The other end waits
until the tunnel was not converged for TAKEOVER_AFTER, and never starts while a negotiation is under way: both at once would
make two IKE_SAs. Which end that is, `expand` has decided the same way at both ends.
"""

from dataclasses import dataclass, replace

from warren_agent.drivers.port import TAKEOVER_AFTER
from warren_contracts.backoff import pause_s
from warren_contracts.tunnel import Tunnel

# s between a change and the first attempt: the other end learns of it at the same time, and applies it too
SETTLE = 0.05
FIRST_WAIT = 0.25  # s
LAST_WAIT = 30.0  # s: the longest pause between two attempts
JITTER = 0.25  # of the wait, so that a fleet does not start as one
# s without a result; then the negotiation is started again. charon's own schedule would wait up to 165 s for a peer, and send
# ever more rarely: a peer that returns is met sooner by a fresh IKE_SA_INIT.
ATTEMPT_LIMIT = 20.0


@dataclass(frozen=True, slots=True)
class Watch:
    """One tunnel as the watchdog sees it."""

    initiator: bool
    can_start: bool  # it knows an address of the peer, and the policy wants it up
    since: float  # when it was last converged, or was put
    converged: bool = False
    was_converged: bool = False
    connecting: bool = False
    attempt: float | None = None  # when the attempt under way began
    failures: int = 0
    not_before: float = 0.0
    restarts: int = 0


def put(config: Tunnel, now: float, before: Watch | None = None) -> Watch:
    """A tunnel with a new configuration: its first attempt is due as soon as the other end may have it."""
    return Watch(
        initiator=config.initiator,
        can_start=config.auto_start and bool(config.remote_endpoints),
        since=now,
        was_converged=before is not None and before.was_converged,
        not_before=now + SETTLE,
        restarts=before.restarts if before else 0,
    )


def observed(watch: Watch, converged: bool, connecting: bool, now: float) -> Watch:
    """Record what the driver reported."""
    if converged:
        return replace(
            watch,
            converged=True,
            was_converged=True,
            connecting=False,
            attempt=None,
            failures=0,
            since=now,
            not_before=now,
        )
    if watch.converged:
        return replace(watch, converged=False, connecting=connecting, since=now, not_before=now)
    return replace(watch, connecting=connecting)


def failed(watch: Watch, now: float, jitter: float) -> Watch:
    """An attempt ended without a tunnel; `jitter` is a number from 0 to 1."""
    if watch.converged or watch.attempt is None:
        return watch
    return replace(watch, attempt=None, failures=watch.failures + 1, not_before=now + wait(watch.failures, jitter))


def started(watch: Watch, now: float) -> Watch:
    """An attempt began."""
    return replace(watch, attempt=now, restarts=watch.restarts + watch.was_converged)


def resumed(watch: Watch, now: float) -> Watch:
    """The daemon is back: what is not up starts again, and the other end gets its full time again."""
    if watch.converged:
        return watch
    return replace(watch, connecting=False, attempt=None, failures=0, since=now, not_before=now)


def due_at(watch: Watch) -> float | None:
    """When the tunnel is to be started next, if nothing changes; None: not before something does."""
    if watch.converged or not watch.can_start:
        return None
    if watch.attempt is not None:
        return watch.attempt + ATTEMPT_LIMIT
    if watch.initiator:
        return watch.not_before
    if watch.connecting:
        return None
    return max(watch.not_before, watch.since + TAKEOVER_AFTER)


def wait(failures: int, jitter: float) -> float:
    """Seconds before the next attempt: FIRST_WAIT doubled for each failure before, at most LAST_WAIT, less some jitter."""
    return pause_s(failures, 1 - jitter, first_s=FIRST_WAIT, limit_s=LAST_WAIT, least=1 - JITTER)
