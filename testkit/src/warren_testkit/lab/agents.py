"""Agents in the test's own process, each next to a gateway's real charon; the test gives them their intents.

What is between: nothing but the feed. A test of the bus uses `warren_testkit.agent` and its processes.
"""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from warren_agent.agent import Agent
from warren_agent.announcer import Announcer
from warren_agent.change_control import ChangeControl
from warren_agent.clocks import Clocks
from warren_agent.drivers.set import DriverSet, HostedDriver
from warren_agent.drivers.strongswan.charon import CharonClient
from warren_agent.drivers.strongswan.driver import StrongswanDriver
from warren_agent.drivers.strongswan.ledger import Ledger
from warren_agent.drivers.strongswan.settings import StrongswanPaths
from warren_agent.drivers.strongswan.vici_codec import subsection, subsections
from warren_agent.health import TunnelHealth
from warren_agent.host import HostSurvey, own_addresses
from warren_agent.intents import Intents
from warren_agent.paths.data_path import DataPathProbe, EchoProber
from warren_agent.paths.manager import PathManager
from warren_agent.paths.names import Resolve
from warren_agent.paths.prober import Prober
from warren_agent.paths.resolver import resolve
from warren_agent.ports import Intent
from warren_agent.protection import Protection
from warren_agent.safeguards import Safeguards
from warren_agent.state.changes_file import ChangesFile
from warren_agent.state.paths_file import PathsFile
from warren_agent.state.store import StateStore
from warren_agent.supervisor import Supervisor
from warren_agent.telemetry.reporter import TelemetryReporter
from warren_bus.feed.state import FeedState
from warren_contracts.addresses import Endpoint
from warren_contracts.documents import TrustDocument
from warren_contracts.peers import Announcement, PeerRecord
from warren_contracts.policy import Policy, PolicySet, PublishedPolicy
from warren_contracts.status import TunnelStatus
from warren_contracts.telemetry import Applied, AttemptFailure, Presence, Report, TunnelChange
from warren_testkit.agent.fakes import FakeOutlet, FakeRegistry, FakeSource
from warren_testkit.intent import directory, public_key, record
from warren_testkit.lab.gateways import Gateway, ike_key
from warren_testkit.waiting import eventually

KINDS: dict[type[BaseModel], str] = {
    Presence: "presence", Report: "report", TunnelChange: "tunnel", Applied: "applied", AttemptFailure: "reason",
}  # fmt: skip
ToldT = TypeVar("ToldT", bound=BaseModel)


def gateway_record(gateway: Gateway, *tags: str) -> PeerRecord:
    """What the directory says of a gateway."""
    return record(
        gateway.name, gateway.number, *tags, public_key=ike_key(gateway.number)[1],
        endpoints=(Endpoint(ip_address(gateway.address)),), subnets=(ip_network(gateway.network),),
        echo_addresses=(ip_address(gateway.protected),),
    )  # fmt: skip


