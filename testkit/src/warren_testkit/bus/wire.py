"""A bus in memory for the feed's machine: streams that number and republish, Direct Gets, RPC; losses on demand."""

from random import Random

from warren_bus.feed.commands import (
    GetPolicySet,
    GetSecret,
    Request,
    RequestPage,
    RequestWhoami,
    Subscribe,
    Unsubscribe,
)
from warren_bus.feed.machine import FeedMachine
from warren_bus.feed.sequence import HEADER_LAST_SEQUENCE, HEADER_SEQUENCE, HEADER_STREAM, HEADER_SUBJECT
from warren_bus.feed.state import FeedState
from warren_bus.feed.times import FeedTimes
from warren_contracts import subjects
from warren_contracts.documents import DirectoryPageRequest
from warren_contracts.names import PeerId
from warren_testkit.bus.fleet import Fleet, SignedBytes

_STREAMS = {"policy": "POLICY", "directory": "DIRECTORY", "digest": "DIRECTORY", "secret": "SECRET"}

Live = tuple[str, dict[str, str], bytes]


def policy_ids(state: FeedState) -> list[str]:
    """The policies that a state holds, in its order."""
    return [item.policy.id for item in state.published]


class Wire:
    """One machine, one fleet, and what is on its way between them. Time moves only by `tick`."""

    def __init__(
        self, fleet: Fleet, peer: PeerId, saved: FeedState | None = None, times: FeedTimes | None = None
    ) -> None:
        self.fleet = fleet
        self.peer = peer
        self.now = 1_000.0
        self.machine = FeedMachine(fleet.identity(peer), fleet.trust, Random(1), saved, times)  # noqa: S311 - jitter
        self.stored: dict[str, tuple[SignedBytes, int]] = {}
        self.last_sequence: dict[str, int] = {}
        self.subscribed: set[str] = set()
        self.live: list[Live] = []
        self.requests: list[Request] = []
        self.asked: list[Request] = []
        self.states: list[FeedState] = []
        self.digests = True

    @property
    def state(self) -> FeedState:
        return self.states[-1]

    def connect(self, *, fresh: bool = True) -> None:
        if fresh:
            self.subscribed.clear()
        self.machine.connected(self.now, fresh=fresh)
        self.pump()

    def disconnect(self) -> None:
        """What was on its way is lost."""
        self.live.clear()
        self.requests.clear()
        self.machine.disconnected(self.now)
        self.pump()

    def publish(self, *messages: SignedBytes) -> list[Live]:
        """Store messages; what is subscribed to is on its way afterwards."""
        return [self._store(message) for message in messages]

    def _store(self, message: SignedBytes) -> Live:
        stream = _STREAMS[message.subject.split(".")[2]]
        sequence = self.last_sequence[stream] = self.last_sequence.get(stream, 0) + 1
        previous = self.stored[message.subject][1] if message.subject in self.stored else 0
        self.stored[message.subject] = (message, sequence)
        headers = {
            **message.headers,
            HEADER_STREAM: stream,
            HEADER_SUBJECT: message.subject,
            HEADER_SEQUENCE: str(sequence),
            HEADER_LAST_SEQUENCE: str(previous),
        }
        live = (subjects.live(message.subject), headers, message.payload)
        if self._wanted(live[0]):
            self.live.append(live)
        return live

    def _wanted(self, live_subject: str) -> bool:
        return live_subject in self.subscribed or f"{live_subject.rsplit('.', 1)[0]}.*" in self.subscribed

    def deliver(self, index: int = 0) -> None:
        """Hand over one live message."""
        self.hand_over(self.live.pop(index))

    def hand_over(self, live: Live) -> None:
        self.machine.enqueue_live(*live, self.now)
        self.machine.verify_queued(self.now)
        self.pump()

    def answer(self, index: int = 0) -> None:
        """Answer one request with the truth of this moment."""
        request = self.requests.pop(index)
        headers, payload = self._reply(request)
        self.machine.receive_reply(request, headers, payload, self.now)
        self.pump()

    def fail(self, index: int = 0) -> None:
        """Leave one request without an answer."""
        self.machine.request_failed(self.requests.pop(index), self.now)
        self.pump()

    def _reply(self, request: Request) -> tuple[dict[str, str], bytes]:
        match request:
            case RequestWhoami():
                message = self.fleet.whoami(self.peer, digests=self.digests)
                return message.headers, message.payload
            case RequestPage(_, reader, after):
                message = self.fleet.page(self.peer, DirectoryPageRequest(reader=reader, after=after))
                return message.headers, message.payload
            case GetPolicySet(_, reader):
                return self._direct_get(subjects.policy(reader))
            case GetSecret():
                return self._direct_get(subjects.secret(self.peer))

    def _direct_get(self, subject: str) -> tuple[dict[str, str], bytes]:
        if subject not in self.stored:
            return {"Status": "404", "Description": "Message Not Found"}, b""
        message, sequence = self.stored[subject]
        headers = {**message.headers, HEADER_SUBJECT: subject, HEADER_SEQUENCE: str(sequence)}
        return {**headers, HEADER_STREAM: _STREAMS[subject.split(".")[2]]}, message.payload

    def tick(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
        self.machine.handle_timer(self.now)
        self.machine.verify_queued(self.now)
        self.pump()

    def pump(self) -> None:
        """Carry out commands and collect states."""
        for command in self.machine.commands():
            match command:
                case Subscribe(subject):
                    self.subscribed.add(subject)
                case Unsubscribe(subject):
                    self.subscribed.discard(subject)
                case _:
                    self.requests.append(command)
                    self.asked.append(command)
        if (state := self.machine.next_event()) is not None:
            self.states.append(state)

    def settle(self, seconds: float = 30.0) -> None:
        """Deliver and answer everything, and let time pass, until nothing is on its way."""
        end = self.now + seconds
        while self.now < end:
            while self.live or self.requests:
                if self.live:
                    self.deliver()
                if self.requests:
                    self.answer()
            self.tick(0.25)
