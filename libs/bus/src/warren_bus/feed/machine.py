"""The feed's protocol, without I/O: inputs go in by calls, commands and states come out.

Theory. A feed is AWAY, ASKING or FOLLOWING. A connect starts a *round*: ask whoami; on its answer drop what is no longer
granted, subscribe to the own live subjects, then ask for the snapshot (Direct Gets and directory pages). Subscribing comes
before the snapshot, so nothing falls between. Live messages are taken in every state. Whatever makes us doubt that we hold
everything (a gap, a differing digest, a refused document, a slow consumer, an incomplete batch) starts a new round, jittered
and never too often.

| state | input | next |
|---|---|---|
| any | connected | ASKING (jittered after the first) |
| ASKING | a believed whoami | FOLLOWING |
| ASKING | no answer, or a refused one | ASKING, asked again with growing waits |
| FOLLOWING | doubt | ASKING, subscriptions stay |
| any | disconnected | AWAY |

A state is handed out when every own reader was read once, no batch is incomplete (or it was for BATCH_WAIT) and no snapshot is
under way (or it is for ROUND_HOLD): so a policy that moves between two of our tags is never seen in neither.
"""

from collections import Counter, deque
from collections.abc import Callable, Mapping

from warren_bus.client_subjects import live_subjects
from warren_bus.dial import Uniform
from warren_bus.feed import documents
from warren_bus.feed.commands import AskPage, AskWhoami, Command, GetPolicy, GetSecret, Request, Subscribe, Unsubscribe
from warren_bus.feed.holdings import PageRun, VerifiedState
from warren_bus.feed.sequence import HEADER_SEQUENCE, LivePosition, Order, SequenceLog, parse_live
from warren_bus.feed.state import Cause, FeedIdentity, FeedState, version_of
from warren_bus.feed.times import FeedTimes, Phase, Timer
from warren_contracts import subjects
from warren_contracts.documents import TrustDocument
from warren_contracts.subjects import Audience
from warren_trust.errors import DocumentRefusedError, OlderRevisionError
from warren_trust.signing import Version, stated_version

MAX_HELD = 4_096  # live messages that wait to be verified; beyond, they are dropped and a round makes up for it
MAX_HELD_BYTES = 16 * 1024 * 1024
MAX_STALE_GETS = 5  # tries for a set that the digest tells of and a lagging replica does not have yet (c16)

