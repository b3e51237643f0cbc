"""What arrives on the bus: `rpc.policy.*` of services, `ops.policy.*` of operators. The middleware answers with Problems."""

from typing import Protocol

from faststream.nats import NatsMessage, NatsResponse

from warren_bus import tracing
from warren_contracts import subjects
from warren_contracts.bus_queries import GetPublishedSet, ReadEvents
from warren_contracts.commands import ApplyPolicies, DeletePolicies, Empty, FollowEpoch, GetPolicy, Health, Page
from warren_contracts.plans import DiffPolicy, PlanPolicies
from warren_contracts.policy_history import ListHistory
from warren_contracts.problems import NotFoundError
from warren_contracts.tokens import operator_of
from warren_contracts.tunnel_history import PoliciesAtQuery
from warren_policy.epochs import EpochFollower
from warren_policy.planner import Planner
from warren_policy.ports import CallContext, Published
from warren_policy.records import PolicyRecords
from warren_policy.service import PolicyService
from warren_service.broker import Broker, reply
from warren_service.callers import require_operator

QUEUE = "policy"  # several instances share the calls


class HealthSource(Protocol):
    """Reports the health of the service."""

    async def health(self) -> Health: ...


def register(
    broker: Broker, service: PolicyService, planner: Planner, epochs: EpochFollower, health: HealthSource
) -> None:
    """Subscribe the handlers, each on the subject of services and on that of operators."""

    @broker.subscriber(subjects.rpc("policy", "apply"), queue=QUEUE, title="policy.apply")
    @broker.subscriber(subjects.rpc_of_operators("policy", "apply"), queue=QUEUE, title="operators.policy.apply")
    async def apply(command: ApplyPolicies, message: NatsMessage) -> NatsResponse:
        return reply(await service.apply(command, caller_of(message, command.actor)))

    @broker.subscriber(subjects.rpc("policy", "delete"), queue=QUEUE, title="policy.delete")
    @broker.subscriber(subjects.rpc_of_operators("policy", "delete"), queue=QUEUE, title="operators.policy.delete")
    async def delete(command: DeletePolicies, message: NatsMessage) -> NatsResponse:
        return reply(await service.delete(command, caller_of(message, command.actor)))

    @broker.subscriber(subjects.rpc("policy", "get"), queue=QUEUE, title="policy.get")
    @broker.subscriber(subjects.rpc_of_operators("policy", "get"), queue=QUEUE, title="operators.policy.get")
    async def get(command: GetPolicy) -> NatsResponse:
        return reply(await service.get(command.id))

    @broker.subscriber(subjects.rpc("policy", "list"), queue=QUEUE, title="policy.list")
    @broker.subscriber(subjects.rpc_of_operators("policy", "list"), queue=QUEUE, title="operators.policy.list")
    async def list_(command: Page) -> NatsResponse:
        return reply(await service.list(command))

    @broker.subscriber(subjects.rpc("policy", "history"), queue=QUEUE, title="policy.history")
    @broker.subscriber(subjects.rpc_of_operators("policy", "history"), queue=QUEUE, title="operators.policy.history")
    async def history(command: ListHistory) -> NatsResponse:
        return reply(await service.history(command))

    @broker.subscriber(subjects.rpc("policy", "plan"), queue=QUEUE, title="policy.plan")
    @broker.subscriber(subjects.rpc_of_operators("policy", "plan"), queue=QUEUE, title="operators.policy.plan")
    async def plan(command: PlanPolicies) -> NatsResponse:
        return reply(await planner.plan(command))

    @broker.subscriber(subjects.rpc("policy", "follow_epoch"), queue=QUEUE, title="policy.follow_epoch")
    async def follow_epoch(command: FollowEpoch, message: NatsMessage) -> NatsResponse:
        return reply(await epochs.follow(command, caller_of(message, command.actor)))

    @broker.subscriber(subjects.rpc("policy", "health"), queue=QUEUE, title="policy.health")
    @broker.subscriber(subjects.rpc_of_operators("policy", "health"), queue=QUEUE, title="operators.policy.health")
    async def report_health(command: Empty) -> NatsResponse:
        return reply(await health.health())


def register_records(broker: Broker, records: PolicyRecords) -> None:
    """Subscribe what is asked of the past."""

    @broker.subscriber(subjects.rpc("policy", "diff"), queue=QUEUE, title="policy.diff")
    @broker.subscriber(subjects.rpc_of_operators("policy", "diff"), queue=QUEUE, title="operators.policy.diff")
    async def diff(command: DiffPolicy) -> NatsResponse:
        return reply(await records.diff(command))

    @broker.subscriber(subjects.rpc("policy", "policies_at"), queue=QUEUE, title="policy.policies_at")
    @broker.subscriber(
        subjects.rpc_of_operators("policy", "policies_at"), queue=QUEUE, title="operators.policy.policies_at"
    )
    async def policies_at(command: PoliciesAtQuery) -> NatsResponse:
        return reply(await records.policies_at(command))

    @broker.subscriber(subjects.rpc("policy", "audit"), queue=QUEUE, title="policy.audit")
    async def audit(command: Page) -> NatsResponse:
        return reply(await records.audit(command))

    @broker.subscriber(subjects.rpc("policy", "verify_audit"), queue=QUEUE, title="policy.verify_audit")
    async def verify_audit(command: Empty) -> NatsResponse:
        return reply(await records.verify_audit())


def register_published(broker: Broker, published: Published) -> None:
    """Subscribe what operators and other systems read of the streams."""

    @broker.subscriber(subjects.rpc("policy", "published_set"), queue=QUEUE, title="policy.published_set")
    @broker.subscriber(
        subjects.rpc_of_operators("policy", "published_set"), queue=QUEUE, title="operators.policy.published_set"
    )
    async def published_set(command: GetPublishedSet) -> NatsResponse:
        found = await published.policy_set(command.reader)
        if found is None:
            raise NotFoundError(f"no policy set of {command.reader} was ever published: no policy names this reader")
        return reply(found)

    @broker.subscriber(subjects.rpc("policy", "events"), queue=QUEUE, title="policy.events")
    @broker.subscriber(subjects.rpc_of_operators("policy", "events"), queue=QUEUE, title="operators.policy.events")
    async def events(command: ReadEvents) -> NatsResponse:
        return reply(await published.events(command))


def caller_of(message: NatsMessage, actor: str) -> CallContext:
    """Who wants it: an operator is named by the server, anybody else by the service that calls and that the broker verified.

    Raises ForbiddenError.
    """
    of_operator = message.raw_message.subject.startswith(subjects.rpc_of_operators("policy", ""))
    name = operator_of(require_operator(message.headers)) if of_operator else actor
    here = tracing.current() or tracing.new_trace()
    return CallContext("".join(c for c in name if c.isprintable()), here.traceparent, here.trace_id)
