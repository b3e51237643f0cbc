"""What arrives on the bus: `rpc.policy.*`. Errors become Problems in the broker's middleware."""

from typing import Protocol

from faststream.nats import NatsMessage, NatsResponse

from warren_bus import tracing
from warren_bus.callers import OPS, parse_caller
from warren_bus.service import Broker, reply
from warren_contracts import subjects
from warren_contracts.commands import ApplyPolicies, DeletePolicies, Empty, GetPolicy, Health, Page
from warren_policy.ports import Caller
from warren_policy.service import PolicyService

QUEUE = "policy"  # several instances share the calls


class HealthSource(Protocol):
    """Tells how the service is."""

    async def health(self) -> Health: ...


def register(broker: Broker, service: PolicyService, health: HealthSource) -> None:
    """Subscribe the handlers."""

    @broker.subscriber(subjects.rpc("policy", "apply"), queue=QUEUE, title="policy.apply")
    async def apply(command: ApplyPolicies, message: NatsMessage) -> NatsResponse:
        return reply(await service.apply(command, caller_of(message, command.actor)))

    @broker.subscriber(subjects.rpc("policy", "delete"), queue=QUEUE, title="policy.delete")
    async def delete(command: DeletePolicies, message: NatsMessage) -> NatsResponse:
        return reply(await service.delete(command, caller_of(message, command.actor)))

    @broker.subscriber(subjects.rpc("policy", "get"), queue=QUEUE, title="policy.get")
    async def get(command: GetPolicy) -> NatsResponse:
        return reply(await service.get(command.id))

    @broker.subscriber(subjects.rpc("policy", "list"), queue=QUEUE, title="policy.list")
    async def list_(command: Page) -> NatsResponse:
        return reply(await service.list(command))

    @broker.subscriber(subjects.rpc("policy", "health"), queue=QUEUE, title="policy.health")
    async def tell_health(command: Empty) -> NatsResponse:
        return reply(await health.health())


def caller_of(message: NatsMessage, actor: str) -> Caller:
    """Who wants it: of a call from OPS the server says so, of one from inside CTRL its caller does."""
    caller = parse_caller(message.headers)
    name = caller.user if caller.account == OPS else actor
    here = tracing.current() or tracing.new_trace()
    return Caller("".join(c for c in name if c.isprintable()), here.traceparent, here.trace_id)
