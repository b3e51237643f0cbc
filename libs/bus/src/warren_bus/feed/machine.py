"""The feed's protocol, without I/O: inputs are method calls, outputs are commands and states.

A feed is DISCONNECTED, IDENTIFYING or FOLLOWING (`times.TRANSITIONS`). A connect starts a *synchronisation*: request whoami; on its
reply drop what is no longer granted, subscribe to its own live subjects, then request the snapshot (Direct Gets and directory
pages). Subscriptions come before the snapshot, so no message is lost between them. Live messages are accepted in every phase.
Whenever something may be missing (a gap, a digest that differs, a refused document, a slow consumer, an incomplete batch) a new
synchronisation is requested: jittered, and not more often than `resync_interval`.

| phase | input | next |
|---|---|---|
| any | connected | IDENTIFYING (jittered after the first) |
| IDENTIFYING | a verified whoami | FOLLOWING |
| IDENTIFYING | no reply, or a refused one | IDENTIFYING, requested again with growing waits |
| FOLLOWING | a synchronisation is due | IDENTIFYING, subscriptions stay |
| any | disconnected | DISCONNECTED |

The parts: `schedule` (requests, retries, timers), `sequence` and `live_queue` (live messages before their verification), `intake`
(verify and accept), `synchronisation` (requests and their replies), `release` (when a state is handed out).
"""

from collections import Counter
from collections.abc import Callable

from warren_bus.connect_backoff import Uniform
from warren_bus.feed.commands import (
    Command,
    Request,
    RequestWhoami,
)
from warren_bus.feed.intake import Headers, Intake
from warren_bus.feed.live_queue import MAX_QUEUED, LiveQueue, QueuedMessage
from warren_bus.feed.release import Release
from warren_bus.feed.schedule import Schedule
from warren_bus.feed.sequence import Order, SequenceLog, parse_live
from warren_bus.feed.state import FeedIdentity, FeedState, StateCause
from warren_bus.feed.synchronisation import Synchronisation
from warren_bus.feed.times import TRANSITIONS, FeedPhase, FeedTimes, Timer, Transition
from warren_bus.feed.verified_state import VerifiedState
from warren_contracts.documents import TrustDocument
from warren_trust.errors import DocumentRefusedError, OlderRevisionError

OLDER_REVISION = f"refused-{OlderRevisionError.code}"


