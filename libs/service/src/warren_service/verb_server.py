"""Serves the verbs of the RPC (`warren_contracts.verbs`): each on the subject of services and, if the table says so, of operators.

The broker verifies who calls, and answers with a Problem when a handler raises.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from faststream.nats import NatsResponse
from pydantic import BaseModel

from warren_contracts import subjects
from warren_contracts.commands import Empty, Health
from warren_contracts.verbs import of_operators
from warren_service.broker import Broker, reply

HandlerT = TypeVar("HandlerT", bound=Callable[..., Awaitable[NatsResponse]])
RequestT = TypeVar("RequestT", bound=BaseModel)


class HealthSource(Protocol):
    """Reports the health of a service."""

    async def health(self) -> Health: ...


class VerbServer:
    """The verbs of one service. Its instances share the calls, in a queue group of its name."""

    def __init__(self, broker: Broker, service: str) -> None:
        self._broker = broker
        self._service = service
        self._of_operators = frozenset(command.verb for command in of_operators() if command.service == service)

    def verb(self, name: str) -> Callable[[HandlerT], HandlerT]:
        """Subscribe the decorated handler, whose first argument is the request."""

        def subscribe(handler: HandlerT) -> HandlerT:
            self._subscribe(subjects.rpc(self._service, name), f"{self._service}.{name}", handler)
            if name in self._of_operators:
                subject = subjects.rpc_of_operators(self._service, name)
                self._subscribe(subject, f"operators.{self._service}.{name}", handler)
            return handler

        return subscribe

    def serve(self, name: str, request: type[RequestT], answer: Callable[[RequestT], Awaitable[BaseModel]]) -> None:
        """Serve a verb by a call that takes the request and returns the reply."""

        async def handle(command: RequestT) -> NatsResponse:
            return reply(await answer(command))

        handle.__annotations__["command"] = (
            request  # FastStream parses into this type: it cannot resolve a type variable
        )
        self.verb(name)(handle)

    def serve_health(self, source: HealthSource) -> None:
        """Serve the verb `health`."""

        async def health(_: Empty) -> Health:
            return await source.health()

        self.serve("health", Empty, health)

    def _subscribe(self, subject: str, title: str, handler: Callable[..., Any]) -> None:
        self._broker.subscriber(subject, queue=self._service, title=title)(handler)
