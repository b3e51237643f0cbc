"""The requests of one synchronisation, in their order, and their replies: whoami, subscriptions, snapshot."""

from collections import Counter
from collections.abc import Callable, Iterable

from warren_bus.client_subjects import live_subjects
from warren_bus.feed import documents
from warren_bus.feed.commands import (
    Command,
    GetPolicySet,
    GetSecret,
    Request,
    RequestPage,
    RequestWhoami,
    Subscribe,
    Unsubscribe,
)
from warren_bus.feed.intake import Headers, Intake
from warren_bus.feed.release import Release
from warren_bus.feed.schedule import Schedule
from warren_bus.feed.sequence import HEADER_SEQUENCE, SequenceLog
from warren_bus.feed.times import Timer
from warren_contracts import subjects
from warren_contracts.subjects import Audience

MAX_STALE_GETS = 5  # requests for a set that the digest names and a lagging replica does not have yet (c16)


class Synchronisation:
    """Sends requests as commands and processes their replies; `schedule` numbers, repeats and ends them."""

    def __init__(
        self, intake: Intake, schedule: Schedule, release: Release, sequences: SequenceLog, counters: Counter[str]
    ) -> None:
        self._intake = intake
        self._schedule = schedule
        self._release = release
        self._sequences = sequences
        self._counters = counters
        self._commands: list[Command] = []
        self.subscribed: set[str] = set()

    def take_commands(self) -> list[Command]:
        commands, self._commands = self._commands, []
        return commands

    def start(self) -> None:
        self._request(RequestWhoami(self._schedule.sync))

    def repeat(self, request: Request) -> None:
        """Send a request again whose retry is due."""
        self._commands.append(request)

    def request_policies(self, readers: Iterable[Audience]) -> None:
        """Request the sets of these readers outside of a snapshot: parts of a batch that are missing."""
        for reader in sorted(readers):
            self._request(GetPolicySet(self._schedule.sync, reader))

    def unsubscribe(self, live_subject: str) -> None:
        """Drop a subscription that the server refused."""
        if live_subject in self.subscribed:
            self.subscribed.discard(live_subject)
            self._commands.append(Unsubscribe(live_subject))

    def receive(self, request: Request, headers: Headers, payload: bytes, now: float) -> None:
        """Process a reply; raises DocumentRefusedError."""
        _REPLY_HANDLERS[type(request)](self, request, headers, payload, now)

    def _request(self, request: Request) -> None:
        self._schedule.add(request)
        self._commands.append(request)

    def _receive_whoami(self, request: RequestWhoami, headers: Headers, payload: bytes, now: float) -> None:
        whoami = self._intake.accept_whoami(headers, payload)
        self._schedule.answered(request)
        verified = self._intake.verified
        self._release.keep_readers(verified.readers)
        self._subscribe(set(live_subjects(verified.peer, verified.tags)))
        self._schedule.set(Timer.SYNC_HOLD, now + self._schedule.times.sync_hold)
        self._request(GetSecret(request.sync))
        with_digest = {digest.reader for digest in whoami.digests}
        for reader in verified.readers:
            self._request(GetPolicySet(request.sync, reader))
            comparable = reader in with_digest and self._release.was_read("directory", reader)
            if not (comparable and verified.directory_agrees(reader)):
                self._request(RequestPage(request.sync, reader))

    def _subscribe(self, granted: set[str]) -> None:
        self._commands += [Unsubscribe(subject) for subject in sorted(self.subscribed - granted)]
        self._commands += [Subscribe(subject) for subject in sorted(granted - self.subscribed)]
        self.subscribed = granted

    def _receive_policy(self, request: GetPolicySet, headers: Headers, payload: bytes, now: float) -> None:
        reader = request.reader
        self._note_stored(subjects.policy(reader), headers)
        self._intake.accept_stored_policy(reader, headers, payload)
        if self._intake.verified.policy_is_behind(reader) and self._schedule.attempts(request) < MAX_STALE_GETS:
            self._counters["stale"] += 1
            self._schedule.retry(request, now, self._schedule.times.stale_retry)
            return
        self._release.read("policy", reader)
        self._schedule.answered(request)

    def _receive_secret(self, request: GetSecret, headers: Headers, payload: bytes, now: float) -> None:
        self._note_stored(subjects.secret(self._intake.verified.peer), headers)
        self._intake.accept_stored_secret(headers, payload)
        self._schedule.answered(request)

    def _note_stored(self, subject: str, headers: Headers) -> None:
        if documents.is_absent(headers):
            return
        sequence = (headers or {}).get(HEADER_SEQUENCE, "")
        if sequence.isascii() and sequence.isdigit() and len(sequence) <= 20:
            self._sequences.stored(subject, int(sequence))

    def _receive_page(self, request: RequestPage, headers: Headers, payload: bytes, now: float) -> None:
        next_after, unreadable = self._intake.accept_page(request.reader, request.after, headers, payload)
        if unreadable:
            self._counters["record-unread"] += unreadable
        self._schedule.answered(request)
        if next_after is not None:
            self._request(RequestPage(request.sync, request.reader, next_after))
        else:
            self._release.read("directory", request.reader)


_REPLY_HANDLERS: dict[type[Request], Callable[..., None]] = {
    RequestWhoami: Synchronisation._receive_whoami,
    GetPolicySet: Synchronisation._receive_policy,
    GetSecret: Synchronisation._receive_secret,
    RequestPage: Synchronisation._receive_page,
}
