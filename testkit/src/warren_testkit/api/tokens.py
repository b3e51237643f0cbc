"""Join tokens and operators' tokens in memory, as the registry replies."""

import base64
from datetime import UTC, datetime
from hashlib import sha256

from warren_contracts.authentication import Authenticate, Authenticated
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
    Role,
)
from warren_contracts.peers import JoinToken
from warren_contracts.problems import ConflictError, UnauthorizedError
from warren_contracts.tokens import join_token_text
from warren_testkit.api.entries import found, page_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TOKENS = {role: f"token-of-{role.value}" for role in Role}


class FakeTokens:
    """The verbs; `FakeBus` has the state."""

    tokens: dict[str, Role]
    scopes: dict[str, tuple[str, ...]]  # of tokens that have one
    join_tokens: dict[str, JoinTokenSummary]
    operators: dict[str, OperatorTokenSummary]

    def _registry_create_join_token(self, command: CreateJoinToken) -> JoinToken:
        secret = base64.b32encode(sha256(command.request.note.encode()).digest()).decode().lower().rstrip("=")
        token = join_token_text(secret[:16], secret, sha256(b"root").digest())
        self.join_tokens[secret[:16]] = JoinTokenSummary(
            id=secret[:16], tags=command.request.tags, uses=command.request.uses, used=0, note=command.request.note,
            created_by=command.actor, created_at=NOW, expires_at=NOW,
        )  # fmt: skip
        return JoinToken(
            id=secret[:16], token=token, expires_at=NOW, uses=command.request.uses, tags=command.request.tags
        )

    def _registry_join_tokens(self, page: Page) -> JoinTokenList:
        entries, after = page_of(self.join_tokens, page.after, page.limit)
        return JoinTokenList(tokens=entries, next_after=after)

    def _registry_remove_join_token(self, command: RemoveJoinToken) -> JoinTokenSummary:
        removed = found(self.join_tokens, command.id, "join token")
        del self.join_tokens[command.id]
        return removed

    def _registry_operator_tokens(self, page: Page) -> OperatorTokenList:
        entries, after = page_of(self.operators, page.after, page.limit)
        return OperatorTokenList(tokens=entries, next_after=after)

    def _registry_remove_operator_token(self, command: RemoveOperatorToken) -> OperatorTokenSummary:
        removed = found(self.operators, command.name, "operator's token")
        del self.operators[command.name]
        self.tokens.pop(digest(f"new-token-of-{command.name}"), None)
        return removed

    def _registry_create_operator_token(self, command: CreateOperatorToken) -> OperatorToken:
        if command.name in self.operators:
            raise ConflictError(f"a token of {command.name} exists already")
        self.operators[command.name] = OperatorTokenSummary(
            name=command.name, role=command.role, created_by=command.actor, created_at=NOW,
            sha256_prefix=digest(f"new-token-of-{command.name}")[:8], scope=command.scope,
        )  # fmt: skip
        text = f"new-token-of-{command.name}"
        self.tokens[digest(text)] = command.role
        if command.scope is not None:
            self.scopes[digest(text)] = command.scope
        return OperatorToken(name=command.name, role=command.role, scope=command.scope, token=text)

    def _registry_authenticate(self, query: Authenticate) -> Authenticated:
        if query.token_sha256 not in self.tokens:
            raise UnauthorizedError
        role = self.tokens[query.token_sha256]
        return Authenticated(name=f"the-{role.value}", role=role, scope=self.scopes.get(query.token_sha256))


def digest(token: str) -> str:
    """What the registry stores of a token."""
    return sha256(token.encode()).hexdigest()
