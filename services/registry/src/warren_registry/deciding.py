"""The callout's decisions over live rows, and over remembered ones while PostgreSQL is away.

Each decision reads the row that it needs, so that a new peer may connect in the moment of its enrolment and a revoked one
never again. Beside that the memory follows every change (`Memory`), and stands in when a read fails or takes too long.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Protocol, TypeVar

import structlog

from warren_contracts.problems import UnavailableError
from warren_registry.domain.admission import (
    AdmissionRefusedError,
    AuthRequest,
    Grant,
    JoinCredential,
    KeyRight,
    OperatorCredential,
    admit_joining,
    admit_operator,
    admit_peer,
    prove,
)
from warren_registry.domain.memory import CredentialCache
from warren_registry.domain.tokens import JoinTokenRow, OperatorRow

# s for a row; the whole answer must be there within the 2 s that a connecting client waits (bus.md, c1)
ROW_TIMEOUT = 1.0
TRUST_IN_ABSENCE = 1.0  # s after a failed read in which nobody else waits for PostgreSQL either

T = TypeVar("T")
log = structlog.get_logger(__name__)


class AdmissionRows(Protocol):
    """What the callout reads. Every method raises UnavailableError while PostgreSQL is away."""

    async def right(self, nkey: str) -> KeyRight: ...
    async def join_token(self, identifier: str) -> JoinTokenRow | None: ...
    async def operator(self, digest: bytes) -> OperatorRow | None: ...
    async def everybody(self) -> tuple[tuple[KeyRight, ...], tuple[OperatorRow, ...]]: ...


class DecisionUnavailableError(Exception):
    """The rows cannot be read now."""


class Authorizer:
    """Decides one connection after another."""

    def __init__(
        self, rows: AdmissionRows, memory: CredentialCache, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._rows = rows
        self._memory = memory
        self._monotonic = monotonic
        self._absent_until = float("-inf")

    async def decide(self, ask: AuthRequest, now: datetime) -> Grant:
        """Grant or raise AdmissionRefusedError."""
        shown = prove(ask)
        match shown:
            case OperatorCredential(digest):
                return admit_operator(await self._operator(digest), now)
            case JoinCredential(nkey, token):
                try:
                    row = await self._read(lambda: self._rows.join_token(token.id))
                except DecisionUnavailableError:
                    raise AdmissionRefusedError("PostgreSQL is away: nobody can enrol before it returns") from None
                return admit_joining(shown, row, await self._right(nkey), now)
            case _:
                return admit_peer(await self._right(shown.nkey))

    async def reload(self) -> None:
        """Learn everybody anew: after every gap in what is told. Raises UnavailableError."""
        self._memory.load(*await self._rows.everybody())
        log.info("callout.loaded", keys=len(self._memory))

    async def told(self, payload: str) -> None:
        """Learn of one changed row: `<table> <nkey>`, or `operator_token <digest>`. Raises UnavailableError."""
        table, _, key = payload.partition(" ")
        if table == "operator_token":
            digest = bytes.fromhex(key)
            row = await self._rows.operator(digest)
            if row is None:
                self._memory.forget_operator(digest)
            else:
                self._memory.learn_operator(row)
        else:
            self._memory.learn(await self._rows.right(key))

    async def _right(self, nkey: str) -> KeyRight:
        try:
            return self._memory.learn(await self._read(lambda: self._rows.right(nkey)))
        except DecisionUnavailableError:
            right = self._memory.right(nkey)
            if not right.id and not right.revoked:
                raise AdmissionRefusedError("PostgreSQL is away, and the key is not among those remembered") from None
            return right

    async def _operator(self, digest: bytes) -> OperatorRow | None:
        try:
            row = await self._read(lambda: self._rows.operator(digest))
        except DecisionUnavailableError:
            return self._memory.operator(digest)
        return None if row is None else self._memory.learn_operator(row)

    async def _read(self, ask: Callable[[], Awaitable[T]]) -> T:
        """A row, or Away. After one failure the next callers do not wait for it: a thousand connect at once."""
        if self._monotonic() < self._absent_until:
            raise DecisionUnavailableError
        try:
            async with asyncio.timeout(ROW_TIMEOUT):
                return await ask()
        except (UnavailableError, TimeoutError) as error:
            now = self._monotonic()
            if now >= self._absent_until:  # of all who waited together, one tells
                log.warning("callout.rows_away", error=type(error).__name__)
            self._absent_until = now + TRUST_IN_ABSENCE
            raise DecisionUnavailableError from None
