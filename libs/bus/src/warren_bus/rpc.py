"""Call services: request and reply are JSON of contract models, an error is a Problem.

The caller's side only, small enough for an agent. Services reply with `warren_service.broker`.

A call of a service is signed (`service_calls`) and carries its deadline: a service that receives it later, because the server or
the service hung meanwhile, refuses it, since the call has already failed at its caller. Agents' clocks may be wrong: their calls
carry none.
"""

import time
from typing import Protocol, TypeVar

from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import MaxPayloadError, NoRespondersError, TimeoutError
from pydantic import BaseModel, ValidationError

from warren_bus.headers import header
from warren_bus.service_calls import is_service_call, sign_call
from warren_bus.tracing import outgoing
from warren_contracts.base import read
from warren_contracts.cloudevents import CONTENT_JSON, HEADER_TRACEPARENT
from warren_contracts.problems import CONTENT_TYPE, InvalidInputError, Problem, UnavailableError, WarrenError

CALL_TIMEOUT = 5.0  # s
PING_TIMEOUT = 1.0  # s for the server itself, which replies within milliseconds

ReplyT = TypeVar("ReplyT", bound=BaseModel)


class Requester(Protocol):
    """The part of a nats-py client that a call needs."""

    async def flush(self, timeout: int = ...) -> None: ...

    async def request(
        self, subject: str, payload: bytes = ..., timeout: float = ..., *, headers: dict[str, str] | None = ...
    ) -> Msg: ...


class NoReplyError(UnavailableError):
    """The service does not answer: `warren health` shows which part is unavailable."""


async def server_answers(client: Requester, timeout: float = PING_TIMEOUT) -> bool:
    """Whether the server answers a PING: a connection to a server that hangs looks healthy for two minutes."""
    try:
        await client.flush(timeout)  # type: ignore[arg-type]  # nats-py hands any number to asyncio.wait_for
    except (NatsError, OSError):
        return False
    return True


async def call(
    client: Requester, subject: str, request: BaseModel, reply: type[ReplyT], timeout: float = CALL_TIMEOUT
) -> ReplyT:
    """Call a service. Raises the WarrenError of its reply, NoReplyError when there is no reply in time (a service that had begun may
    still finish), or UnavailableError when no service listens."""
    # Unset fields are not sent: a thousand small policies with every default would not fit into a message.
    payload = request.model_dump_json(exclude_unset=True).encode()
    message = await exchange(client, subject, payload, timeout)
    try:
        return read(reply, message.data)
    except ValidationError as error:
        raise UnavailableError(
            f"{service_of(subject)}: the reply cannot be read ({error.error_count()} errors)"
        ) from None


async def exchange(client: Requester, subject: str, payload: bytes, timeout: float = CALL_TIMEOUT) -> Msg:
    """As `call` with bytes, for callers that need the headers of the reply."""
    headers = {"content-type": CONTENT_JSON, HEADER_TRACEPARENT: outgoing()}
    key = getattr(client, "call_key", None)
    if key is not None and is_service_call(subject):
        headers |= sign_call(key, subject, int((time.time() + timeout) * 1_000), payload)
    try:
        message = await client.request(subject, payload, timeout=timeout, headers=headers)
    except NoRespondersError:
        raise UnavailableError(f"{service_of(subject)} is unavailable: repeat the call when it has returned") from None
    except TimeoutError:
        silent = service_of(subject) if await server_answers(client) else "NATS"
        raise NoReplyError(f"{silent} does not answer (within {timeout:g} s)") from None
    except MaxPayloadError:
        raise InvalidInputError(f"{len(payload)} bytes are more than one message carries: split the request") from None
    except (NatsError, OSError) as error:
        raise UnavailableError(f"the bus is unavailable ({error}): repeat the call when it has returned") from None
    if header(message.headers, "content-type") == CONTENT_TYPE:
        raise parse_problem(message.data)
    return message


def service_of(subject: str) -> str:
    """The name of the service of a subject: `warren.v1.rpc.policy.apply` is the policy service's."""
    service = subject.split(".")[3:4] if ".rpc." in subject else []
    return f"the {_SERVED_BY.get(service[0], service[0])} service" if service else f"the service of {subject}"


_SERVED_BY = {"agent": "registry", "enrol": "registry"}


def parse_problem(data: bytes) -> WarrenError:
    """The error of a problem document: of the class with its code, else of the class with its status."""
    try:
        problem = Problem.model_validate_json(data)
    except ValidationError:
        return UnavailableError("the service replied with an error that cannot be read")
    code = problem.type.removeprefix(Problem.PREFIX)
    known = _subclasses(WarrenError)
    for kind in known:
        if kind.code == code:
            return kind(problem.detail, problem.errors)
    base = next((kind for kind in known if kind.status == problem.status), WarrenError)
    foreign = type("RemoteProblem", (base,), {"code": code, "title": problem.title, "status": problem.status})
    error: WarrenError = foreign(problem.detail, problem.errors)
    return error


def _subclasses(kind: type[WarrenError]) -> list[type[WarrenError]]:
    found = [kind]
    for child in kind.__subclasses__():
        found += [below for below in _subclasses(child) if below.__name__ != "RemoteProblem"]
    return found
