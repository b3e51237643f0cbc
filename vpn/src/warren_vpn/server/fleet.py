"""Sessions as tunnels of a fleet, where the server is enrolled in one: reports, changes and heartbeats on the bus.

The server is a peer of its own, with a state folder that `warren-agent enrol --state FOLDER` has made. It publishes what an agent
publishes, with the same models, and reads nothing: no policy applies to it. While the bus is unavailable nothing is stored; the
next report says everything again.
"""

import asyncio
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from warren_bus.client_subjects import inbox
from warren_bus.connection import Connection
from warren_bus.errors import BusError
from warren_bus.publisher import EventPublisher
from warren_bus.settings import BusSettings
from warren_cli.files import read_small
from warren_contracts.cloudevents import TELEMETRY_TYPES
from warren_contracts.names import PeerId
from warren_contracts.status import (
    MAX_DETAIL,
    ChildSaStatus,
    DriverState,
    DriverStatus,
    Evidence,
    EvidenceKind,
    IpsecStatus,
    TrafficStats,
    TunnelState,
    TunnelStatus,
)
from warren_contracts.subjects import telemetry
from warren_contracts.telemetry import (
    PRESENCE,
    REPORT,
    REPORT_INTERVAL,
    TUNNEL,
    AgentState,
    Presence,
    Report,
    TunnelChange,
)
from warren_trust.errors import InvalidKeyError
from warren_vpn.server.accounts import Account
from warren_vpn.server.errors import ServerSettingError

log = structlog.get_logger("warren_vpn")

TUNNELS_AT_A_TIME = 80
"""Of one part of a report: 1 kB each, and a message has at most 128 kB."""
QUEUE = 1000
"""Changes that wait; beyond that the next report has them."""
_MAX_NAME = 63