class LocalAgent:
    """One agent and its driver. `outlet` has its telemetry."""

    roll_back_after = 0.0  # s in which a changed tunnel must come up; 0: off
    devices: tuple[str, ...] = ("ipsec0",)  # that carry tunnels only
    survey: HostSurvey | None = None  # what heartbeats state of the host
    driver: StrongswanDriver

    def __init__(
        self, gateway: Gateway, records: Iterable[PeerRecord], report_interval: float = 1.0, hold_down: float = 60.0,
        protection: Protection | None = None, health: Callable[[], TunnelHealth] | None = None, resolving: Resolve = resolve,
    ) -> None:  # fmt: skip
        """`health` makes what assesses its tunnels, `resolving` looks up host names."""
        self.gateway = gateway
        self.source, self.outlet = FakeSource(), FakeOutlet()
        self._records = directory(*records)
        self._revision = 0
        folder = gateway.folder / "agent"
        store = StateStore(folder)
        store.prepare()
        clocks = Clocks(report_interval=report_interval)
        drivers = DriverSet([self._make_driver(folder)])
        reporter = TelemetryReporter(gateway.name, "1", self.outlet, clocks.now, survey=self.survey)
        announcer = Announcer(FakeRegistry(), drivers, Announcement(subnets=()), clocks)
        data_path = DataPathProbe(
            clocks.monotonic,
            functools.partial(own_addresses, gateway.namespace.socket),
            EchoProber(gateway.echo_socket),
        )
        self.ways = PathManager(
            clocks.monotonic, Prober(gateway.namespace.socket), resolving, owns=lambda _: False, hold_down=hold_down,
            data_path=data_path, memory=PathsFile(folder / "paths.json"),
        )  # fmt: skip
        self.ahead = 0.0  # s, of the clock of its changes, which a test may set
        self.changes = ChangeControl(
            lambda: clocks.monotonic() + self.ahead,
            ChangesFile(folder / "changes.json"),
            confirm_within=0,
            roll_back_after=self.roll_back_after,
        )
        assessing = health() if health is not None else TunnelHealth(clocks, (self.changes,))
        supervisor = Supervisor(drivers, reporter, clocks, assessing, self.ways)
        self.agent = Agent(
            gateway.name,
            drivers,
            Intents(self.source, store),
            announcer,
            supervisor,
            Safeguards(protection or Protection(), self.changes),
            clocks,
        )
        self._task: asyncio.Task[None] | None = None

    def _make_driver(self, folder: Path) -> HostedDriver:
        gateway = self.gateway
        self.driver = StrongswanDriver(
            StrongswanPaths(gateway.vici), ike_key(gateway.number)[0], Ledger(folder / "strongswan.json"),
            owns=lambda address: str(address) in (gateway.address, *gateway.more_addresses),
        )  # fmt: skip
        return HostedDriver("strongswan", ("ipsec",), self.driver)

    async def start_daemon(self) -> None:
        """Start what the driver drives; the lab ends it."""
        await self.gateway.start()

    async def carrying(self) -> set[tuple[str, str]]:
        """The tunnels and the addresses of the other ends of all IKE_SAs that carry traffic."""
        return {
            (sa.handle.tunnel, sa.remote_host)
            for sa in await self.gateway.ike_sas()
            if sa.handle is not None and any(child.state == "INSTALLED" for child in sa.children)
        }

    async def start(self) -> None:
        self._task = asyncio.create_task(self.agent.run())

    async def stop(self) -> None:
        """Stop it as SIGTERM does. Raises what it had failed with."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            (result,) = await asyncio.gather(task, return_exceptions=True)
            await self.agent.close()
            if isinstance(result, Exception):
                raise result

    def stop_at_command(self, number: int) -> asyncio.Event:
        """Let the driver hang before its command of this number, from now on; the event says that it does."""
        client, reached, count = self.driver._charon._client, asyncio.Event(), 0
        request, stream, collect = client.request, client.stream, client.collect

        async def counted(call: Any, *arguments: Any, **options: Any) -> Any:
            nonlocal count
            count += 1
            if count >= number:
                reached.set()
                await asyncio.Event().wait()
            return await call(*arguments, **options)

        client.request = functools.partial(counted, request)  # type: ignore[method-assign]
        client.stream = functools.partial(counted, stream)  # type: ignore[method-assign]
        client.collect = functools.partial(counted, collect)  # type: ignore[method-assign]
        return reached

    async def kill(self) -> None:
        """End it as SIGKILL does: nothing is closed in charon, saved or reported."""
        if (saving := self.driver._loader._saving) is not None:
            saving.cancel()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await self.driver._tasks.stop()
        await self.driver._charon.close()  # the socket only: charon gets no command

    def last(self, model: type[ToldT]) -> ToldT:
        """The newest telemetry of one kind."""
        return self.all(model)[-1]

    @property
    def record(self) -> PeerRecord:
        """This gateway's own."""
        return self._records[self.gateway.name]

    def change_records(self, *records: PeerRecord) -> None:
        """Another directory, which the next `give` brings."""
        self._records = directory(*records)

    def give(self, *policies: dict[str, Any]) -> int:
        """The policies that are published now; returns the revision."""
        self._revision += 1
        given = tuple(PublishedPolicy(revision=self._revision, policy=Policy.model_validate(it)) for it in policies)
        documents = PolicySet(reader="all", epoch=1, revision=self._revision, batch=("all",), policies=given)
        trust = TrustDocument(epoch=1, revision=1, policy=public_key("policy"), registry=public_key("registry"))
        state = FeedState(
            peer=self.gateway.name, tags=self._records[self.gateway.name].tags, epoch=1, revision=1, trust=trust,
            policies={"all": documents}, records={"all": self._records},
        )  # fmt: skip
        self.source.give(Intent(state, datetime.now(UTC)))
        return self._revision

    def all(self, model: type[ToldT]) -> list[ToldT]:
        """All telemetry of one kind, in order."""
        kind = KINDS[model]
        return [model.model_validate_json(it.payload) for it in self.outlet.messages if it.subject.endswith(f".{kind}")]

    async def applied(self, revision: int, within: float = 90.0) -> None:
        """Wait for the report of a round that applied this revision, or a later one."""
        await eventually(lambda: [it for it in self.all(Applied) if it.revision >= revision], within)

    async def status(self, name: str) -> TunnelStatus | None:
        """A tunnel as charon has it now; None if there is none."""
        return next((it for it in await self.driver.list_tunnels() if it.name == name), None)

    async def connections(self) -> dict[str, set[str]]:
        """All connections that charon holds, ours and others, each with the names of its children."""
        charon = CharonClient(self.gateway.vici)
        try:
            listed = await charon.list_connections()
            return {name: {*subsections(subsection(section, "children"))} for name, section in listed.items()}
        finally:
            await charon.close()


@contextlib.asynccontextmanager
async def agents_of(hub: Gateway, spoke: Gateway) -> AsyncIterator[tuple[LocalAgent, LocalAgent]]:
    """Agents of two gateways, tagged `hub` and `branch`, at work and without a policy."""
    records = [gateway_record(hub, "hub"), gateway_record(spoke, "branch")]
    agents = LocalAgent(hub, records), LocalAgent(spoke, records)
    await asyncio.gather(*(agent.start() for agent in agents))
    try:
        yield agents
    finally:
        await asyncio.gather(*(agent.stop() for agent in agents))
