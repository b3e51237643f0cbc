"""Calls that arrive on the bus: of agents, of enrolling keys, and of services.

The caller is taken from the server's `Nats-Request-Info`, never from a payload. Errors become Problems in the broker's
middleware. Replies of `whoami` and `directory` are signed over the subject of the request.
"""

import json
from typing import Annotated

from faststream import Path
from faststream.nats import NatsMessage, NatsResponse
from pydantic import BaseModel

from warren_bus.headers import HEADER_REQUEST_INFO
from warren_contracts import subjects
from warren_contracts.authentication import Authenticate
from warren_contracts.commands import (
    AdvanceEpoch,
    CreateJoinToken,
    CreateOperatorToken,
    Empty,
    GetPeer,
    OrderTunnel,
    Page,
    PeerChange,
    ReadDirectory,
    RemoveJoinToken,
    RemoveOperatorToken,
    RevokePeer,
    SetPriority,
)
from warren_contracts.documents import DirectoryPageRequest, EnrolRequest
from warren_contracts.peers import Announcement
from warren_contracts.scope import ListAudit, ListPeers, ListScopedPeers
from warren_registry.presence.connections import ConnectionHost, parse_host
from warren_registry.service import Registry
from warren_registry.token_service import TokenService
from warren_service.broker import Broker, reply
from warren_service.callers import require_agent
from warren_service.verb_server import VerbServer
from warren_trust.signing import Signer

QUEUE = "registry"  # several instances share the calls
# calls of one verb in progress: twice the pool of PostgreSQL, so that it never idles in a storm of reconnects
AT_ONCE = 16
AGENT = f"{subjects.VERSION}.rpc.agent.{{peer}}"
ENROL = f"{subjects.VERSION}.rpc.enrol.{{nkey}}"

Token = Annotated[str, Path()]


def signed(signer: Signer, message: NatsMessage, epoch: int, revision: int, model: BaseModel) -> NatsResponse:
    """A reply whose signature covers the subject of the request, the version and the payload."""
    return _signed(signer, message.raw_message.subject, epoch, revision, model)


def _signed(signer: Signer, subject: str, epoch: int, revision: int, model: BaseModel) -> NatsResponse:
    return reply(model, signer.headers(subject, epoch, revision, model.model_dump_json().encode()))


def register_agents(broker: Broker, registry: Registry, signer: Signer) -> None:
    """Subscribe the calls of agents and enrolling keys."""

    @broker.subscriber(ENROL, queue=QUEUE, max_workers=AT_ONCE, title="enrol")
    async def enrol(command: EnrolRequest, message: NatsMessage, nkey: Token) -> NatsResponse:
        require_agent(message.headers, nkey)
        return reply(await registry.enrol(nkey, command))

    @broker.subscriber(f"{AGENT}.whoami", queue=QUEUE, max_workers=AT_ONCE, title="agent.whoami")
    async def whoami(command: Empty, message: NatsMessage, peer: Token) -> NatsResponse:
        require_agent(message.headers, peer)
        answer = await registry.whoami(peer)
        return signed(signer, message, answer.epoch, answer.revision, answer)

    @broker.subscriber(f"{AGENT}.announce", queue=QUEUE, max_workers=AT_ONCE, title="agent.announce")
    async def announce(command: Announcement, message: NatsMessage, peer: Token) -> NatsResponse:
        require_agent(message.headers, peer)
        return reply(await registry.announce(peer, command, _host(message)))

    @broker.subscriber(f"{AGENT}.directory", queue=QUEUE, max_workers=AT_ONCE, title="agent.directory")
    async def directory(command: DirectoryPageRequest, message: NatsMessage, peer: Token) -> NatsResponse:
        require_agent(message.headers, peer)
        answer = await registry.directory_page(peer, command)
        return signed(signer, message, answer.epoch, answer.revision, answer)


def _host(message: NatsMessage) -> ConnectionHost:
    """The host of a verified caller."""
    info = json.loads(message.headers[HEADER_REQUEST_INFO])
    return parse_host(info, str(info.get("host", "")))


def register_services(verbs: VerbServer, registry: Registry, signer: Signer) -> None:
    """Subscribe the calls of other services, and those of operators."""

    async def peer(query: GetPeer) -> BaseModel:
        return await registry.peer(query.peer)

    async def trust(query: Empty) -> BaseModel:
        return await registry.fleet_trust()

    verbs.serve("peers", ListPeers, registry.peers)
    verbs.serve("peer", GetPeer, peer)
    verbs.serve("retag", PeerChange, registry.retag)
    verbs.serve("set_priority", SetPriority, registry.set_priority)
    verbs.serve("revoke", RevokePeer, registry.revoke)
    verbs.serve("order_tunnel", OrderTunnel, registry.order_tunnel)
    verbs.serve("directory", ReadDirectory, registry.fleet_directory)
    verbs.serve("trust", Empty, trust)
    verbs.serve("advance_epoch", AdvanceEpoch, registry.advance_epoch)
    verbs.serve("scoped_peers", ListScopedPeers, registry.scoped_peers)
    verbs.serve("audit", ListAudit, registry.audit)

    @verbs.verb("records")
    async def records(command: DirectoryPageRequest) -> NatsResponse:
        page = await registry.records(command)
        return _signed(signer, subjects.rpc("registry", "records"), page.epoch, page.revision, page)


def register_tokens(verbs: VerbServer, tokens: TokenService) -> None:
    """Subscribe the calls about tokens."""

    async def authenticate(query: Authenticate) -> BaseModel:
        return await tokens.authenticate(query.token_sha256)

    verbs.serve("create_join_token", CreateJoinToken, tokens.create_join_token)
    verbs.serve("join_tokens", Page, tokens.join_tokens)
    verbs.serve("remove_join_token", RemoveJoinToken, tokens.remove_join_token)
    verbs.serve("create_operator_token", CreateOperatorToken, tokens.create_operator_token)
    verbs.serve("operator_tokens", Page, tokens.operator_tokens)
    verbs.serve("remove_operator_token", RemoveOperatorToken, tokens.remove_operator_token)
    verbs.serve("authenticate", Authenticate, authenticate)
