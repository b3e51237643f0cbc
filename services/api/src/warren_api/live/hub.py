"""One reader of EVENT for all live streams of this process.

It begins with the first stream, and ends a minute after the last: it takes the position in EVENT, reads the fleet, and follows the
events after that position. Each stream has a backlog of changes; one whose reader does not keep up is dropped, so that it costs the
others nothing. Changes are held for a while, so that a reader that was disconnected continues without a snapshot.
"""

import asyncio
import itertools
from collections import Counter, deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing, suppress
from functools import partial
from typing import TypeVar

import structlog
from pydantic import BaseModel, ValidationError

from warren_api.errors import TooManyEventStreamsError, TooManyStreamsOfAddressError, TooManyStreamsOfTokenError
from warren_api.health import HealthProbe
from warren_api.live.filters import LiveFilter
from warren_api.live.messages import LiveFrame, RowSnapshot, changed, dropped, ready, snapshot
from warren_api.live.model import LiveChange, LiveModel
from warren_api.live.scoped import PartOfFleet, WholeFleet
from warren_api.ports import Bus, StoredEvent
from warren_contracts.base import Document, read
from warren_contracts.bus_queries import EventPage, ReadEvents
from warren_contracts.commands import Health, ListTunnels, Page, PeerList, PolicyList, TunnelList
from warren_contracts.events import EVENTS
from warren_contracts.names import Scope
from warren_contracts.problems import UnavailableError, WarrenError

MAX_STREAMS = 256  # of this process
MAX_OF_ACTOR = 32  # of one token
MAX_OF_ADDRESS = 64  # of one client
MAX_BACKLOG = 50_000  # rows that wait for one reader: five times a hub of 10,000 tunnels
HELD_ROWS, HELD_CHANGES = 100_000, 10_000  # for resumption
HEALTH_SECONDS = 5.0  # between two looks at the services
LOAD_SECONDS = 10.0  # that a reader waits for the first reading of the fleet
# The fleet is followed for so long after the last stream: a large one takes longer to read than a reader waits, and the reading would
# begin again with each attempt.
LINGER_SECONDS = 60.0
RETRY_SECONDS = 1.0
PAGE = 500

SLOW_READER = "slow-reader: the client does not read as fast as the fleet changes; connect again, or filter"
RESET = "reset: the stream of events was created again; connect again"
STOPPING = "stopping: the API server stops; connect again"

_MODELS: Mapping[str, type[Document]] = {model.TYPE: model for model in EVENTS}

PageT = TypeVar("PageT", PeerList, PolicyList, TunnelList)

log = structlog.get_logger("warren_api")


class LiveStream:
    """One reader: what of the fleet it is sent, and what waits for it."""

    def __init__(self, part: WholeFleet | PartOfFleet) -> None:
        self._part = part
        self.beginning: Iterator[LiveFrame] = iter(())
        self._waiting: deque[LiveChange | Health] = deque()
        self._rows = 0
        self._news = asyncio.Event()
        self._end = ""

    def offer(self, item: LiveChange | Health) -> None:
        """Add a change; a reader with too many is dropped."""
        if self._end:
            return
        self._rows += item.size if isinstance(item, LiveChange) else 1
        if self._rows > MAX_BACKLOG:
            self.end(SLOW_READER)
            return
        self._waiting.append(item)
        self._news.set()

    def end(self, reason: str) -> None:
        """End the stream; what waits is not sent any more."""
        if not self._end:
            self._end = reason
            self._waiting.clear()
            self._news.set()

    async def messages(self, keepalive_s: float) -> AsyncGenerator[LiveFrame | None, None]:
        """What to send, forever, or up to `dropped`; None: nothing happened for `keepalive_s`."""
        for message in self.beginning:
            if self._end:
                break
            yield message
        loop = asyncio.get_running_loop()
        alive_at = loop.time() + keepalive_s  # a fleet that changes all the time may have nothing for this reader
        while not self._end:
            try:
                async with asyncio.timeout_at(alive_at):
                    await self._news.wait()
            except TimeoutError:
                alive_at = loop.time() + keepalive_s
                yield None
                continue
            self._news.clear()
            while self._waiting:
                item = self._waiting.popleft()
                self._rows -= item.size if isinstance(item, LiveChange) else 1
                part = self._part
                for message in part.changed(item) if isinstance(item, LiveChange) else (part.health(item),):
                    alive_at = loop.time() + keepalive_s
                    yield message
        yield dropped(self._end)


