"""A whole agent with fakes all around it."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from warren_agent.agent import Agent
from warren_agent.announcer import Announcer
from warren_agent.bypass import LocalReach
from warren_agent.change_control import ChangeControl
from warren_agent.clocks import Clocks
from warren_agent.drivers.set import DriverSet, HostedDriver
from warren_agent.health import TunnelHealth
from warren_agent.intents import Intents
from warren_agent.ports import Intent
from warren_agent.protection import Protection
from warren_agent.safeguards import Safeguards
from warren_agent.state.store import StateStore
from warren_agent.supervisor import Supervisor
from warren_agent.telemetry.reporter import TelemetryReporter
from warren_bus.feed.state import FeedState
from warren_contracts.documents import TrustDocument
from warren_contracts.peers import Announcement, PeerRecord
from warren_contracts.policy import PolicySet
from warren_contracts.status import TunnelState
from warren_contracts.telemetry import TunnelChange
from warren_testkit.agent.fake_driver import FakeDriver
from warren_testkit.agent.fakes import FakeGuard, FakeOutlet, FakeRegistry, FakeSource
from warren_testkit.intent import directory, public_key, published, record

ModelT = TypeVar("ModelT", bound=BaseModel)

HUB = record("hub", 1, "hub")
SPOKES = [record(f"s{n}", n + 1, "branch") for n in range(1, 4)]
TRACE = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"


def intent(revision: int, *spokes: PeerRecord, **policy: object) -> Intent:
    star = published("star", revision, **({"hubs": ["tag=hub"], "spokes": ["tag=branch"]} | policy))
    documents = PolicySet(reader="all", epoch=1, revision=revision, batch=("all",), policies=(star,))
    trust = TrustDocument(epoch=1, revision=1, policy=public_key("policy"), registry=public_key("registry"))
    records = {"all": directory(HUB, *spokes)}
    state = FeedState(
        peer="s1", tags=("branch",), epoch=1, revision=1, trust=trust, policies={"all": documents}, records=records
    )
    return Intent(state, datetime.now(UTC), TRACE)


class Running:
    """One agent at work, and its surroundings."""

    def __init__(
        self, folder: Path, peer: str = "s1", daemon: bool = True, guard: FakeGuard | None = None,
        changes: ChangeControl | None = None, reach: LocalReach | None = None,
    ) -> None:  # fmt: skip
        self.driver, self.source, self.outlet, self.registry = FakeDriver(), FakeSource(), FakeOutlet(), FakeRegistry()
        self.driver.there = daemon
        self.store = StateStore(folder)
        self.store.prepare()
        self.ahead = timedelta()  # of the host's clock, which a test may set
        clocks = Clocks(now=lambda: datetime.now(UTC) + self.ahead, jitter=lambda: 0.0, report_interval=0.05)
        reporter = TelemetryReporter(peer, "1", self.outlet, clocks.now)
        drivers = DriverSet([HostedDriver("fake", ("ipsec",), self.driver)])
        announcer = Announcer(self.registry, drivers, Announcement(subnets=()), clocks)
        protection = Protection(guard, ("ipsec0",), reach)
        inspectors = (protection,) if changes is None else (protection, changes)
        supervisor = Supervisor(drivers, reporter, clocks, TunnelHealth(clocks, inspectors))
        safeguards = Safeguards(
            protection, changes or ChangeControl(clocks.monotonic, confirm_within=0, roll_back_after=0)
        )
        self.agent = Agent(peer, drivers, Intents(self.source, self.store), announcer, supervisor, safeguards, clocks)
        self.task = asyncio.create_task(self.agent.run())

    async def received(self, model: type[ModelT], kind: str, count: int = 1) -> list[ModelT]:
        return [model.model_validate_json(it.payload) for it in await self.outlet.wait_for(count, kind)]

    async def tunnel(self, state: TunnelState, name: str = "hub+s1") -> TunnelChange:
        """The first news, from now back to the start, of a tunnel in a state."""
        count = 0
        while True:
            changes = await self.received(TunnelChange, "tunnel", count + 1)
            count = len(changes)
            for change in changes:
                if change.status.name == name and change.status.state is state:
                    return change

    async def stop(self, teardown: bool = False) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        await self.agent.close(teardown)
