"""Create, list and remove join tokens."""

from datetime import datetime, timedelta

from warren_contracts.commands import CreateJoinToken, JoinTokenList, JoinTokenSummary, Page
from warren_contracts.peers import JoinToken
from warren_contracts.problems import NotFoundError
from warren_contracts.tokens import RandomBytes, TrustAnchors, new_join_token
from warren_registry.enrolment.model import JoinTokenRow
from warren_registry.peers.membership import checked_tags
from warren_registry.ports import Tables


async def create_join_token(
    tables: Tables, command: CreateJoinToken, anchors: TrustAnchors, random: RandomBytes, now: datetime
) -> JoinToken:
    """Create a join token; its text is in the reply and nowhere else."""
    request = command.request
    new = new_join_token(random, *anchors)
    row = JoinTokenRow(
        id=new.id, digest=new.digest, tags=checked_tags(request.tags), uses=request.uses, used=0, created_at=now,
        expires_at=now + timedelta(seconds=request.lifetime), peer=request.peer, subnets=request.subnets, note=request.note,
        created_by=command.actor,
    )  # fmt: skip
    await tables.join_tokens.add_join_token(row)
    return JoinToken(id=row.id, token=new.text, expires_at=row.expires_at, uses=row.uses, tags=row.tags)


async def list_join_tokens(tables: Tables, page: Page) -> JoinTokenList:
    """A page of all join tokens, spent and expired ones too."""
    rows = await tables.join_tokens.join_token_page(page.after, page.limit)
    return JoinTokenList(
        tokens=tuple(map(_join_summary, rows)), next_after=rows[-1].id if len(rows) == page.limit else None
    )


async def remove_join_token(tables: Tables, identifier: str) -> JoinTokenSummary:
    """Remove a join token; a connection that is enrolling with it is refused. Raises NotFoundError."""
    row = await tables.join_tokens.remove_join_token(identifier)
    if row is None:
        raise NotFoundError(f"unknown join token {identifier}: list the tokens")
    return _join_summary(row)


def _join_summary(row: JoinTokenRow) -> JoinTokenSummary:
    return JoinTokenSummary(
        id=row.id, tags=row.tags, uses=row.uses, used=row.used, peer=row.peer, subnets=row.subnets, note=row.note,
        created_by=row.created_by, created_at=row.created_at, expires_at=row.expires_at,
    )  # fmt: skip
