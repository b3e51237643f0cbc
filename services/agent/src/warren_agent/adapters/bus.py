"""The agent's ports on the bus: the signed feed, telemetry by acknowledged publish, announcements by RPC."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime

import structlog
from nats.errors import Error as NatsError

from warren_agent.errors import AnnouncementRefusedError, NotDeliveredError
from warren_agent.ports import Intent
from warren_agent.telemetry.message import TelemetryMessage
from warren_bus.acknowledgement import UNAVAILABLE, publish_once
from warren_bus.connection import Connection
from warren_bus.errors import BusError, StreamRefusedError
from warren_bus.feed import Feed
from warren_bus.rpc import call
from warren_contracts.addresses import IPAddress
from warren_contracts.documents import AnnounceReply, TrustDocument
from warren_contracts.guard import Bypass
from warren_contracts.peers import Announcement
from warren_contracts.problems import UnavailableError, WarrenError
from warren_contracts.subjects import rpc_agent
from warren_contracts.telemetry import HEADERS, MAX_TELEMETRY
from warren_trust.errors import TrustError

log = structlog.get_logger("warren_agent")

ACK_TIMEOUT = 5.0  # s
CALL_TIMEOUT = 10.0  # s
PING_TIMEOUT = 3  # s
MAX_ASKED = 8  # servers that are asked whether they refuse a connection
MAX_PAYLOAD = MAX_TELEMETRY - HEADERS  # bytes; the stream refuses what is larger


class BusSource:
    """Intents from the feed."""

    def __init__(self, feed: Feed, note_trust: Callable[[TrustDocument], None] | None = None) -> None:
        """`note_trust` receives the trust document of each state."""
        self._feed = feed
        self._note_trust = note_trust

    async def intents(self) -> AsyncIterator[Intent]:
        async for state in self._feed:
            if self._note_trust is not None:
                self._note_trust(state.trust)
            latest = self._feed.latest
            if latest is None:  # from a snapshot: it is as old as this moment, and of no one change's trace
                yield Intent(state, datetime.now(UTC))
            else:
                yield Intent(state, latest.arrived_at, latest.traceparent)

    def unconfirmed_s(self) -> float | None:
        """See `FeedMachine.unconfirmed_s`."""
        return self._feed.machine.unconfirmed_s(time.monotonic())

    @property
    def sync_errors(self) -> int:
        return self._feed.machine.errors


class BusTelemetrySink:
    """Telemetry into its stream, as soon as the bus is there.

    A telemetry_message that the stream will never take is given up, so that it holds up no other.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def send(self, telemetry_message: TelemetryMessage) -> None:
        if len(telemetry_message.payload) > MAX_PAYLOAD:
            log.error("telemetry.too_large", subject=telemetry_message.subject, size=len(telemetry_message.payload))
            return
        try:
            client = await self._connection.wait_connected()
            await publish_once(
                client,
                telemetry_message.subject,
                telemetry_message.payload,
                telemetry_message.headers,
                ACK_TIMEOUT,
            )
        except StreamRefusedError as error:
            if error.code == UNAVAILABLE:
                raise NotDeliveredError(f"{telemetry_message.subject}: {error.description}") from None
            log.error("telemetry.refused", subject=telemetry_message.subject, error=error.description)
        except (NatsError, BusError, TrustError, TimeoutError, OSError) as error:
            raise NotDeliveredError(f"{telemetry_message.subject}: {error or type(error).__name__}") from None


class ConnectionLink:
    """Whether the bus can be reached, as a change of the tunnels may have cut it off. `servers` are its addresses, `taken` says of
    which a tunnel may lead elsewhere."""

    def __init__(
        self,
        connection: Connection,
        servers: Callable[[], Awaitable[tuple[Bypass, ...]]],
        taken: Callable[[IPAddress], bool],
    ) -> None:
        self._connection = connection
        self._servers = servers
        self._taken = taken

    @property
    def is_connected(self) -> bool:
        return self._connection.is_connected

    async def answers(self) -> bool:
        """Whether the way to the bus works: its server answers a PING, or its host, on which no server runs now, refuses a connection
        that no tunnel can have led elsewhere.

        A connection that was cut is seen to be closed a minute later only.
        """
        try:
            await self._connection.client.flush(timeout=PING_TIMEOUT)
        except (NatsError, BusError, TimeoutError, OSError):
            return await self._is_refused()
        return True

    async def _is_refused(self) -> bool:
        servers = [it for it in await self._servers() if not self._taken(it.address)][:MAX_ASKED]
        asking = [asyncio.create_task(_refuses(str(it.address), it.port)) for it in servers]
        return any(await asyncio.gather(*asking))


async def _refuses(host: str, port: int) -> bool:
    """Whether a host is there and has no such server: a route into a dead tunnel would bring no answer."""
    try:
        async with asyncio.timeout(PING_TIMEOUT):
            _, writer = await asyncio.open_connection(host, port)
    except ConnectionRefusedError:
        return True
    except (TimeoutError, OSError):
        return False
    writer.close()  # a server accepts it and does not answer: that is not proof
    return False


class BusRegistry:
    """Announcements to the registry."""

    def __init__(self, connection: Connection, peer: str) -> None:
        self._connection = connection
        self._subject = rpc_agent(peer, "announce")

    async def announce(self, announcement: Announcement) -> None:
        try:
            client = await self._connection.wait_connected()
            reply = await call(client, self._subject, announcement, AnnounceReply, timeout=CALL_TIMEOUT)
        except (UnavailableError, BusError, TrustError) as error:
            raise NotDeliveredError(str(error)) from None
        except WarrenError as error:
            raise AnnouncementRefusedError(error.problem().line) from None
        if reply.refused:  # the rest is in force
            raise AnnouncementRefusedError(
                "accepted in part: " + "; ".join(f"{it.field}: {it.message}" for it in reply.refused)
            )
        log.info("announcement.accepted", revision=reply.revision, changed=reply.changed)
