"""Peers, and the tokens by which they and operators come in."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import StringConstraints

from warren_api.bodies import JsonRoute
from warren_api.errors import MovedToBusError
from warren_api.routes.common import (
    READS,
    READS_ONE,
    WRITES,
    Admin,
    After,
    Limit,
    Name,
    PartsOf,
    Viewer,
    problems,
)
from warren_contracts.commands import (
    CreateJoinToken,
    CreateOperatorToken,
    GetPeer,
    JoinTokenList,
    JoinTokenSummary,
    OperatorToken,
    OperatorTokenList,
    OperatorTokenSummary,
    Page,
    PeerChange,
    PeerList,
    RemoveJoinToken,
    RemoveOperatorToken,
    RevokePeer,
)
from warren_contracts.http_bodies import OperatorTokenRequest, Tags
from warren_contracts.peers import JoinToken, JoinTokenRequest, PeerSummary

router = APIRouter(prefix="/api", route_class=JsonRoute)

JoinTokenId = Annotated[str, StringConstraints(pattern=r"^[a-z2-7]{16}$")]


@router.get("/peers", responses=READS, tags=["peers"])
async def list_peers(parts: PartsOf, who: Viewer, after: After = "", limit: Limit = 200) -> PeerList:
    """The peers in order of ids, a page at a time."""
    return await parts.bus.call("registry", "peers", Page(after=after, limit=limit), PeerList)


@router.get("/peers/{peer_id}", responses=READS_ONE, tags=["peers"])
async def get_peer(parts: PartsOf, who: Viewer, peer_id: Name) -> PeerSummary:
    """One peer: its record, its presence, when it was seen."""
    return await parts.bus.call("registry", "peer", GetPeer(peer=peer_id), PeerSummary)


@router.put("/peers/{peer_id}/tags", responses=WRITES, tags=["peers"])
async def retag_peer(parts: PartsOf, who: Admin, peer_id: Name, tags: Tags) -> PeerSummary:
    """Give a peer these tags and no others: tags decide which policies it reads."""
    command = PeerChange(peer=peer_id, tags=tags.tags, actor=who.name)
    return await parts.bus.call("registry", "retag", command, PeerSummary)


@router.delete("/peers/{peer_id}", responses=WRITES, tags=["peers"])
async def revoke_peer(parts: PartsOf, who: Admin, peer_id: Name) -> PeerSummary:
    """Remove a peer from the fleet: its connections end, its record is withdrawn, its key never joins again."""
    return await parts.bus.call("registry", "revoke", RevokePeer(peer=peer_id, actor=who.name), PeerSummary)


@router.post("/peers/register", status_code=410, responses=problems(410), tags=["peers"])
async def register_peer() -> None:
    """Always 410: a peer joins on the bus, where it proves its key."""
    raise MovedToBusError("peers join by `warren enrol` with a join token, on the bus, where they prove their key")


@router.put("/peers/{peer_id}/status", status_code=410, responses=problems(410), tags=["peers"])
async def update_peer_status(peer_id: str) -> None:
    """Always 410: agents tell their state on the bus, where the subject proves who speaks."""
    raise MovedToBusError(
        "agents tell their state on the bus (warren.v1.telemetry.<peer>.*); read it at /api/peers/<peer>"
    )


@router.post("/join-tokens", status_code=201, responses=WRITES, tags=["tokens"])
async def create_join_token(parts: PartsOf, who: Admin, request: JoinTokenRequest) -> JoinToken:
    """A new join token. It is shown this once."""
    return await parts.bus.call(
        "registry", "create_join_token", CreateJoinToken(request=request, actor=who.name), JoinToken
    )


@router.get("/join-tokens", responses=READS, tags=["tokens"])
async def list_join_tokens(parts: PartsOf, who: Admin, after: After = "", limit: Limit = 200) -> JoinTokenList:
    """The join tokens in order of ids, spent and expired ones too; never their text."""
    return await parts.bus.call("registry", "join_tokens", Page(after=after, limit=limit), JoinTokenList)


@router.delete("/join-tokens/{token_id}", responses=WRITES, tags=["tokens"])
async def remove_join_token(parts: PartsOf, who: Admin, token_id: JoinTokenId) -> JoinTokenSummary:
    """Remove a join token: nobody joins by it any more. Whoever has joined by it stays."""
    command = RemoveJoinToken(id=token_id, actor=who.name)
    return await parts.bus.call("registry", "remove_join_token", command, JoinTokenSummary)


@router.get("/operator-tokens", responses=READS, tags=["tokens"])
async def list_operator_tokens(parts: PartsOf, who: Admin, after: After = "", limit: Limit = 200) -> OperatorTokenList:
    """The bearer tokens in order of names, expired ones too; never their text."""
    return await parts.bus.call("registry", "operator_tokens", Page(after=after, limit=limit), OperatorTokenList)


@router.delete("/operator-tokens/{name}", responses=WRITES, tags=["tokens"])
async def remove_operator_token(parts: PartsOf, who: Admin, name: Name) -> OperatorTokenSummary:
    """Remove a bearer token: it opens nothing any more, and its connections to the bus end."""
    command = RemoveOperatorToken(name=name, actor=who.name)
    return await parts.bus.call("registry", "remove_operator_token", command, OperatorTokenSummary)


@router.post("/operator-tokens", status_code=201, responses=WRITES, tags=["tokens"])
async def create_operator_token(parts: PartsOf, who: Admin, request: OperatorTokenRequest) -> OperatorToken:
    """A new bearer token for this API. It is shown this once."""
    command = CreateOperatorToken(**dict(request), actor=who.name)
    return await parts.bus.call("registry", "create_operator_token", command, OperatorToken)
