"""Making tokens, and answering whose a bearer token is."""

from datetime import datetime, timedelta

from warren_contracts.commands import Authenticated, CreateJoinToken, CreateOperatorToken, OperatorToken
from warren_contracts.peers import JoinToken
from warren_contracts.problems import Unauthorised
from warren_registry.domain.tokens import JoinTokenRow, OperatorRow, Random, new_join_token, new_operator_token
from warren_registry.membership import checked_tags
from warren_registry.ports import Tables


async def create_join_token(
    tables: Tables, command: CreateJoinToken, root: bytes, random: Random, now: datetime
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
    tables: Tables, command: CreateOperatorToken, random: Random, now: datetime
) -> OperatorToken:
    """A new bearer token; its text is in the reply and nowhere else."""
    new = new_operator_token(random, command.name)
    expires = now + timedelta(seconds=command.lifetime) if command.lifetime is not None else None
    await tables.tokens.add_operator(
        OperatorRow(
            name=command.name, role=command.role, digest=new.digest, created_at=now, expires_at=expires,
            created_by=command.actor,
        )
    )  # fmt: skip
    return OperatorToken(name=command.name, role=command.role, token=new.text)


async def authenticate(tables: Tables, token_sha256: str, now: datetime) -> Authenticated:
    """Whose bearer token has this hash; Unauthorised when nobody's, or when it has expired."""
    row = await tables.tokens.operator(bytes.fromhex(token_sha256))
    if row is None or not row.valid(now):
        raise Unauthorised
    return Authenticated(name=row.name, role=row.role)