Headers = Mapping[str, str] | None


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
        self._identity = identity
        self._rng = rng
        self._times = times or FeedTimes()
        self.holdings = VerifiedState(identity, trust, saved)
        self.phase = Phase.AWAY
        self.counters: Counter[str] = Counter()
        self._sequences = SequenceLog()
        self._commands: list[Command] = []
        self._event: FeedState | None = None
        self._accepted: Cause | None = None  # the newest live document that changed something since the last state
        self.cause: Cause | None = None  # of the last state; None: a snapshot made it
        self._emitted = -1 if saved is None else 0  # the changes of the last state handed out (a saved one was)
        self._timers: dict[Timer | Request, float] = {}
        self._round = 0
        self._round_started = 0.0
        self._pending: set[Request] = set()
        self._attempts: Counter[Request] = Counter()
        self._pages: dict[Audience, PageRun] = {}
        self._subscribed: set[str] = set()
        known = self.holdings.readers if saved is not None else ()
        self._known: set[tuple[str, Audience]] = {
            (kind, reader) for reader in known for kind in ("policy", "directory")
        }
        self._unsure: set[Audience] = set()  # own readers whose sets a gap or an absence made doubtful
        self._held: deque[tuple[LivePosition, Headers, bytes, float]] = deque()
        self._held_bytes = 0

    # -- outputs -----------------------------------------------------------------------------------------------------

    def commands(self) -> list[Command]:
        """What the shell shall do, in this order."""
        commands, self._commands = self._commands, []
        return commands

    def next_event(self) -> FeedState | None:
        """The newest state, once, if it has changed since the last call."""
        event, self._event = self._event, None
        return event

    def get_timer(self) -> float | None:
        """When `handle_timer` wants to be called."""
        return min(self._timers.values(), default=None)

    # -- inputs ------------------------------------------------------------------------------------------------------

    def connected(self, now: float, *, fresh: bool) -> None:
        """The bus is there (again). `fresh`: a new client, which has no subscriptions."""
        first = self._round == 0
        self._stop_round()
        self._sequences.forget()
        self._unsure.update(self.holdings.readers)  # what was missed may have been part of a batch
        if fresh:
            self._subscribed.clear()
        self.phase = Phase.ASKING
        self._timers[Timer.ROUND] = now if first else now + self._rng.uniform(0, self._times.reconnect_jitter)

    def disconnected(self, now: float) -> None:
        self._stop_round()
        self.phase = Phase.AWAY
        self._emit(now)

    @property
    def synchronised(self) -> bool:
        """Whether the last round is complete and everything it brought was handed out."""
        return self.phase is Phase.FOLLOWING and not self._pending and self.holdings.changes == self._emitted

    def handle_timer(self, now: float) -> None:
        """Do what is due."""
        for timer in [timer for timer, due in self._timers.items() if due <= now]:
            if self._timers.pop(timer, None) is None:
                continue  # a timer before it ended the round that this one belonged to
            if isinstance(timer, Timer):
                _TIMER_HANDLERS[timer](self, now)
            elif timer.round == self._round:
                self._commands.append(timer)

    def hold_live(self, live_subject: str, headers: Headers, payload: bytes, now: float) -> bool:
        """The first gate of a live message; what passes waits for `process_held`. Costs no signature."""
        try:
            mark = parse_live(live_subject, headers)
        except DocumentRefusedError as refusal:
            self._count(refusal)
            return False
        if self._sequences.note(mark) is Order.GAP:
            self.counters["gap"] += 1
            if mark.kind == "policy":  # the missed set may have been part of a batch
                self._unsure.update(self.holdings.readers)
            self.doubt(now)
        if len(self._held) >= MAX_HELD or self._held_bytes + len(payload) > MAX_HELD_BYTES:
            self.counters["overflow"] += 1
            self.doubt(now)
            return False
        self._held.append((mark, headers, payload, now))
        self._held_bytes += len(payload)
        return True

    def process_held(self, now: float, limit: int = MAX_HELD) -> bool:
        """The second gate, for up to `limit` messages in the order of their arrival; whether more are waiting."""
        for _ in range(min(limit, len(self._held))):
            mark, headers, payload, held_at = self._held.popleft()
            self._held_bytes -= len(payload)
            reader = mark.subject.split(".")[3]
            if mark.kind != "secret" and reader not in self.holdings.readers:
                continue  # granted once, and on its way when it was withdrawn
            changes = self.holdings.changes
            try:
                _LIVE_HANDLERS[mark.kind](self, mark.subject, reader, headers, payload, now)
            except DocumentRefusedError as refusal:
                self._count(refusal)
                if not isinstance(refusal, OlderRevisionError):
                    self.doubt(now)
            if self.holdings.changes != changes:
                self._accepted = Cause(held_at, headers)
        self._emit(now)
        return bool(self._held)

    def receive_reply(self, request: Request, headers: Headers, payload: bytes, now: float) -> None:
        """The answer to a request, whatever it says."""
        if request.round != self._round or request not in self._pending:
            return
        try:
            _REPLY_HANDLERS[type(request)](self, request, headers, payload, now)
        except DocumentRefusedError as refusal:
            self._count(refusal)
            self._retry(request, now)
        self._emit(now)

    def request_failed(self, request: Request, now: float) -> None:
        """No answer came, or an error."""
        if request.round == self._round and request in self._pending:
            self.counters["no-answer"] += 1
            self._retry(request, now)
            self._emit(now)

    def subscription_refused(self, live_subject: str, now: float) -> None:
        """The server does not grant what whoami told: it will after a reconnect, or a later whoami tells otherwise."""
        self.counters["subscription-refused"] += 1
        if live_subject in self._subscribed:
            self._subscribed.discard(live_subject)
            self._commands.append(Unsubscribe(live_subject))
        self.doubt(now)

    def doubt(self, now: float) -> None:
        """Something may be missing: a new round, jittered, not more often than `round_interval`."""
        if self.phase is Phase.AWAY or Timer.ROUND in self._timers:
            return
        jittered = now + self._rng.uniform(0, self._times.doubt_jitter)
        self._timers[Timer.ROUND] = max(jittered, self._round_started + self._times.round_interval)

    # -- rounds ------------------------------------------------------------------------------------------------------

    def _stop_round(self) -> None:
        self._round += 1
        self._pending.clear()
        self._attempts.clear()
        self._pages.clear()
        self._timers.clear()

    def _start_round(self, now: float) -> None:
        if self.phase is Phase.AWAY:
            return
        self._stop_round()
        self.counters["round"] += 1
        self.phase = Phase.ASKING
        self._round_started = now
        self._request(AskWhoami(self._round))

    def _request(self, request: Request) -> None:
        self._pending.add(request)
        self._commands.append(request)

    def _retry(self, request: Request, now: float, first: float | None = None) -> None:
        wait = min(self._times.retry_limit, (first or self._times.retry_first) * 2 ** min(self._attempts[request], 8))
        self._attempts[request] += 1
        self._timers[request] = now + self._rng.uniform(wait / 2, wait)

    def _answered(self, request: Request) -> None:
        self._pending.discard(request)
        self._timers.pop(request, None)
        if not self._pending:
            self._timers.pop(Timer.ROUND_HOLD, None)

    def _whoami_reply(self, request: AskWhoami, headers: Headers, payload: bytes, now: float) -> None:
        whoami, trust = documents.read_whoami(
            self._identity, self.holdings.trust, headers, payload, self.holdings.whoami
        )
        self._answered(request)
        self.holdings.accept_whoami(whoami, trust)
        self.phase = Phase.FOLLOWING
        readers = self.holdings.readers
        self._known = {(kind, reader) for kind, reader in self._known if reader in readers}
        self._follow(set(live_subjects(self._identity.peer, self.holdings.tags)))
        self._timers[Timer.ROUND_HOLD] = now + self._times.round_hold
        self._request(GetSecret(self._round))
        told = {digest.reader for digest in whoami.digests}
        for reader in readers:
            self._request(GetPolicy(self._round, reader))
            confirmed = reader in told and ("directory", reader) in self._known
            if not (confirmed and self.holdings.directory_agrees(reader)):
                self._request(AskPage(self._round, reader))

    def _follow(self, granted: set[str]) -> None:
        self._commands += [Unsubscribe(subject) for subject in sorted(self._subscribed - granted)]
        self._commands += [Subscribe(subject) for subject in sorted(granted - self._subscribed)]
        self._subscribed = granted

    def _policy_reply(self, request: GetPolicy, headers: Headers, payload: bytes, now: float) -> None:
        reader = request.reader
        if not documents.is_absent(headers):
            self._note_stored(subjects.policy(reader), headers)
            if self._is_news(headers, self.holdings.policy_version(reader)):
                self._live_policy(subjects.policy(reader), reader, headers, payload, now)
        if self.holdings.policy_is_behind(reader) and self._attempts[request] < MAX_STALE_GETS:
            self.counters["stale"] += 1
            self._retry(request, now, self._times.stale_retry)
            return
        self._known.add(("policy", reader))
        self._unsure.discard(reader)
        self._answered(request)

    def _secret_reply(self, request: GetSecret, headers: Headers, payload: bytes, now: float) -> None:
        if not documents.is_absent(headers):
            self._note_stored(subjects.secret(self._identity.peer), headers)
            if self._is_news(headers, version_of(self.holdings.secret) if self.holdings.secret else None):
                self._take_secret(headers, payload)
        self._answered(request)

    def _is_news(self, headers: Headers, held: Version | None) -> bool:
        """Whether a stored document is worth a verification: replicas may lag (c16), and another epoch's is void."""
        stated = stated_version(headers)
        return stated[0] >= self.holdings.trust.epoch and (held is None or stated > held)

    def _note_stored(self, subject: str, headers: Headers) -> None:
        sequence = (headers or {}).get(HEADER_SEQUENCE, "")
        if sequence.isascii() and sequence.isdigit() and len(sequence) <= 20:
            self._sequences.stored(subject, int(sequence))

    def _page_reply(self, request: AskPage, headers: Headers, payload: bytes, now: float) -> None:
        reader = request.reader
        floor = self.holdings.floors.get(reader)
        page, records, unread = documents.read_page(
            self.holdings.verifier, self._identity.peer, reader, request.after, headers, payload, floor
        )
        version = (page.epoch, page.revision)
        run = self._pages.get(reader) if request.after else None
        if run is None:
            run = self._pages[reader] = PageRun({}, version)
        fresh = run.add(records, version) or unread > 0
        if unread:
            self.counters["record-unread"] += unread
        self._answered(request)
        if page.next_after is not None and fresh:
            self._request(AskPage(self._round, reader, page.next_after))
            return
        del self._pages[reader]
        self.holdings.put_pages(reader, run.records, run.version)
        self._known.add(("directory", reader))

    # -- live messages -----------------------------------------------------------------------------------------------

    def _live_policy(self, subject: str, reader: Audience, headers: Headers, payload: bytes, now: float) -> None:
        held = self.holdings.policy_version(reader)
        self.holdings.put_policy(documents.read_policy_set(self.holdings.verifier, reader, headers, payload, held))

    def _live_record(self, subject: str, reader: Audience, headers: Headers, payload: bytes, now: float) -> None:
        held = self.holdings.record_version(reader, subject.rsplit(".", 1)[1])
        self.holdings.put_record(reader, documents.read_record(self.holdings.verifier, subject, headers, payload, held))

    def _live_digest(self, subject: str, reader: Audience, headers: Headers, payload: bytes, now: float) -> None:
        held = self.holdings.digests.get(reader)
        version = version_of(held) if held else None
        self.holdings.put_digest(documents.read_digest(self.holdings.verifier, reader, headers, payload, version))
        if self.holdings.policy_is_behind(reader) or not self.holdings.directory_agrees(reader):
            self.counters["digest-differs"] += 1
            self.doubt(now)

    def _live_secret(self, subject: str, reader: Audience, headers: Headers, payload: bytes, now: float) -> None:
        self._take_secret(headers, payload)

    def _take_secret(self, headers: Headers, payload: bytes) -> None:
        held = version_of(self.holdings.secret) if self.holdings.secret else None
        self.holdings.put_secret(
            documents.read_secret(self.holdings.verifier, self._identity.peer, headers, payload, held)
        )

    # -- states ------------------------------------------------------------------------------------------------------

    def _complete(self) -> bool:
        kinds = ("policy", "directory")
        wanted = ((kind, reader) for reader in self.holdings.readers for kind in kinds)
        return self.holdings.whoami is not None and all(pair in self._known for pair in wanted)

    def _emit(self, now: float) -> None:
        if self.holdings.changes == self._emitted or not self._complete():
            return
        if self._lacking():
            if self.phase is not Phase.AWAY:  # away, the last state stands until we can ask
                self._timers.setdefault(Timer.BATCH_ASK, now + self._times.batch_ask)
                self._timers.setdefault(Timer.BATCH_LIMIT, now + self._times.batch_wait)
            return
        self._timers.pop(Timer.BATCH_ASK, None)
        self._timers.pop(Timer.BATCH_LIMIT, None)
        if Timer.ROUND_HOLD in self._timers:
            return
        self._emitted = self.holdings.changes
        self._event = self.holdings.state()
        self.cause, self._accepted = self._accepted, None

    def _lacking(self) -> frozenset[Audience]:
        return self.holdings.missing_of_batches().union(self._unsure.intersection(self.holdings.readers))

    def _ask_for_batch(self, now: float) -> None:
        for reader in sorted(self._lacking()):
            self._request(GetPolicy(self._round, reader))

    def _waive_batch(self, now: float) -> None:
        self.counters["batch-incomplete"] += 1
        self.holdings.waive_batches()
        self._unsure.clear()
        self.doubt(now)
        self._emit(now)

    def _count(self, refusal: DocumentRefusedError) -> None:
        self.counters[f"refused-{refusal.code}"] += 1


_TIMER_HANDLERS: dict[Timer, Callable[[FeedMachine, float], None]] = {
    Timer.ROUND: FeedMachine._start_round,
    Timer.BATCH_ASK: FeedMachine._ask_for_batch,
    Timer.BATCH_LIMIT: FeedMachine._waive_batch,
    Timer.ROUND_HOLD: FeedMachine._emit,
}

_LIVE_HANDLERS: dict[str, Callable[[FeedMachine, str, Audience, Headers, bytes, float], None]] = {
    "policy": FeedMachine._live_policy,
    "directory": FeedMachine._live_record,
    "digest": FeedMachine._live_digest,
    "secret": FeedMachine._live_secret,
}

_REPLY_HANDLERS: dict[type[Request], Callable[..., None]] = {
    AskWhoami: FeedMachine._whoami_reply,
    GetPolicy: FeedMachine._policy_reply,
    GetSecret: FeedMachine._secret_reply,
    AskPage: FeedMachine._page_reply,
}
