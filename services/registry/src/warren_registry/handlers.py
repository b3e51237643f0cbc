"""What arrives on the bus: calls of agents, of keys that want to enrol, and of services.

Who calls is what the server says in `Nats-Request-Info`; no payload is asked. Errors become Problems in the broker's
middleware. Replies of `whoami` and `directory` are signed over the subject of the request.
"""

from typing import Annotated, Protocol

from faststream import Path
from faststream.nats import NatsMessage, NatsResponse
from pydantic import BaseModel

from warren_bus.callers import require_agent, require_service
from warren_bus.service import Broker, reply
from warren_bus.signing import Signer
from warren_contracts import subjects
from warren_contracts.commands import (
    AdvanceEpoch,
    Authenticate,
    CreateJoinToken,
    CreateOperatorToken,
    Empty,
    GetPeer,
    Health,
    Page,
    PeerChange,
    RemoveJoinToken,
    RemoveOperatorToken,
    RevokePeer,
)
from warren_contracts.documents import DirectoryPageRequest, EnrolRequest
from warren_contracts.peers import Announcement
from warren_registry.service import Registry

QUEUE = "registry"  # several instances share the calls
AT_ONCE = (
    16  # calls of one verb under way: twice the pool of PostgreSQL, so that it never idles in a storm of reconnects
)
AGENT = f"{subjects.VERSION}.rpc.agent.{{peer}}"
ENROL = f"{subjects.VERSION}.rpc.enrol.{{nkey}}"

Token = Annotated[str, Path()]


class HealthSource(Protocol):
    async def health(self) -> Health: ...


def signed(signer: Signer, message: NatsMessage, epoch: int, revision: int, model: BaseModel) -> NatsResponse:
    """A reply whose signature covers the subject that was asked, the version and these very bytes."""
    subject = message.raw_message.subject
    return reply(model, signer.headers(subject, epoch, revision, model.model_dump_json().encode()))


def register_agents(broker: Broker, registry: Registry, signer: Signer) -> None:
    """Subscribe what agents and enrolling keys may call."""

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
        return reply(await registry.announce(peer, command))

    @broker.subscriber(f"{AGENT}.directory", queue=QUEUE, max_workers=AT_ONCE, title="agent.directory")
    async def directory(command: DirectoryPageRequest, message: NatsMessage, peer: Token) -> NatsResponse:
        require_agent(message.headers, peer)
        answer = await registry.directory_page(peer, command)
        return signed(signer, message, answer.epoch, answer.revision, answer)


def register_services(broker: Broker, registry: Registry, source: HealthSource) -> None:
    """Subscribe what other services may call."""
    _register_peers(broker, registry)
    _register_tokens(broker, registry)

    @broker.subscriber(subjects.rpc("registry", "advance_epoch"), queue=QUEUE, title="registry.advance_epoch")
    async def advance_epoch(command: AdvanceEpoch, message: NatsMessage) -> NatsResponse:
        require_service(message.headers)
        return reply(await registry.advance_epoch(command))

    @broker.subscriber(subjects.rpc("registry", "health"), queue=QUEUE, title="registry.health")
    async def health(command: Empty) -> NatsResponse:
        return reply(await source.health())


def _register_peers(broker: Broker, registry: Registry) -> None:
    @broker.subscriber(subjects.rpc("registry", "peers"), queue=QUEUE, title="registry.peers")
    async def peers(command: Page, message: NatsMessage) -> NatsResponse:
        require_service(message.headers)
        return reply(await registry.peers(command))

    @broker.subscriber(subjects.rpc("registry", "peer"), queue=QUEUE, title="registry.peer")
    async def peer(command: GetPeer, message: NatsMessage) -> NatsResponse:
        require_service(message.headers)
        return reply(await registry.peer(command.peer))

    @broker.subscriber(subjects.rpc("registry", "retag"), queue=QUEUE, title="registry.retag")
    async def retag(command: PeerChange, message: NatsMessage) -> NatsResponse:
        require_service(message.headers)
        return reply(await registry.retag(command))

    @broker.subscriber(subjects.rpc("registry", "revoke"), queue=QUEUE, title="registry.revoke")
    async def revoke(command: RevokePeer, message: NatsMessage) -> NatsResponse:
        require_service(message.headers)
        return reply(await registry.revoke(command))

    @broker.subscriber(subjects.rpc("registry", "directory"), queue=QUEUE, title="registry.directory")
    async def directory(command: Page, message: NatsMessage) -> NatsResponse:
        require_service(message.headers)
        return reply(await registry.fleet_directory(command))


def _register_tokens(broker: Broker, registry: Registry) -> None:
    @broker.subscriber(subjects.rpc("registry", "create_join_token"), queue=QUEUE, title="registry.create_join_token")
    async def create_join_token(command: CreateJoinToken, message: NatsMessage) -> NatsResponse:
        require_service(message.headers)
        return reply(await registry.create_join_token(command))

    @broker.subscriber(
        subjects.rpc("registry", "create_operator_token"), queue=QUEUE, title="registry.create_operator_token"
    )
    async def create_operator_token(command: CreateOperatorToken, message: NatsMessage) -> NatsResponse:
        require_service(message.headers)
        return reply(await registry.create_operator_token(command))

    @broker.subscriber(subjects.rpc("registry", "join_tokens"), queue=QUEUE, title="registry.join_tokens")
    async def join_tokens(command: Page, message: NatsMessage) -> NatsResponse:
        require_service(message.headers)
        return reply(await registry.join_tokens(command))

    @broker.subscriber(subjects.rpc("registry", "remove_join_token"), queue=QUEUE, title="registry.remove_join_token")
    async def remove_join_token(command: RemoveJoinToken, message: NatsMessage) -> NatsResponse:
        require_service(message.headers)
        return reply(await registry.remove_join_token(command))

    @broker.subscriber(subjects.rpc("registry", "operator_tokens"), queue=QUEUE, title="registry.operator_tokens")
    async def operator_tokens(command: Page, message: NatsMessage) -> NatsResponse:
        require_service(message.headers)
        return reply(await registry.operator_tokens(command))

    @broker.subscriber(
        subjects.rpc("registry", "remove_operator_token"), queue=QUEUE, title="registry.remove_operator_token"
    )
    async def remove_operator_token(command: RemoveOperatorToken, message: NatsMessage) -> NatsResponse:
        require_service(message.headers)
        return reply(await registry.remove_operator_token(command))

    @broker.subscriber(subjects.rpc("registry", "authenticate"), queue=QUEUE, title="registry.authenticate")
    async def authenticate(command: Authenticate, message: NatsMessage) -> NatsResponse:
        require_service(message.headers)
        return reply(await registry.authenticate(command.token_sha256))