class FeedMachine:
    """One peer's feed. `rng` gives jitter; `now` is any monotonic clock in seconds."""

    def __init__(
        self,
        identity: FeedIdentity,
        trust: TrustDocument,
        rng: Uniform,
        saved: FeedState | None = None,
        times: FeedTimes | None = None,
    ) -> None:
        self.verified = VerifiedState(identity, trust, saved)
        self.phase = FeedPhase.DISCONNECTED
        self.counters: Counter[str] = Counter()
        self._intake = Intake(identity, self.verified)
        self._schedule = Schedule(times or FeedTimes(), rng)
        self._release = Release(self.verified, self._schedule, saved=saved is not None)
        self._sequences = SequenceLog()
        self._live = LiveQueue()
        self._connected_at = 0.0
        self._digests_at: dict[str, float] = {}  # by reader: when its newest digest was accepted
        self._synchronisation = Synchronisation(
            self._intake, self._schedule, self._release, self._sequences, self.counters
        )

    @property
    def errors(self) -> int:
        """How often intent could not be read or verified. Synchronisations, gaps and older revisions are normal operation."""
        refused = sum(n for name, n in self.counters.items() if name.startswith("refused-") and name != OLDER_REVISION)
        return refused + sum(self.counters[name] for name in ("subscription-refused", "batch-incomplete", "no-answer"))

    # -- outputs -----------------------------------------------------------------------------------------------------

    def commands(self) -> list[Command]:
        """The commands for the shell, in their order."""
        return self._synchronisation.take_commands()

    def next_event(self) -> FeedState | None:
        """The newest state, once, if it has changed since the last call."""
        return self._release.take()

    @property
    def cause(self) -> StateCause | None:
        """The live document that made the last state; None: a snapshot made it."""
        return self._release.cause

    def get_timer(self) -> float | None:
        """When `handle_timer` is to be called."""
        return self._schedule.next_due()

    @property
    def synchronised(self) -> bool:
        """Whether the last synchronisation is complete and everything that it brought was handed out."""
        return self.phase is FeedPhase.FOLLOWING and self._schedule.idle and self._release.up_to_date

    def unconfirmed_s(self, now: float) -> float | None:
        """For how long no digest of some own reader has arrived, although the bus is connected; None while it is not.

        The registry signs one a minute for each reader. Without them a server that withholds messages would not be noticed.
        """
        if self.phase is FeedPhase.DISCONNECTED:
            return None
        since = (max(self._digests_at.get(reader, 0.0), self._connected_at) for reader in self.verified.readers)
        return now - min(since, default=self._connected_at)

    # -- inputs ------------------------------------------------------------------------------------------------------

    def connected(self, now: float, *, fresh: bool) -> None:
        """The bus is connected or reconnected. `fresh`: a new client, which has no subscriptions."""
        first = self._schedule.sync == 0
        self._connected_at = now
        self._enter(Transition.CONNECTED)
        self._sequences.forget()
        self._release.require_all_sets()  # what was missed may have been part of a batch
        if fresh:
            self._synchronisation.subscribed.clear()
        jitter = 0.0 if first else self._schedule.jitter(self._schedule.times.reconnect_jitter)
        self._schedule.set(Timer.SYNC, now + jitter)

    def disconnected(self, now: float) -> None:
        self._enter(Transition.DISCONNECTED)
        self._update(now)

    def handle_timer(self, now: float) -> None:
        """Do what is due."""
        for due in self._schedule.take_due(now):
            if isinstance(due, Timer):
                _TIMER_HANDLERS[due](self, now)
            elif due.sync == self._schedule.sync:
                self._synchronisation.repeat(due)

    def enqueue_live(self, live_subject: str, headers: Headers, payload: bytes, now: float) -> bool:
        """Check that a live message was republished by its stream, and queue it for `verify_queued`. Costs no signature."""
        try:
            position = parse_live(live_subject, headers)
        except DocumentRefusedError as refusal:
            self._count(refusal)
            return False
        if self._sequences.note(position) is Order.GAP:
            self.counters["gap"] += 1
            if position.kind == "policy":
                self._release.require_all_sets()
            self.request_resync(now)
        if not self._live.put(QueuedMessage(position, headers, payload, now)):
            self.counters["overflow"] += 1
            self.request_resync(now)
            return False
        return True

    def verify_queued(self, now: float, limit: int = MAX_QUEUED) -> bool:
        """Verify and accept up to `limit` queued messages in the order of their arrival; whether more are waiting."""
        for message in self._live.take(limit):
            changes = self.verified.changes
            try:
                self._intake.accept_live(message.position, message.headers, message.payload)
            except DocumentRefusedError as refusal:
                self._count(refusal)
                if not isinstance(refusal, OlderRevisionError):
                    self.request_resync(now)
            else:
                if message.position.kind == "digest":
                    self._compare_digest(message.position.subject.rsplit(".", 1)[1], now)
            if self.verified.changes != changes:
                self._release.caused_by(StateCause(message.arrived_at, message.headers))
        self._update(now)
        return len(self._live) > 0

    def receive_reply(self, request: Request, headers: Headers, payload: bytes, now: float) -> None:
        """Process the reply to a request."""
        if not self._schedule.awaits(request):
            return
        try:
            self._synchronisation.receive(request, headers, payload, now)
            if isinstance(request, RequestWhoami):
                self._enter(Transition.IDENTIFIED)
        except DocumentRefusedError as refusal:
            self._count(refusal)
            self._schedule.retry(request, now)
        self._update(now)

    def request_failed(self, request: Request, now: float) -> None:
        """No reply came, or an error."""
        if self._schedule.awaits(request):
            self.counters["no-answer"] += 1
            self._schedule.retry(request, now)
            self._update(now)

    def subscription_refused(self, live_subject: str, now: float) -> None:
        """The server does not grant what whoami named: it will after a reconnect, or a later whoami no longer names it."""
        self.counters["subscription-refused"] += 1
        self._synchronisation.unsubscribe(live_subject)
        self.request_resync(now)

    def request_resync(self, now: float) -> None:
        """Something may be missing: schedule a synchronisation, jittered, not more often than `resync_interval`."""
        if self.phase is not FeedPhase.DISCONNECTED:
            self._schedule.schedule_resync(now)

    # -- synchronisation ---------------------------------------------------------------------------------------------

    def _enter(self, transition: Transition) -> bool:
        """Change the phase, and drop the requests of the former one unless the reply to one made the change."""
        phase = TRANSITIONS.get((self.phase, transition))
        if phase is None:
            return False
        self.phase = phase
        if transition is not Transition.IDENTIFIED:
            self._schedule.reset()
            self._intake.reset_pages()
        return True

    def _start_sync(self, now: float) -> None:
        if self._enter(Transition.SYNC_DUE):
            self.counters["sync"] += 1
            self._schedule.started(now)
            self._synchronisation.start()

    def _compare_digest(self, reader: str, now: float) -> None:
        """After a digest was accepted: what it does not agree with is read again."""
        if reader not in self.verified.readers:
            return
        self._digests_at[reader] = now
        verified = self.verified
        if (
            verified.policy_is_behind(reader)
            or verified.trust_is_behind(reader)
            or not verified.directory_agrees(reader)
        ):
            self.counters["digest-differs"] += 1
            self.request_resync(now)

    # -- states ------------------------------------------------------------------------------------------------------

    def _update(self, now: float) -> None:
        self._release.update(now, connected=self.phase is not FeedPhase.DISCONNECTED)

    def _request_missing(self, now: float) -> None:
        self._synchronisation.request_policies(self._release.missing())

    def _waive_batch(self, now: float) -> None:
        self.counters["batch-incomplete"] += 1
        self._release.waive_batches()
        self.request_resync(now)
        self._update(now)

    def _count(self, refusal: DocumentRefusedError) -> None:
        self.counters[f"refused-{refusal.code}"] += 1


_TIMER_HANDLERS: dict[Timer, Callable[[FeedMachine, float], None]] = {
    Timer.SYNC: FeedMachine._start_sync,
    Timer.BATCH_REQUEST: FeedMachine._request_missing,
    Timer.BATCH_LIMIT: FeedMachine._waive_batch,
    Timer.SYNC_HOLD: FeedMachine._update,
}
