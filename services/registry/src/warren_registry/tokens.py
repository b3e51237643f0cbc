"""Making, listing and removing tokens, and answering whose a bearer token is."""

from datetime import datetime, timedelta

from warren_contracts.commands import (
    Authenticated,
    CreateJoinToken,
    CreateOperatorToken,
    JoinTokenList,
    JoinTokenSummary,
    OperatorToken,
    OperatorTokenList,
    OperatorTokenSummary,
    Page,
)
from warren_contracts.peers import JoinToken
from warren_contracts.problems import InvalidField, InvalidInputError, NotFoundError, UnauthorizedError
from warren_contracts.tokens import RandomBytes, bus_user, new_join_token, new_operator_token
from warren_registry.domain.tokens import JoinTokenRow, OperatorRow
from warren_registry.errors import OperatorNameTakenError
from warren_registry.membership import checked_tags
from warren_registry.ports import Tables

MAX_OPERATOR_LIFETIME = 10 * 365 * 86_400  # s; far beyond it the date could not be written any more


async def create_join_token(
    tables: Tables, command: CreateJoinToken, root: bytes, random: RandomBytes, now: datetime
) -> JoinToken:
    """A new join token; its text is in the reply and nowhere else. `root` is the trust root's raw public key."""
    wish = command.request
    new = new_join_token(random, root)
    row = JoinTokenRow(
        id=new.id, digest=new.digest, tags=checked_tags(wish.tags), uses=wish.uses, used=0, created_at=now,
        expires_at=now + timedelta(seconds=wish.lifetime), peer=wish.peer, subnets=wish.subnets, note=wish.note,
        created_by=command.actor,
    )  # fmt: skip
    await tables.tokens.add_join_token(row)
    return JoinToken(id=row.id, token=new.text, expires_at=row.expires_at, uses=row.uses, tags=row.tags)


async def create_operator_token(
    tables: Tables, command: CreateOperatorToken, random: RandomBytes, now: datetime
) -> OperatorToken:
    """A new bearer token; its text is in the reply and nowhere else."""
    if command.lifetime is not None and command.lifetime > MAX_OPERATOR_LIFETIME:
        message = (
            f"at most {MAX_OPERATOR_LIFETIME} s (ten years); leave it out for a token that lasts until it is removed"
        )
        raise InvalidInputError(f"lifetime: {message}", (InvalidField(field="lifetime", message=message),))
    new = new_operator_token(random, command.name)
    expires = now + timedelta(seconds=command.lifetime) if command.lifetime is not None else None
    added = await tables.tokens.add_operator(
        OperatorRow(
            name=command.name, role=command.role, digest=new.digest, created_at=now, expires_at=expires,
            created_by=command.actor,
        )
    )  # fmt: skip
    if not added:
        raise OperatorNameTakenError(
            f"a token of {command.name} exists already: choose another name, or remove that one first"
        )
    return OperatorToken(name=command.name, role=command.role, token=new.text)


async def list_join_tokens(tables: Tables, page: Page) -> JoinTokenList:
    """A page of all join tokens, spent and expired ones too."""
    rows = await tables.tokens.join_token_page(page.after, page.limit)
    return JoinTokenList(tokens=tuple(map(_join_summary, rows)), next_after=_next([row.id for row in rows], page.limit))


async def remove_join_token(tables: Tables, identifier: str) -> JoinTokenSummary:
    """Nobody joins by it any more; a connection that is joining by it is refused by the enrolment. NotFoundError."""
    row = await tables.tokens.remove_join_token(identifier)
    if row is None:
        raise NotFoundError(f"there is no join token {identifier}: list the tokens")
    return _join_summary(row)


async def list_operator_tokens(tables: Tables, page: Page) -> OperatorTokenList:
    """A page of all operators' tokens, expired ones too."""
    rows = await tables.tokens.operator_page(page.after, page.limit)
    found = tuple(map(_operator_summary, rows))
    return OperatorTokenList(tokens=found, next_after=_next([row.name for row in rows], page.limit))


async def remove_operator_token(tables: Tables, name: str, now: datetime) -> OperatorTokenSummary:
    """It opens nothing any more; its connections to the bus are ended after the commit. NotFoundError."""
    row = await tables.tokens.remove_operator(name)
    if row is None:
        raise NotFoundError(f"there is no operator's token {name}: list the tokens")
    await tables.after.add_kick(bus_user(name), now)
    return _operator_summary(row)


def _join_summary(row: JoinTokenRow) -> JoinTokenSummary:
    return JoinTokenSummary(
        id=row.id, tags=row.tags, uses=row.uses, used=row.used, peer=row.peer, subnets=row.subnets, note=row.note,
        created_by=row.created_by, created_at=row.created_at, expires_at=row.expires_at,
    )  # fmt: skip


def _operator_summary(row: OperatorRow) -> OperatorTokenSummary:
    return OperatorTokenSummary(
        name=row.name, role=row.role, created_by=row.created_by, created_at=row.created_at, expires_at=row.expires_at
    )


def _next(names: list[str], limit: int) -> str | None:
    return names[-1] if len(names) == limit else None


async def authenticate(tables: Tables, token_sha256: str, now: datetime) -> Authenticated:
    """The operator whose bearer token has this hash; UnauthorizedError if it is unknown or has expired."""
    row = await tables.tokens.operator(bytes.fromhex(token_sha256))
    if row is None or not row.valid(now):
        raise UnauthorizedError
    return Authenticated(name=row.name, role=row.role)