class LiveHub:
    """Follows the fleet as long as there are streams."""

    def __init__(self, bus: Bus, health: HealthProbe, stopping: asyncio.Event) -> None:
        self._bus = bus
        self._probe = health
        self._stopping = stopping
        self._streams: set[LiveStream] = set()
        self._by_actor: Counter[str] = Counter()
        self._by_address: Counter[str] = Counter()
        self._task: asyncio.Task[None] | None = None
        self._end: asyncio.TimerHandle | None = None  # of following, some time after the last stream
        self._loaded = asyncio.Event()
        self._model = LiveModel()
        self._cursor = 0
        self._held: deque[LiveChange] = deque()
        self._held_rows = 0
        self._held_from = 0  # every change after this cursor is held
        self._health: Health | None = None

    def admit(self, actor: str, address: str) -> None:
        """Count a stream. Raises TooManyEventStreamsError, TooManyStreamsOfTokenError or TooManyStreamsOfAddressError."""
        if self._by_actor.total() >= MAX_STREAMS:
            raise TooManyEventStreamsError
        if self._by_actor[actor] >= MAX_OF_ACTOR:
            raise TooManyStreamsOfTokenError
        if address and self._by_address[address] >= MAX_OF_ADDRESS:
            raise TooManyStreamsOfAddressError
        if self._end is not None:
            self._end.cancel()
            self._end = None
        self._by_actor[actor] += 1
        self._by_address[address] += 1

    def leave(self, actor: str, address: str, stream: LiveStream | None) -> None:
        """A stream that was admitted has ended; LINGER_SECONDS after the last one nothing is followed any more."""
        self._by_actor = +(self._by_actor - Counter([actor]))
        self._by_address = +(self._by_address - Counter([address]))
        if stream is not None:
            self._streams.discard(stream)
        if not self._by_actor and self._task is not None and self._end is None:
            self._end = asyncio.get_running_loop().call_later(LINGER_SECONDS, self._stop_following)

    def _stop_following(self) -> None:
        self._end = None
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def open(self, wanted: LiveFilter, cursor: int | None, scope: Scope | None = None) -> LiveStream:
        """A stream that continues after a cursor, or begins with a snapshot: with a scope always. Raises UnavailableError if the fleet
        cannot be read."""
        if self._task is None or self._task.done():
            self._loaded.clear()
            self._task = asyncio.create_task(self._follow(), name="live")
        try:
            async with asyncio.timeout(LOAD_SECONDS):
                await self._loaded.wait()
        except TimeoutError:
            raise UnavailableError(
                "the fleet cannot be read at the moment: `warren health` shows why; repeat"
            ) from None
        if scope is not None:
            part = PartOfFleet(self._model, scope, wanted)
            stream = LiveStream(part)
            stream.beginning = part.beginning(self._health)
            self._streams.add(stream)
            return stream
        stream = LiveStream(WholeFleet(wanted))
        if cursor is not None and self._held_from <= cursor <= self._cursor:
            missed = [change for change in self._held if change.cursor > cursor]
            resumed = itertools.chain.from_iterable(changed(change, wanted) for change in missed)
            stream.beginning = itertools.chain(resumed, [ready(self._cursor)])
        else:
            stream.beginning = itertools.chain(
                snapshot(RowSnapshot.of(self._model), wanted, self._health), [ready(self._cursor)]
            )
        self._streams.add(stream)
        return stream

    async def _follow(self) -> None:
        """Read the fleet, then its events, until cancelled or stopped."""
        stopping, following, health = (
            asyncio.ensure_future(it) for it in (self._stopping.wait(), self._follow_events(), self._watch_health())
        )
        try:
            await asyncio.wait({stopping, following}, return_when=asyncio.FIRST_COMPLETED)
            if following.done():
                following.result()
        except UnavailableError as error:
            log.warning("live.restarted", error=error.detail)
        except Exception as error:
            log.error("live.failed", exc_info=error)
        finally:
            for stream in self._streams:
                stream.end(STOPPING if self._stopping.is_set() else RESET)
            self._loaded.clear()
            for task in (stopping, following, health):
                task.cancel()
            await asyncio.gather(stopping, following, health, return_exceptions=True)

    async def _follow_events(self) -> None:
        while True:
            try:
                start = await self._load()
                break
            except WarrenError as error:
                log.info("live.waits", error=error.detail)
                await asyncio.sleep(RETRY_SECONDS)
        self._cursor = self._held_from = start
        self._held.clear()
        self._held_rows = 0
        async with aclosing(self._bus.events(start, ())) as events:
            is_caught_up = False
            async for event in events:
                if event is not None:
                    self._event(event)
                elif not is_caught_up:
                    is_caught_up = True
                    self._loaded.set()

    async def _load(self) -> int:
        """Read the whole fleet; returns the position in EVENT from before that."""
        model = LiveModel()
        start = (await self._bus.call("policy", "events", ReadEvents(), EventPage)).next_after
        peers = [peer async for page in self._pages("registry", "peers", Page, PeerList) for peer in page.peers]
        policies = [it async for page in self._pages("policy", "list", Page, PolicyList) for it in page.policies]
        model.load((), peers, policies)
        async for page in self._pages("metrics", "tunnels", partial(ListTunnels, lean=True), TunnelList):
            model.load_tunnels(page.tunnels)  # page by page: all of a large fleet would hold the event loop for seconds
        self._health = await self._probe.health()
        self._model = model
        return start

    async def _pages(
        self, service: str, verb: str, query: Callable[..., BaseModel], reply: type[PageT]
    ) -> AsyncIterator[PageT]:
        def ask(after: str) -> asyncio.Future[PageT]:
            return asyncio.ensure_future(self._bus.call(service, verb, query(after=after, limit=PAGE), reply))

        asked = ask("")
        try:
            while (page := await asked).next_after is not None:
                asked = ask(page.next_after)  # the service works on it while this page is processed
                yield page
            yield page
        finally:
            asked.cancel()

    def _event(self, event: StoredEvent) -> None:
        if event.sequence <= self._cursor:
            # EVENT was created again: its sequences, and what readers hold, are of another stream
            raise UnavailableError("the stream EVENT was created again")
        self._cursor = event.sequence
        model = _MODELS.get(event.headers.get("ce-type", ""))
        if model is None:
            return
        try:
            body = read(model, event.data)
        except ValidationError as error:
            log.warning("live.event_invalid", sequence=event.sequence, errors=error.error_count())
            return
        change = self._model.apply(body, event.sequence)
        if not change.size:
            return
        self._held.append(change)
        self._held_rows += change.size
        while self._held_rows > HELD_ROWS or len(self._held) > HELD_CHANGES:
            oldest = self._held.popleft()
            self._held_rows -= oldest.size
            self._held_from = oldest.cursor
        for stream in self._streams:
            stream.offer(change)

    async def _watch_health(self) -> None:
        while True:
            await asyncio.sleep(HEALTH_SECONDS)
            with suppress(WarrenError):
                health = await self._probe.health()
                if self._loaded.is_set() and health != self._health:
                    self._health = health
                    for stream in self._streams:
                        stream.offer(health)
