"""The RPC verbs of join tokens and operators' bearer tokens: each is one transaction. They work on a restored database, too."""

from collections.abc import Callable
from datetime import datetime

import structlog

from warren_contracts.authentication import Authenticated
from warren_contracts.commands import (
    CreateJoinToken,
    CreateOperatorToken,
    JoinTokenList,
    JoinTokenSummary,
    OperatorToken,
    OperatorTokenList,
    OperatorTokenSummary,
    Page,
    RemoveJoinToken,
    RemoveOperatorToken,
)
from warren_contracts.peers import JoinToken
from warren_contracts.tokens import RandomBytes
from warren_registry.audit.service import record
from warren_registry.enrolment import join_tokens
from warren_registry.epoch.trust import Trust
from warren_registry.operators import service as operators
from warren_registry.ports import Database

log = structlog.get_logger(__name__)


class TokenService:
    """Creates, lists, removes and verifies tokens. `committed` wakes the worker that closes a removed token's connections."""

    def __init__(
        self, database: Database, trust: Trust, committed: Callable[[], None], *,
        clock: Callable[[], datetime], random: RandomBytes,
    ) -> None:  # fmt: skip
        self._database = database
        self._trust = trust
        self._committed = committed
        self._clock = clock
        self._random = random

    async def create_join_token(self, command: CreateJoinToken) -> JoinToken:
        anchors = self._trust.anchors()
        async with self._database.transaction() as tables:
            now = self._clock()
            made = await join_tokens.create_join_token(tables, command, anchors, self._random, now)
            await record(tables, "create_join_token", made.id, command, now)
        log.info("join.created", join=made.id, tags=made.tags, uses=made.uses, actor=command.actor)
        return made

    async def create_operator_token(self, command: CreateOperatorToken) -> OperatorToken:
        async with self._database.transaction() as tables:
            now = self._clock()
            made = await operators.create_operator_token(tables, command, self._random, now)
            await record(tables, "create_operator_token", made.name, command, now)
        log.info(
            "operator.created", operator=made.name, role=made.role.value, scope=made.scope or (), actor=command.actor
        )
        return made

    async def join_tokens(self, page: Page) -> JoinTokenList:
        async with self._database.transaction() as tables:
            return await join_tokens.list_join_tokens(tables, page)

    async def operator_tokens(self, page: Page) -> OperatorTokenList:
        async with self._database.transaction() as tables:
            return await operators.list_operator_tokens(tables, page)

    async def remove_join_token(self, command: RemoveJoinToken) -> JoinTokenSummary:
        async with self._database.transaction() as tables:
            removed = await join_tokens.remove_join_token(tables, command.id)
            await record(tables, "remove_join_token", removed.id, command, self._clock())
        log.info("join.removed", join=removed.id, actor=command.actor)
        return removed

    async def remove_operator_token(self, command: RemoveOperatorToken) -> OperatorTokenSummary:
        async with self._database.transaction() as tables:
            now = self._clock()
            removed = await operators.remove_operator_token(tables, command.name, now)
            await record(tables, "remove_operator_token", removed.name, command, now)
        self._committed()
        log.info("operator.removed", operator=removed.name, actor=command.actor)
        return removed

    async def authenticate(self, token_sha256: str) -> Authenticated:
        async with self._database.transaction() as tables:
            return await operators.authenticate(tables, token_sha256, self._clock())
