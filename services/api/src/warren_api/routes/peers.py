"""Peers, join tokens and operator tokens."""

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
    Client,
    Limit,
    Name,
    PartsOf,
    Seen,
    Viewer,
    problems,
)
from warren_api.scope.lookups import read_peer
from warren_contracts.commands import (
    CreateJoinToken,
    CreateOperatorToken,
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
    SetPriority,
)
from warren_contracts.http_bodies import OperatorTokenRequest, PeerPriority, Tags
from warren_contracts.peers import JoinToken, JoinTokenRequest, PeerSummary
from warren_contracts.scope import ListPeers

router = APIRouter(prefix="/api", route_class=JsonRoute)

JoinTokenId = Annotated[str, StringConstraints(pattern=r"^[a-z2-7]{16}$")]


@router.get("/peers", responses=READS, tags=["peers"])
async def list_peers(parts: PartsOf, principal: Viewer, seen: Seen, after: After = "", limit: Limit = 200) -> PeerList:
    """The peers in order of ids, a page at a time."""
    if seen is None:
        return await parts.bus.call("registry", "peers", ListPeers(after=after, limit=limit), PeerList)
    query = ListPeers(after=after, limit=limit, scope=principal.scope)
    found = await parts.bus.call("registry", "peers", query, PeerList)
    return found.model_copy(update={"peers": tuple(seen.peer(it) for it in found.peers if seen.has_peer(it.peer))})


@router.get("/peers/{peer_id}", responses=READS_ONE, tags=["peers"])
async def get_peer(parts: PartsOf, principal: Viewer, seen: Seen, peer_id: Name) -> PeerSummary:
    """One peer: its record, its presence, when it was last seen."""
    return await read_peer(parts.bus, seen, peer_id)


@router.put("/peers/{peer_id}/tags", responses=WRITES, tags=["peers"])
async def retag_peer(parts: PartsOf, principal: Admin, client: Client, peer_id: Name, tags: Tags) -> PeerSummary:
    """Replace a peer's tags, which decide which policies it reads."""
    command = PeerChange(peer=peer_id, tags=tags.tags, actor=principal.name, client=client)
    return await parts.bus.call("registry", "retag", command, PeerSummary)


@router.put("/peers/{peer_id}/priority", responses=WRITES, tags=["peers"])
async def set_peer_priority(
    parts: PartsOf, principal: Admin, client: Client, peer_id: Name, body: PeerPriority
) -> PeerSummary:
    """Set a peer's precedence among gateways of the same networks: the highest is used first, null removes it."""
    command = SetPriority(peer=peer_id, priority=body.priority, actor=principal.name, client=client)
    return await parts.bus.call("registry", "set_priority", command, PeerSummary)


@router.delete("/peers/{peer_id}", responses=WRITES, tags=["peers"])
async def revoke_peer(parts: PartsOf, principal: Admin, client: Client, peer_id: Name) -> PeerSummary:
    """Remove a peer from the fleet: its connections are closed, its record is withdrawn, its key is refused for good."""
    return await parts.bus.call(
        "registry", "revoke", RevokePeer(peer=peer_id, actor=principal.name, client=client), PeerSummary
    )


@router.post("/peers/register", status_code=410, responses=problems(410), tags=["peers"])
async def register_peer() -> None:
    """Always 410: a peer joins on the bus, where it proves its key."""
    raise MovedToBusError("peers join by `warren enrol` with a join token, on the bus, where they prove their key")


@router.put("/peers/{peer_id}/status", status_code=410, responses=problems(410), tags=["peers"])
async def update_peer_status(peer_id: str) -> None:
    """Always 410: agents report their state on the bus, where the subject identifies the sender."""
    raise MovedToBusError(
        "agents report their state on the bus (warren.v1.telemetry.<peer>.*); read it at /api/peers/<peer>"
    )


@router.post("/join-tokens", status_code=201, responses=WRITES, tags=["tokens"])
async def create_join_token(parts: PartsOf, principal: Admin, client: Client, request: JoinTokenRequest) -> JoinToken:
    """Create a join token. Its text is in this response only."""
    return await parts.bus.call(
        "registry",
        "create_join_token",
        CreateJoinToken(request=request, actor=principal.name, client=client),
        JoinToken,
    )


@router.get("/join-tokens", responses=READS, tags=["tokens"])
async def list_join_tokens(parts: PartsOf, principal: Admin, after: After = "", limit: Limit = 200) -> JoinTokenList:
    """The join tokens in order of ids, spent and expired ones too; never their text."""
    return await parts.bus.call("registry", "join_tokens", Page(after=after, limit=limit), JoinTokenList)


@router.delete("/join-tokens/{token_id}", responses=WRITES, tags=["tokens"])
async def remove_join_token(
    parts: PartsOf, principal: Admin, client: Client, token_id: JoinTokenId
) -> JoinTokenSummary:
    """Remove a join token: no peer can join with it any more. Peers that have joined stay."""
    command = RemoveJoinToken(id=token_id, actor=principal.name, client=client)
    return await parts.bus.call("registry", "remove_join_token", command, JoinTokenSummary)


@router.get("/operator-tokens", responses=READS, tags=["tokens"])
async def list_operator_tokens(
    parts: PartsOf, principal: Admin, after: After = "", limit: Limit = 200
) -> OperatorTokenList:
    """The bearer tokens in order of names, expired ones too; never their text."""
    return await parts.bus.call("registry", "operator_tokens", Page(after=after, limit=limit), OperatorTokenList)


@router.delete("/operator-tokens/{name}", responses=WRITES, tags=["tokens"])
async def remove_operator_token(parts: PartsOf, principal: Admin, client: Client, name: Name) -> OperatorTokenSummary:
    """Remove a bearer token: it is refused, and its connections to the bus are closed."""
    command = RemoveOperatorToken(name=name, actor=principal.name, client=client)
    return await parts.bus.call("registry", "remove_operator_token", command, OperatorTokenSummary)


@router.post("/operator-tokens", status_code=201, responses=WRITES, tags=["tokens"])
async def create_operator_token(
    parts: PartsOf, principal: Admin, client: Client, request: OperatorTokenRequest
) -> OperatorToken:
    """Create a bearer token for this API, for the whole fleet or the peers of some tags. Its text is in this response only."""
    command = CreateOperatorToken(**dict(request), actor=principal.name, client=client)
    return await parts.bus.call("registry", "create_operator_token", command, OperatorToken)
