"""Messages from the bus: telemetry in batches, its dead letters, and `rpc.metrics.*`."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from faststream.nats import JStream, NatsResponse, PullSub
from nats.aio.msg import Msg
from nats.js.api import ConsumerConfig

from warren_bus.headers import header
from warren_bus.tracing import HEADER
from warren_contracts import subjects, telemetry
from warren_contracts.commands import GetTunnel, ListTunnels, Page
from warren_contracts.events import PeerRevoked, PolicyChanged
from warren_contracts.pages import fit_page
from warren_contracts.plans import TunnelStates, TunnelStatesQuery
from warren_contracts.problems import NotFoundError
from warren_contracts.rollouts import PolicyRollout, RolloutList
from warren_contracts.tunnel_history import FleetAtQuery, TunnelCountersQuery, TunnelHistoryQuery
from warren_metrics.domain.fleet import FleetTelemetry
from warren_metrics.domain.parse import MessageSource
from warren_metrics.domain.recent_counters import RecentCounters
from warren_metrics.domain.views import fleet_tunnel, observed_states, read_page
from warren_metrics.history.queries import HistoryQueries
from warren_metrics.ingest import Ingest, Raw
from warren_service.broker import Broker, reply
from warren_service.verb_server import VerbServer

QUEUE = "metrics"  # several callers, one instance: the state is in memory
CONSUMER = "metrics"
HEARTBEATS = "metrics-presence"
# Messages of one pull. The server disconnects a client that has 64 MB still to read (max_pending): a pull is a fifth of that at most.
BATCH = 100  # of 128 kB: 13 MB; a second of reports of 1,000 agents
HEARTBEAT_BATCH = 500  # of 8 kB: 4 MB
AT_ONCE = 2_000  # tunnels that a listing looks at before telemetry goes on: 10 ms
PULL_WAIT = 1.0  # s of one request to the server while nothing arrives; what arrives is processed at once
ACK_WAIT = 30  # s; a batch waits for its events to be stored
MAX_DELIVER = 5  # then it is a dead letter


async def _messages(batch: Any) -> Any:
    """The messages themselves, as they are received: `domain/parse.py` decodes them one by one, so that an invalid one does not affect
    its batch. (FastStream would look up a handler's argument `NatsMessage` in a thread, for each batch.)"""
    return batch.raw_message


def register_telemetry(broker: Broker, ingest: Ingest) -> None:
    """Subscribe to TELEMETRY and PRESENCE, to their dead letters, to revocations, and to changes of policies."""
    _consume(broker, ingest, subjects.TELEMETRY_STREAM, CONSUMER, f"{subjects.VERSION}.telemetry.>", BATCH)
    heartbeats = f"{subjects.VERSION}.telemetry.*.{telemetry.PRESENCE}"
    _consume(broker, ingest, subjects.PRESENCE_STREAM, HEARTBEATS, heartbeats, HEARTBEAT_BATCH)

    @broker.subscriber(f"{subjects.VERSION}.event.registry.revoked.*", queue=QUEUE, title="registry.revoked")
    async def forget(revoked: PeerRevoked) -> None:
        ingest.revoked(revoked.peer)

    @broker.subscriber(f"{subjects.VERSION}.event.policy.changed.*", queue=QUEUE, title="policy.changed")
    async def edited(changed: PolicyChanged) -> None:
        ingest.edited(changed.revision, changed.at)


def register_membership(broker: Broker, changed: Callable[[], None]) -> None:
    """Subscribe to the registry's events after which a policy may have other members. Without a queue: every instance reads them."""

    async def members_changed(event: dict[str, Any]) -> None:
        changed()

    for kind in ("enrolled", "retagged", "revoked"):
        subject = f"{subjects.VERSION}.event.registry.{kind}.*"
        broker.subscriber(subject, title=f"registry.{kind}.members")(members_changed)


def _consume(broker: Broker, ingest: Ingest, stream: str, consumer: str, subject: str, batch: int) -> None:
    config = ConsumerConfig(ack_wait=ACK_WAIT, max_deliver=MAX_DELIVER, max_ack_pending=batch * 4)
    title = stream.lower()

    @broker.subscriber(
        subject, stream=JStream(stream, declare=False), durable=consumer, config=config, decoder=_messages,
        pull_sub=PullSub(batch_size=batch, timeout=PULL_WAIT, batch=True), title=title,
    )  # fmt: skip
    async def consume(messages: Any) -> None:
        await ingest.batch([_raw(it) for it in messages])

    advisory = f"$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.{stream}.{consumer}"

    @broker.subscriber(advisory, queue=QUEUE, title=f"{title}.dead_letters")
    async def dead_letter(advisory: dict[str, Any]) -> None:
        ingest.dead_letter(int(advisory.get("stream_seq", 0)))


def register_tunnels(
    verbs: VerbServer, fleet: FleetTelemetry, recent: RecentCounters, now: Callable[[], datetime]
) -> None:
    """Subscribe what is asked of the tunnels as they are."""

    @verbs.verb("tunnels")
    async def tunnels(command: ListTunnels) -> NatsResponse:
        # A filter may match few tunnels of many: telemetry goes on meanwhile
        page = await read_page(fleet, command, now, AT_ONCE, lambda: asyncio.sleep(0))
        return reply(page, exclude_defaults=command.lean)

    @verbs.verb("tunnel")
    async def tunnel(command: GetTunnel) -> NatsResponse:
        found = fleet_tunnel(fleet, command.name, now())
        if found is None:
            raise NotFoundError(f"unknown tunnel {command.name}: list the reported tunnels")
        return reply(found)

    @verbs.verb("tunnel_counters")
    async def tunnel_counters(command: TunnelCountersQuery) -> NatsResponse:
        ends = fleet.tunnels.get(command.name)
        if not ends:
            raise NotFoundError(f"unknown tunnel {command.name}: list the reported tunnels")
        return reply(recent.of(command.name, ends, now()))

    @verbs.verb("states")
    async def states(command: TunnelStatesQuery) -> NatsResponse:
        return reply(TunnelStates(states=observed_states(fleet, command.names, now())))


def register_rollouts(verbs: VerbServer, progress: Callable[[], Sequence[PolicyRollout]]) -> None:
    """Serve what is asked of the progress of policies."""

    async def page(command: Page) -> RolloutList:
        rest = [it for it in progress() if it.policy > command.after]
        shown = fit_page(rest[: command.limit])
        return RolloutList(rollouts=shown, next_after=shown[-1].policy if len(shown) < len(rest) else None)

    verbs.serve("rollouts", Page, page)


def register_history(verbs: VerbServer, history: HistoryQueries) -> None:
    """Serve what is asked of the past."""
    verbs.serve("tunnel_history", TunnelHistoryQuery, history.tunnel)
    verbs.serve("fleet_at", FleetAtQuery, history.fleet_at)


def _raw(message: Msg) -> Raw:
    metadata = message.metadata
    place = MessageSource(metadata.sequence.stream, metadata.timestamp)
    return Raw(message.subject, message.data, place, header(message.headers, HEADER))
