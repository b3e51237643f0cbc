"""What operators read of a tunnel between two agents in the test's process: the metrics service's own view, exposition and events.

Between is no bus: what an agent publishes is given to the service as if stored at that moment.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from prometheus_client import CollectorRegistry

from warren_contracts.events import TunnelChanged
from warren_contracts.explanation import Cause, Explanation
from warren_contracts.peers import PeerRecord, PeerSummary, PresenceState
from warren_contracts.policy import Policy, PublishedPolicy
from warren_contracts.telemetry import Presence
from warren_intent.diagnosis import explain, situation_of
from warren_metrics.counters import IngestCounters
from warren_metrics.domain.fleet import FleetTelemetry
from warren_metrics.domain.parse import MessageSource
from warren_metrics.domain.views import fleet_tunnel
from warren_metrics.ingest import Ingest, Raw
from warren_metrics.memory import StateWriter
from warren_testkit.agent.fakes import FakeOutlet
from warren_testkit.lab.gateways import Gateway
from warren_testkit.metrics import MemoryEvents, MemoryFleet, scraper_of, text_of
from warren_testkit.waiting import eventually

LIMIT = 90.0  # s


def now() -> datetime:
    return datetime.now(UTC)


class Publishing(Protocol):
    """An agent, as far as it is read here."""

    @property
    def gateway(self) -> Gateway: ...

    @property
    def record(self) -> PeerRecord: ...

    @property
    def outlet(self) -> FakeOutlet: ...

    def all(self, _: type[Presence], /) -> list[Presence]:
        """Its heartbeats."""


class Explained:
    """One tunnel of these agents with one policy."""

    def __init__(self, tunnel: str, policy: dict[str, Any], *agents: Publishing) -> None:
        self._tunnel, self._agents = tunnel, agents
        self._policies = (PublishedPolicy(revision=1, policy=Policy.model_validate(policy)),)
        self._fleet, self._events = FleetTelemetry(), MemoryEvents()
        registry = CollectorRegistry()
        writer = StateWriter(self._fleet, MemoryFleet(), now=now)
        self._ingest = Ingest(self._fleet, writer, self._events, IngestCounters(registry))
        self._scraper = scraper_of(registry, self._fleet, now)
        self._read = dict.fromkeys(agents, 0)
        self._sequence = 0

    async def explanation(self) -> Explanation | None:
        """As `warren explain` has it now; None before the first report."""
        await self._take()
        tunnel = fleet_tunnel(self._fleet, self._tunnel, now())
        if tunnel is None:
            return None
        peers = {agent.gateway.name: self._summary(agent) for agent in self._agents}
        return explain(situation_of(tunnel, self._policies, peers, now()))

    async def label(self) -> str:
        """The label `cause` of `warren_tunnel_cause`; empty: there is no line."""
        await self._take()
        found = re.search(
            r'^warren_tunnel_cause\{[^}]*cause="([^"]*)"\} 1$', await text_of(self._scraper), re.MULTILINE
        )
        return found[1] if found else ""

    @property
    def event_causes(self) -> Sequence[Cause | None]:
        """Of the tunnel's events so far, the newest last."""
        events = [it.event for it in self._events.published]
        return [it.cause for it in events if isinstance(it, TunnelChanged) and it.tunnel == self._tunnel]

    async def concludes(self, cause: Cause, *words: str) -> Explanation:
        """Wait until this is the cause in explanation, label and an event, with these words in the sentence or the action."""
        found: Explanation | None = None

        async def is_concluded() -> bool:
            nonlocal found
            found = await self.explanation()
            return (
                found is not None and found.cause is cause
                and all(word in f"{found.sentence} {found.action}" for word in words)
                and await self.label() == ("" if cause is Cause.NONE else cause.value)
                and cause in self.event_causes
            )  # fmt: skip

        try:
            await eventually(is_concluded, LIMIT, pause_s=0.1)
        except AssertionError:
            raise AssertionError(f"not {cause.value}: {found}; {await self.label()}; {self.event_causes}") from None
        assert found is not None
        return found

    async def is_up(self) -> None:
        """Wait until nothing is wrong any more."""
        await self.concludes(Cause.NONE)

    async def _take(self) -> None:
        for agent in self._agents:
            messages = agent.outlet.messages[self._read[agent] :]
            self._read[agent] += len(messages)
            for message in messages:
                self._sequence += 1
                place = MessageSource(self._sequence, now())
                await self._ingest.batch([Raw(message.subject, message.payload, place)])

    def _summary(self, agent: Publishing) -> PeerSummary:
        """As the registry has it by the last heartbeat."""
        name = agent.gateway.name
        beats, view = agent.all(Presence), self._fleet.peers.get(name)
        online = view is not None and view.online(now())
        fields: dict[str, Any] = {
            "peer": name, "presence": PresenceState.ONLINE if online else PresenceState.OFFLINE, "revoked": False,
            "record": agent.record, "last_seen": view.last_seen_at if view is not None else None,
            "drivers": beats[-1].drivers if beats else (), "host": beats[-1].host if beats else None,
            "clock_skew_s": view.clock_skew_s if view is not None else None,
        }  # fmt: skip
        return PeerSummary.model_construct(**fields)
