"""One process full of simulated agents: `python fanout_worker.py` reads its task as one JSON line on standard input.

Each simulated agent has a TCP connection of its own. In mode `feed` it runs the real `warren_bus.feed`, permissions,
sequence logic and all; in mode `raw` it is a plain subscriber of nats-py. Lines on standard output:

- `ready`: everybody is connected (and every feed has its first state)
- `held N T`: the N-th message has reached the last of this process's agents at T (seconds, CLOCK_MONOTONIC)
- `verified N T`: and the last of them has verified, parsed and handed it out

Verification is held back while a message spreads (`close`, `open` on standard input): on the fleet's own hosts it runs on as
many processors as there are agents, here all would share two. Its cost an agent is the row `verify`.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import nats
import structlog
from fanout_task import RAW_SUBJECT, Task
from nats.aio.msg import Msg

from warren_bus.connection import Connection
from warren_bus.feed import Feed, FeedIdentity
from warren_bus.settings import BusSettings
from warren_contracts.documents import TrustDocument

IN_FLIGHT = 100  # connects at a time: more only queue at the callout


@dataclass(slots=True)
class Tally:
    """Counts to the last agent, once for each message."""

    agents: int
    word: str
    seen: Counter[int]

    def count(self, number: int) -> None:
        self.seen[number] += 1
        if self.seen[number] == self.agents:
            print(self.word, number, time.monotonic(), flush=True)


class SimulatedAgent(Feed):
    """The real feed, which reports each queued message, and verifies nothing while it is paused."""

    on_held: Callable[[], None]
    _paused = False

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        self._paused = False
        self._schedule()

    def _schedule(self) -> None:
        if not self._paused:
            super()._schedule()

    def _pump(self) -> None:
        if self._paused:
            self._pump_soon = None
        else:
            super()._pump()

    def _enqueue(self, message: Msg) -> bool:
        queued = super()._enqueue(message)
        if queued:
            self.on_held()
        return queued


async def _feeds(task: Task, stack: AsyncExitStack) -> list[SimulatedAgent]:
    trust = TrustDocument.model_validate_json(task.trust)
    held = Tally(len(task.agents), "held", Counter())
    verified = Tally(len(task.agents), "verified", Counter())
    complete = asyncio.Semaphore(0)
    dialling = asyncio.Semaphore(IN_FLIGHT)
    feeds: list[SimulatedAgent] = []

    async def agent(name: str) -> None:
        connection = Connection(
            BusSettings((task.url,), Path(task.keys) / f"{name}.seed"), name=name, inbox_prefix=f"_INBOX.{name}"
        )
        feed = SimulatedAgent(connection, FeedIdentity(name, task.root), trust)
        feeds.append(feed)
        arrived = Counter[str]()
        feed.on_held = lambda: held.count(_next(arrived))
        async with dialling:
            await stack.enter_async_context(connection)
            await stack.enter_async_context(feed)
            first = await anext(aiter(feed))
            assert first.peer == name
        complete.release()
        numbers: set[int] = set()
        async for state in feed:
            number = state.policy_revision - task.base_revision
            if number > 0 and number not in numbers:
                numbers.add(number)
                verified.count(number)

    tasks = [asyncio.create_task(agent(name)) for name in task.agents]
    stack.callback(lambda: [task.cancel() for task in tasks])
    for _ in tasks:
        await complete.acquire()
    return feeds


def _next(arrived: Counter[str]) -> int:
    arrived["messages"] += 1
    return arrived["messages"]


async def _raw(task: Task, stack: AsyncExitStack) -> None:
    held = Tally(len(task.agents), "held", Counter())
    dialling = asyncio.Semaphore(IN_FLIGHT)

    async def agent() -> None:
        arrived = Counter[str]()

        async def receive(_: Msg) -> None:
            held.count(_next(arrived))

        async with dialling:
            client = await nats.connect(task.url, connect_timeout=30, allow_reconnect=False)
            stack.push_async_callback(client.close)
            await client.subscribe(RAW_SUBJECT, cb=receive)
            await client.flush(timeout=30)

    await asyncio.gather(*(agent() for _ in task.agents))


async def main() -> None:
    lines = asyncio.StreamReader(limit=1 << 26)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    task = Task(**json.loads(await lines.readline()))
    feeds: list[SimulatedAgent] = []
    async with AsyncExitStack() as stack:
        if task.mode == "feed":
            feeds = await _feeds(task, stack)
        else:
            await _raw(task, stack)
        gc.collect()
        gc.freeze()  # ten thousand live clients are not garbage; scanning them would be measured, in both modes
        print("ready", flush=True)
        while line := await lines.readline():
            match line.strip():
                case b"close":
                    for feed in feeds:
                        feed.pause()
                    print("closed", flush=True)
                case b"open":
                    for feed in feeds:
                        feed.resume()


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    asyncio.run(main())
