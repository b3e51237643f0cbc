"""Create, list, remove and verify operators' bearer tokens."""

from datetime import datetime, timedelta

from warren_contracts.authentication import Authenticated
from warren_contracts.commands import (
    CreateOperatorToken,
    OperatorToken,
    OperatorTokenList,
    OperatorTokenSummary,
    Page,
)
from warren_contracts.problems import InvalidField, InvalidInputError, NotFoundError, UnauthorizedError
from warren_contracts.tokens import RandomBytes, bus_user, new_operator_token
from warren_registry.errors import OperatorNameTakenError
from warren_registry.operators.model import OperatorRow
from warren_registry.ports import Tables

MAX_OPERATOR_LIFETIME = 10 * 365 * 86_400  # s; far beyond it the date cannot be represented


async def create_operator_token(
    tables: Tables, command: CreateOperatorToken, random: RandomBytes, now: datetime
) -> OperatorToken:
    """Create a bearer token; its text is in the reply and nowhere else."""
    if command.lifetime is not None and command.lifetime > MAX_OPERATOR_LIFETIME:
        message = (
            f"at most {MAX_OPERATOR_LIFETIME} s (ten years); omit it for a token that is valid until it is removed"
        )
        raise InvalidInputError(f"lifetime: {message}", (InvalidField(field="lifetime", message=message),))
    new = new_operator_token(random, command.name)
    expires = now + timedelta(seconds=command.lifetime) if command.lifetime is not None else None
    added = await tables.operators.add_operator(
        OperatorRow(
            name=command.name, role=command.role, digest=new.digest, created_at=now, expires_at=expires,
            created_by=command.actor, scope=command.scope,
        )
    )  # fmt: skip
    if not added:
        raise OperatorNameTakenError(
            f"a token of {command.name} exists already: choose another name, or remove that one first"
        )
    return OperatorToken(name=command.name, role=command.role, scope=command.scope, token=new.text)


async def list_operator_tokens(tables: Tables, page: Page) -> OperatorTokenList:
    """A page of all operators' tokens, expired ones too."""
    rows = await tables.operators.operator_page(page.after, page.limit)
    found = tuple(map(_operator_summary, rows))
    return OperatorTokenList(tokens=found, next_after=rows[-1].name if len(rows) == page.limit else None)


async def remove_operator_token(tables: Tables, name: str, now: datetime) -> OperatorTokenSummary:
    """Remove a bearer token; its connections to the bus are closed after the commit. Raises NotFoundError."""
    row = await tables.operators.remove_operator(name)
    if row is None:
        raise NotFoundError(f"unknown operator token {name}: list the tokens")
    await tables.after_commit.add_kick(bus_user(name), now)
    return _operator_summary(row)


async def authenticate(tables: Tables, token_sha256: str, now: datetime) -> Authenticated:
    """The operator whose bearer token has this hash; UnauthorizedError if it is unknown or has expired."""
    row = await tables.operators.operator(bytes.fromhex(token_sha256))
    if row is None or not row.valid(now):
        raise UnauthorizedError
    return Authenticated(name=row.name, role=row.role, scope=row.scope)


def _operator_summary(row: OperatorRow) -> OperatorTokenSummary:
    return OperatorTokenSummary(
        name=row.name, role=row.role, created_by=row.created_by, created_at=row.created_at, expires_at=row.expires_at,
        sha256_prefix=row.digest.hex()[:8], scope=row.scope,
    )  # fmt: skip