class FleetIdentity(BaseModel):
    """What enrolment has stored in identity.json, as far as it is needed here."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    peer: PeerId
    servers: tuple[str, ...]


def read_identity(folder: Path) -> tuple[FleetIdentity, BusSettings]:
    """Who the server is in its fleet, and how it reaches the bus. ServerSettingError: it is not enrolled, or a file is damaged."""
    try:
        identity = FleetIdentity.model_validate_json(read_small(folder / "identity.json", "the identity"))
        authority = folder / "ca.pem"
        settings = BusSettings(
            identity.servers, folder / "nkey.seed", ca_file=authority if authority.exists() else None
        )
        settings.key()
    except ValidationError:
        raise ServerSettingError(f"fleet: {folder / 'identity.json'} is damaged: enrol again") from None
    except (BusError, InvalidKeyError) as error:
        raise ServerSettingError(f"fleet: {folder}: {error}") from None
    return identity, settings


def tunnel_name(user: str, ike_spi: bytes) -> str:
    """`vpn-<user>-<number>`, in the characters of tunnels' names. The number is of the first IKE_SA's SPI, which is random: sessions of
    one user at several servers, and before and after a restart, have names of their own.
    """
    tail = f"-{ike_spi[:4].hex()}"
    return f"vpn-{re.sub(r'[^a-z0-9_-]', '-', user.lower())}"[: _MAX_NAME - len(tail)] + tail


def status_of(account: Account, idle_s: float, now: datetime) -> TunnelStatus:
    """A session as a tunnel that no policy has made."""
    info, session, traffic = account.info, account.session, account.traffic
    counters = TrafficStats(
        bytes_in=traffic.bytes_in, bytes_out=traffic.bytes_out, packets_in=traffic.packets_in,
        packets_out=traffic.packets_out,
    )  # fmt: skip
    children = () if session is None else tuple(session.children.values())
    path = info.path if session is None else session.path
    link = IpsecStatus(
        ike_cipher=str(info.suite),
        ike_established_at=account.since,
        local_address=str(path.local.host),
        remote_address=str(path.remote.host),
        remote_vips=info.network.addresses,
        children=tuple(
            ChildSaStatus(
                child=child.name, spi_in=f"{child.spi_in:08x}", spi_out=f"{child.spi_out:08x}", cipher=str(child.suite),
                udp_encapsulated=child.udp_encapsulation,
            )
            for child in children
        ),
    )  # fmt: skip
    seen = (
        Evidence(kind=EvidenceKind.TRAFFIC, at=now) if idle_s < REPORT_INTERVAL and traffic.packets_in else Evidence()
    )
    return TunnelStatus(
        name=tunnel_name(account.user, info.spi_r), state=TunnelState.UP, link=link, traffic=counters,
        rekeys=account.rekeys, since=account.since, evidence=seen, detail=f"VPN session of {account.user}"[:MAX_DETAIL],
    )  # fmt: skip


class FleetReporter:
    """Publishes as long as `run` runs. `sessions` returns those that are connected, each with its idle seconds."""

    def __init__(self, folder: Path, sessions: Callable[[], Sequence[tuple[Account, float]]]) -> None:
        """ServerSettingError as `read_identity`."""
        self._identity, self._settings = read_identity(folder)
        self._sessions, self._version = sessions, version("warren-vpn")
        self._started_at = datetime.now(UTC)
        self._changes: asyncio.Queue[TunnelChange] = asyncio.Queue(QUEUE)

    @property
    def peer(self) -> str:
        """The server's name in its fleet."""
        return self._identity.peer

    def take(self, account: Account, *, closed: bool) -> None:
        """Publish that a session has begun or is over."""
        now = datetime.now(UTC)
        status = status_of(account, 0.0, now)
        before = TunnelState.UP if closed else None
        if closed:
            status = status.model_copy(update={"state": TunnelState.DOWN, "since": now})
        change = TunnelChange(at=now, previous=before, status=status, removed=closed)
        if not self._changes.full():
            self._changes.put_nowait(change)

    async def run(self) -> None:
        """Publish until cancelled; then the last heartbeat says that the server stops."""
        peer = self._identity.peer
        async with Connection(self._settings, name=f"vpn:{peer}", inbox_prefix=inbox(peer)) as connection:
            changing = asyncio.create_task(self._publish_changes(connection))
            try:
                while True:
                    await connection.wait_connected()
                    await self._publish_all(connection)
                    await asyncio.sleep(REPORT_INTERVAL)
            finally:
                changing.cancel()
                await self._send(connection, PRESENCE, self._presence("stopping"), retries=0)

    async def _publish_changes(self, connection: Connection) -> None:
        while True:
            await self._send(connection, TUNNEL, await self._changes.get())

    async def _publish_all(self, connection: Connection) -> None:
        now = datetime.now(UTC)
        await self._send(connection, PRESENCE, self._presence("online"))
        statuses = [status_of(account, idle, now) for account, idle in self._sessions()]
        parts = [statuses[at : at + TUNNELS_AT_A_TIME] for at in range(0, len(statuses), TUNNELS_AT_A_TIME)] or [[]]
        for number, part in enumerate(parts):
            await self._send(connection, REPORT, Report(at=now, part=number, parts=len(parts), tunnels=tuple(part)))

    def _presence(self, state: str) -> Presence:
        drivers = (DriverStatus(kind="userspace", state=DriverState.UP),)
        return Presence.model_validate({
            "state": state, "at": datetime.now(UTC), "agent": AgentState.WATCH, "started_at": self._started_at,
            "version": self._version, "drivers": drivers,
        })  # fmt: skip

    async def _send(self, connection: Connection, kind: str, document: BaseModel, retries: int = 1) -> None:
        peer = self._identity.peer
        events = EventPublisher(lambda: connection.client, f"/peers/{peer}")
        try:
            await events.publish(telemetry(peer, kind), TELEMETRY_TYPES[kind], document, retries=retries)
        except BusError as error:
            log.warning("telemetry.not_stored", kind=kind, error=str(error))
