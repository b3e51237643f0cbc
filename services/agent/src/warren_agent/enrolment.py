"""Joining a fleet: a connection with the join token may call one RPC; its reply is believed by the root that the token names.

The token comes from a file, from standard input or from the environment, never as an argument: arguments are seen by every
user of the host.
"""

import asyncio
import base64
import socket
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import structlog
from nats.protocol.parser import AUTHORIZATION_VIOLATION

from warren_agent.bus_access import bus_settings, needs_tls, pin_authority
from warren_agent.errors import BadSettingError, EnrolmentError, MissingSettingError
from warren_agent.settings import AgentSettings
from warren_agent.state.store import Enrolment, StateStore
from warren_bus.client_subjects import inbox
from warren_bus.connection import Connection
from warren_bus.errors import BusError
from warren_bus.rpc import call
from warren_bus.tls import TlsError
from warren_contracts import subjects
from warren_contracts.documents import EnrolReply, EnrolRequest
from warren_contracts.names import name_from_host
from warren_contracts.problems import UnavailableError, WarrenError
from warren_contracts.tokens import JoinTokenRefusedError, trust_anchors
from warren_trust.errors import TrustError
from warren_trust.signing import verify_trust

log = structlog.get_logger("warren_agent")

TOKEN_VARIABLE = "WARREN_JOIN_TOKEN"  # noqa: S105 - the name of a variable
CONNECT_LIMIT = 20.0  # s
MEMBERSHIP_LIMIT = 5.0  # s; without an answer a host stays what it is
CALL_LIMIT = 15.0  # s; the registry commits a transaction and publishes
MAX_TOKEN_FILE = 1_024  # bytes


def read_token(source: str | None, environ: Mapping[str, str]) -> str:
    """The join token: of a file, of standard input (`-`), or of the environment. BadSettingError when there is none."""
    if source == "-":
        text = sys.stdin.read(MAX_TOKEN_FILE) if sys.stdin is not None else ""  # None: it was closed
    elif source is not None:
        try:
            with Path(source).open() as file:
                text = file.read(MAX_TOKEN_FILE)
        except (OSError, UnicodeDecodeError) as error:
            raise BadSettingError(f"join token file {source}: {getattr(error, 'strerror', 'no text')}") from None
    else:
        text = environ.get(TOKEN_VARIABLE, "")
    token = text.strip()
    if not token and source is not None:
        raise BadSettingError(f"join token file {source}: it is empty" if source != "-" else "standard input is empty")
    if not token:
        raise MissingSettingError(
            f"no join token: give --token-file FILE, --token-file - (standard input) or {TOKEN_VARIABLE}"
        )
    try:
        trust_anchors(token)  # before any server sees it
    except JoinTokenRefusedError as error:
        raise BadSettingError(str(error)) from None
    return token


def has_token(source: str | None, environ: Mapping[str, str]) -> bool:
    """Whether a join token was given, readable or not."""
    return source is not None or bool(environ.get(TOKEN_VARIABLE))


async def is_refused(settings: AgentSettings, store: StateStore, identity: Enrolment) -> bool:
    """Whether the fleet refuses this host's key, which it does after the peer was revoked; False where no server answers."""
    servers = settings.servers or identity.servers
    refused = asyncio.Event()

    def collect(error: Exception) -> None:
        if AUTHORIZATION_VIOLATION in str(error).lower():
            refused.set()

    bus = bus_settings(store, servers, cleartext=settings.cleartext)
    async with Connection(bus, name=f"enrol:{identity.peer}", inbox_prefix=inbox(identity.peer)) as connection:
        connection.on_error(collect)
        waiting = {asyncio.create_task(connection.wait_connected()), asyncio.create_task(refused.wait())}
        _, pending = await asyncio.wait(waiting, timeout=MEMBERSHIP_LIMIT, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
    return refused.is_set()


async def enrol(settings: AgentSettings, store: StateStore, token: str) -> Enrolment:
    """Join, and keep the identity. EnrolmentError says what the fleet answered."""
    if not settings.servers:
        raise MissingSettingError("no servers: give --nats or WARREN_NATS_URL")
    host = socket.gethostname()
    peer = settings.peer or name_from_host(host)
    if not peer:
        raise BadSettingError(f"peer: no id can be made of the host's name {host!r}; give --peer or WARREN_PEER")
    nkey = store.nkey().public
    request = EnrolRequest(
        peer=peer, hostname=host, token=token, endpoints=settings.endpoints, subnets=settings.subnets
    )
    anchors = trust_anchors(token)
    if needs_tls(settings.servers):
        await pin_authority(store, settings.servers, anchors.authority)
    reply = await _ask(settings, store, request, nkey, token)
    root = base64.b64encode(anchors.root).decode()
    if reply.root != root:
        raise EnrolmentError("the answer is of another fleet than the join token: nothing was stored")
    try:
        verify_trust(root, reply.trust)
    except (BusError, TrustError) as error:
        raise EnrolmentError(f"the answer is not signed by the root that the join token names: {error}") from None
    identity = Enrolment(
        peer=reply.peer,
        tags=reply.tags,
        root=root,
        trust=reply.trust,
        servers=settings.servers,
        enrolled_at=reply.enrolled_at,
    )
    store.save_identity(identity)
    log.info("agent.enrolled", peer=identity.peer, tags=list(identity.tags))
    return identity


async def _ask(settings: AgentSettings, store: StateStore, request: EnrolRequest, nkey: str, token: str) -> EnrolReply:
    bus = bus_settings(store, settings.servers, token, cleartext=settings.cleartext)
    refused = asyncio.Event()
    reasons: dict[str, None] = {}

    def collect(error: Exception) -> None:
        # A server gives a refused client no more; the reason is in the callout's log.
        if AUTHORIZATION_VIOLATION in str(error).lower():
            refused.set()
        elif isinstance(error, TlsError):
            reasons[str(error)] = None
            if len(settings.servers) == 1:
                refused.set()

    async with Connection(bus, name=f"enrol:{request.peer}", inbox_prefix=inbox(nkey)) as connection:
        connection.on_error(collect)
        await _connected(connection, refused, settings.servers, reasons)
        try:
            return await call(connection.client, subjects.rpc_enrol(nkey), request, EnrolReply, timeout=CALL_LIMIT)
        except UnavailableError as error:
            raise EnrolmentError(
                f"{error}; enrol again with the same token, which is harmless if it had worked"
            ) from None
        except WarrenError as error:
            raise EnrolmentError(f"nothing was joined, and the token is not spent: {error.problem().line}") from None


async def _connected(
    connection: Connection, refused: asyncio.Event, servers: tuple[str, ...], reasons: Iterable[str]
) -> None:
    """Wait until it is connected; EnrolmentError at once when it is refused, or when nobody answers. `reasons`: why TLS failed."""
    waiting = {asyncio.create_task(connection.wait_connected()), asyncio.create_task(refused.wait())}
    done, pending = await asyncio.wait(waiting, timeout=CONNECT_LIMIT, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    if (refused.is_set() or not done) and (said := "; ".join(reasons)):
        raise EnrolmentError(f"the token was not sent: {said.removeprefix('nats: ')}")
    if refused.is_set():
        raise EnrolmentError(
            "the servers refuse the join token: it is unknown, used up or expired (or the registry's database is unavailable, and no"
            " token can be looked up: `warren health` says so)"
        )
    if not done:
        raise EnrolmentError(f"no connection to {', '.join(servers)} within {CONNECT_LIMIT:g} s: are the servers up?")
    for task in done:
        task.result()  # InvalidKeyError, should our own key be unusable
