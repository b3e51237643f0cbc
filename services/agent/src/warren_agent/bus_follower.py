"""Follow the signed list of bus servers and CAs (`warren_contracts.documents.TrustDocument`), so that the bus can move.

A list is used once one of its servers was reached and verified by its CAs; before that, the former ones stay in use and it is tried
again. So a list that is mistyped, or is published before the new server is there, cuts nobody off.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Sequence
from random import SystemRandom
from types import TracebackType
from urllib.parse import urlsplit

import structlog

from warren_agent.adapters.bus_addresses import BusAddresses
from warren_agent.bus_access import DEFAULT_PORT
from warren_agent.state.store import Enrolment, StateStore
from warren_bus.connection import Connection
from warren_bus.errors import BusError, InvalidSettingError
from warren_bus.settings import server_url, wrong_scheme, wrong_server
from warren_bus.tls import client_context, explain, fingerprint_of, read_authorities
from warren_contracts.documents import TrustDocument

log = structlog.get_logger("warren_agent")

TRY_LIMIT = 5.0  # s for one server
JITTER = 10.0  # s: a fleet does not try the same server in the same moment
RETRY = 60.0  # s


class BusFollower:
    """`note` takes each verified trust document; `async with` works on the newest one in the background.

    With `fixed`, the host's settings name the servers, and only the CAs are followed.
    """

    def __init__(
        self,
        store: StateStore,
        identity: Enrolment,
        connection: Connection,
        addresses: BusAddresses,
        *,
        servers: Sequence[str],
        fixed: bool = False,
        jitter_s: float = JITTER,
    ) -> None:
        self._store = store
        self._identity = identity
        self._connection = connection
        self._addresses = addresses
        self._servers = tuple(servers)
        self._fixed = fixed
        self._jitter_s = jitter_s
        self._newest: TrustDocument | None = None
        self._noted = asyncio.Event()
        self._complaint = ""
        self._task: asyncio.Task[None] | None = None

    def note(self, trust: TrustDocument) -> None:
        """A document that the root signed, and that is not older than those before."""
        if trust != self._newest:
            self._newest = trust
            self._noted.set()

    async def __aenter__(self) -> "BusFollower":
        self._task = asyncio.create_task(self._run(), name="bus-follower")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            await self._noted.wait()
            self._noted.clear()
            trust = self._newest
            if trust is None or await self._adopt(trust):
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RETRY):
                    await self._noted.wait()
            self._noted.set()

    async def _adopt(self, trust: TrustDocument) -> bool:
        """Use what the document says; whether nothing is left to do."""
        servers = self._servers if self._fixed or not trust.servers else tuple(map(server_url, trust.servers))
        held = self._held_authorities()
        authorities = trust.authorities or held
        if (servers, authorities) == (self._servers, held):
            return True
        wrong = _wrong(servers, authorities)
        if not wrong:
            await asyncio.sleep(SystemRandom().uniform(0, self._jitter_s))
            wrong = await _unreachable(servers, authorities)
        if wrong:
            if wrong != self._complaint:
                log.warning("bus.list_refused", revision=trust.revision, servers=list(servers), error=wrong)
            self._complaint = wrong
            return False
        if authorities != held:
            self._store.save_authorities(authorities)
        self._identity = self._identity.model_copy(
            update={"servers": servers if not self._fixed else self._identity.servers}
        )
        self._store.save_identity(self._identity)
        self._servers, self._complaint = servers, ""
        self._connection.use_servers(servers)
        self._addresses.use(servers)
        prints = [fingerprint_of(certificate).hex() for certificate in authorities]
        log.info("bus.list_adopted", revision=trust.revision, servers=list(servers), authorities=prints)
        return True

    def _held_authorities(self) -> tuple[str, ...]:
        try:
            return read_authorities(self._store.ca_file)
        except BusError:
            return ()


def _wrong(servers: Sequence[str], authorities: Sequence[str]) -> str:
    """Why the list must not be used, whichever server can be reached."""
    for server in servers:
        if wrong := wrong_server(server) or wrong_scheme(server):
            return wrong
    try:
        for certificate in authorities:
            fingerprint_of(certificate)
    except ValueError:
        return "a CA is not a certificate in PEM form"
    if not authorities and any(server.startswith("tls:") for server in servers):
        return "it names no CA for servers with TLS"
    return ""


async def _unreachable(servers: Sequence[str], authorities: Sequence[str]) -> str:
    """Why no server of the list can be used now; empty: one was reached and verified."""
    reasons = []
    for server in servers:
        reason = await _try(server, authorities)
        if not reason:
            return ""
        reasons.append(reason)
    return "; ".join(reasons)


async def _try(server: str, authorities: Sequence[str]) -> str:
    url = urlsplit(server)
    host = url.hostname or ""
    try:
        context = client_context("".join(authorities)) if url.scheme == "tls" else None
        async with asyncio.timeout(TRY_LIMIT):
            _, writer = await asyncio.open_connection(host, url.port or DEFAULT_PORT, ssl=context)
        writer.transport.abort()
    except InvalidSettingError:
        return "no CA of the list can be used"
    except ssl.SSLError as error:
        return explain(error, host)
    except (OSError, TimeoutError) as error:
        return f"{host}: {error or 'no answer'}"
    return ""
