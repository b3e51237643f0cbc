"""What arrives on the bus: `rpc.policy.*` of services, `ops.policy.*` of operators. The middleware answers with Problems."""

from faststream.nats import NatsMessage, NatsResponse
from pydantic import BaseModel

from warren_bus import tracing
from warren_contracts import subjects
from warren_contracts.bus_queries import GetPublishedSet, ReadEvents
from warren_contracts.commands import ApplyPolicies, DeletePolicies, Empty, FollowEpoch, GetPolicy, Page
from warren_contracts.plans import DiffPolicy, PlanPolicies
from warren_contracts.policy_history import ListHistory
from warren_contracts.problems import NotFoundError
from warren_contracts.tokens import operator_of
from warren_contracts.tunnel_history import PoliciesAtQuery
from warren_policy.epochs import EpochFollower
from warren_policy.planner import Planner
from warren_policy.ports import CallContext, PublishedStreams
from warren_policy.records import PolicyRecords
from warren_policy.service import PolicyService
from warren_service.broker import reply
from warren_service.callers import require_operator
from warren_service.verb_server import VerbServer


def register(verbs: VerbServer, service: PolicyService, planner: Planner, epochs: EpochFollower) -> None:
    """Subscribe the changes and what they are compared with."""

    @verbs.verb("apply")
    async def apply(command: ApplyPolicies, message: NatsMessage) -> NatsResponse:
        return reply(await service.apply(command, caller_of(message, command.actor)))

    @verbs.verb("delete")
    async def delete(command: DeletePolicies, message: NatsMessage) -> NatsResponse:
        return reply(await service.delete(command, caller_of(message, command.actor)))

    async def get(command: GetPolicy) -> BaseModel:
        return await service.get(command.id)

    verbs.serve("get", GetPolicy, get)
    verbs.serve("list", Page, service.list)
    verbs.serve("history", ListHistory, service.history)
    verbs.serve("plan", PlanPolicies, planner.plan)

    @verbs.verb("follow_epoch")
    async def follow_epoch(command: FollowEpoch, message: NatsMessage) -> NatsResponse:
        return reply(await epochs.follow(command, caller_of(message, command.actor)))


def register_records(verbs: VerbServer, records: PolicyRecords) -> None:
    """Serve what is asked of the past."""

    async def verify_audit(_: Empty) -> BaseModel:
        return await records.verify_audit()

    verbs.serve("diff", DiffPolicy, records.diff)
    verbs.serve("deleted", Page, records.deleted)
    verbs.serve("policies_at", PoliciesAtQuery, records.policies_at)
    verbs.serve("audit", Page, records.audit)
    verbs.serve("verify_audit", Empty, verify_audit)


def register_published(verbs: VerbServer, published: PublishedStreams) -> None:
    """Subscribe what operators and other systems read of the streams."""

    async def published_set(command: GetPublishedSet) -> BaseModel:
        found = await published.policy_set(command.reader)
        if found is None:
            raise NotFoundError(f"no policy set of {command.reader} was ever published: no policy names this reader")
        return found

    verbs.serve("published_set", GetPublishedSet, published_set)
    verbs.serve("events", ReadEvents, published.events)


def caller_of(message: NatsMessage, actor: str) -> CallContext:
    """Who wants it: an operator is named by the server, anybody else by the service that calls and that the broker verified.

    Raises ForbiddenError.
    """
    of_operator = message.raw_message.subject.startswith(subjects.rpc_of_operators("policy", ""))
    name = operator_of(require_operator(message.headers)) if of_operator else actor
    here = tracing.current() or tracing.new_trace()
    return CallContext("".join(c for c in name if c.isprintable()), here.traceparent, here.trace_id)
