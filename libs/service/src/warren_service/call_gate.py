"""Decide on the messages of a service's RPC as they arrive, before they are queued: `client.PatchedClient.gate`."""

import time
from collections.abc import Awaitable, Callable

import structlog

from warren_bus.client import ArrivedMessage, PatchedClient
from warren_bus.errors import NotConnectedError
from warren_contracts import subjects
from warren_contracts.problems import CONTENT_TYPE, ForbiddenError, WarrenError
from warren_service.call_budget import CallBudget, parse_source
from warren_service.callers import require_operator
from warren_service.limited_log import LimitedLog

log = structlog.get_logger("warren_bus")

_RPC = f"{subjects.VERSION}.rpc."
_OPS = f"{subjects.VERSION}.ops."
Publish = Callable[[str, bytes, dict[str, str]], Awaitable[None]]


class LimitExceededError(WarrenError):
    """The limit of this caller is exceeded: retry later, with less at once."""

    code = "limit-exceeded"
    status = 429


def is_call(subject: str) -> bool:
    """Whether this is the subject of an RPC, of whichever caller."""
    return subject.startswith((_RPC, _OPS))


def matches(pattern: str, subject: str) -> bool:
    """Whether a subject is one of a subscription's, by the rules of NATS."""
    wanted, tokens = pattern.split("."), subject.split(".")
    if wanted[-1] == ">":
        wanted, tokens = wanted[:-1], tokens[: len(wanted) - 1] if len(tokens) >= len(wanted) else []
    return len(wanted) == len(tokens) and all(want in ("*", token) for want, token in zip(wanted, tokens, strict=True))


class CallGate:
    """Admits calls within the budget of their callers. Everything else that a service subscribes to passes."""

    def __init__(self, client: PatchedClient, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._clock = clock
        self._budget = CallBudget()
        self._misplaced = LimitedLog(log.warning, "rpc.refused")
        self._exceeded = LimitedLog(log.warning, "rpc.limit_exceeded")

    async def admits(self, arrived: ArrivedMessage) -> bool:
        """Whether a message is queued for its handler."""
        if not is_call(arrived.subscription):
            return True
        if not matches(arrived.subscription, arrived.subject):
            self._misplaced.write(
                arrived.subscription, subject=arrived.subscription, error="delivered by a stream's consumer"
            )
            return False
        operator = await self._operator(arrived) if arrived.subject.startswith(_OPS) else ""
        source = parse_source(arrived.subject, operator)
        refusal = None if source is None else self._budget.refuse(source, arrived.size, self._clock())
        if source is None or refusal is None:
            return True
        self._exceeded.write(source.name, caller=source.name, verb=source.verb or source.kind, error=refusal.reason)
        if refusal.answered:
            await self._answer(arrived.reply, refusal.reason)
        return False

    async def _operator(self, arrived: ArrivedMessage) -> str:
        """The operator that the server names; empty for a caller that cannot be verified, who shares one budget with all such."""
        try:
            return require_operator(await self._client._process_headers(arrived.headers))
        except ForbiddenError:
            return ""

    async def _answer(self, reply: str, reason: str) -> None:
        if not reply or reply.startswith("$JS."):
            return
        body = LimitExceededError(reason).problem().model_dump_json().encode()
        try:
            await self._client.publish(reply, body, headers={"content-type": CONTENT_TYPE})
        except (NotConnectedError, OSError):
            return  # it times out at its caller
