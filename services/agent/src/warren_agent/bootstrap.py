"""The composition root: the only place that knows which driver, bus and disk an agent has."""

import os
from asyncio.sslproto import SSLProtocol
from typing import NamedTuple

import structlog

from warren_agent import __version__
from warren_agent.adapters.bus import BusRegistry, BusSource, BusTelemetrySink, ConnectionLink
from warren_agent.adapters.bus_addresses import BusAddresses
from warren_agent.adapters.guard import GuardClient
from warren_agent.agent import Agent
from warren_agent.announcer import Announcer
from warren_agent.bus_access import bus_settings
from warren_agent.bus_follower import BusFollower
from warren_agent.bypass import HostSurroundings, LocalReach
from warren_agent.change_control import ChangeControl
from warren_agent.clocks import Clocks
from warren_agent.control import AgentControlServer, Verb
from warren_agent.drivers.catalogue import DriverContext, find
from warren_agent.drivers.set import DriverSet, HostedDriver
from warren_agent.errors import MissingSettingError
from warren_agent.health import HealthInspector, Probe, TunnelHealth
from warren_agent.host import HostSurvey, own_addresses
from warren_agent.host_identity import connection_name
from warren_agent.intents import Intents
from warren_agent.paths.data_path import DataPathProbe
from warren_agent.paths.manager import PathManager
from warren_agent.protection import Protection
from warren_agent.safeguards import Safeguards
from warren_agent.settings import AgentSettings, platform
from warren_agent.state.capabilities_file import CapabilitiesFile
from warren_agent.state.changes_file import ChangesFile
from warren_agent.state.paths_file import PathsFile
from warren_agent.state.store import Enrolment, StateStore
from warren_agent.supervisor import Supervisor
from warren_agent.telemetry.disk_spool import DiskSpool
from warren_agent.telemetry.reporter import TelemetryReporter
from warren_bus.client_subjects import inbox
from warren_bus.connect_backoff import RETURN_SPREAD
from warren_bus.connection import Connection
from warren_bus.feed import Feed, FeedIdentity
from warren_contracts.names import PeerId
from warren_contracts.peers import Announcement, KeyUse, PeerKey
from warren_process.stop_signals import until_signalled
from warren_trust.signing import verify_trust

log = structlog.get_logger("warren_agent")

TLS_BUFFER = 32 << 10  # bytes


def build_drivers(settings: AgentSettings, store: StateStore, guard: GuardClient | None = None) -> DriverSet:
    """The drivers of this host, of the kinds that its settings name."""
    ike_seed = bytes(store.ike_key().signing_key)
    hosted = []
    for name, table in settings.drivers.items():
        kind = find(name)
        hosted.append(HostedDriver(name, kind.links, kind.build(DriverContext(table, store.folder, ike_seed, guard))))
    return DriverSet(hosted, CapabilitiesFile(store.folder / "capabilities.json"))


def build_guard(settings: AgentSettings, clocks: Clocks) -> GuardClient | None:
    """This host's guard, if its settings require one."""
    return GuardClient(settings.guard_socket, clocks.jitter) if settings.guard else None


def build_protection(settings: AgentSettings, addresses: BusAddresses, guard: GuardClient | None) -> Protection:
    """This host's leak protection: by its guard."""
    if guard is None:
        log.warning("guard.off", reason="packets of protected traffic may leave in clear while a tunnel is not up")
    return Protection(guard, settings.guard_devices, LocalReach(HostSurroundings(addresses)))


def build_announcement(settings: AgentSettings, store: StateStore) -> Announcement:
    """What this host announces; the capabilities of its daemons are added once they answer."""
    return Announcement(
        platform=platform(),
        agent_version=__version__,
        endpoints=settings.endpoints,
        subnets=settings.subnets,
        keys=(PeerKey(use=KeyUse.IKE, public=store.ike_key().public_base64),),
    )


def probe_of(settings: AgentSettings, clocks: Clocks) -> Probe | None:
    """The path probe, if the settings name an address for it."""
    if not settings.probe:
        return None
    from warren_agent.path_probe import PathProbe  # only where it is used

    return PathProbe(settings.probe, clocks)


def inspectors_of(settings: AgentSettings, protection: Protection, clocks: Clocks) -> tuple[HealthInspector, ...]:
    """What looks at this host's network: the guard, else the agent at what can be read without privileges."""
    if settings.guard or not settings.host_checks:
        return (protection,)
    from warren_agent.switches import HostSwitches  # only where it is used

    return (protection, HostSwitches(settings.guard_devices, clocks.monotonic))


def spool_of(settings: AgentSettings, store: StateStore) -> DiskSpool | None:
    """Where telemetry waits on disk; None if it is switched off, or the disk does not take it."""
    if settings.telemetry_limit == 0:
        return None
    try:
        return DiskSpool(store.folder / "telemetry", settings.telemetry_limit)
    except OSError as error:
        log.error("telemetry.no_disk", error=error.strerror or str(error))
        return None


def keep_tls_small() -> None:
    """asyncio reads TLS into a buffer of 256 KiB for each connection; a record has 16 KiB at most (RFC 8446 5.1)."""
    SSLProtocol.max_size = TLS_BUFFER


async def work(settings: AgentSettings, store: StateStore, identity: Enrolment, teardown: bool) -> None:
    """Be the agent of `identity` until SIGTERM or SIGINT, then stop cleanly."""
    servers = settings.servers or identity.servers
    if not servers:
        raise MissingSettingError("no servers: give --nats or WARREN_NATS_URL")
    peer = identity.peer
    trust = verify_trust(identity.root, identity.trust)
    saved = store.intent()
    store.nkey()  # an unusable key is an error at once, not at every attempt to connect
    keep_tls_small()
    bus = bus_settings(store, servers, cleartext=settings.cleartext)
    instance = os.urandom(8).hex()
    async with (
        Connection(
            bus, name=connection_name(peer, instance), inbox_prefix=inbox(peer), return_spread_s=RETURN_SPREAD
        ) as connection,
        Feed(connection, FeedIdentity(peer, identity.root), trust, saved=saved) as feed,
    ):
        addresses = BusAddresses(servers)
        follower = BusFollower(store, identity, connection, addresses, servers=servers, fixed=bool(settings.servers))
        source = BusSource(feed, follower.note)
        agent, drivers = build_agent(
            settings, store, AgentOnBus(peer, instance, connection, source, addresses, servers)
        )
        async with follower, AgentControlServer(store.folder, {"adopt": _adopt_with(drivers)}):
            await _until_stopped(agent, teardown)


class AgentOnBus(NamedTuple):
    """The peer of an agent, this run of it, and what it has of the bus."""

    peer: PeerId
    instance: str
    connection: Connection
    source: BusSource
    addresses: BusAddresses
    servers: tuple[str, ...]


def build_agent(settings: AgentSettings, store: StateStore, bus: AgentOnBus) -> tuple[Agent, DriverSet]:
    """The agent and its drivers, not started."""
    clocks = Clocks()
    guard = build_guard(settings, clocks)
    drivers = build_drivers(settings, store, guard)
    protection = build_protection(settings, bus.addresses, guard)
    survey = HostSurvey(
        settings.endpoints, clocks.monotonic, guard=protection.guard_facts, unconfirmed_s=bus.source.unconfirmed_s
    )
    reporter = TelemetryReporter(
        bus.peer, __version__, BusTelemetrySink(bus.connection), clocks.now, spool_of(settings, store), survey,
        instance=bus.instance,
    )  # fmt: skip
    changes = ChangeControl(
        clocks.monotonic, ChangesFile(store.folder / "changes.json"),
        ConnectionLink(bus.connection, BusAddresses(bus.servers), protection.reach.taken),
        settings.confirm_within, settings.roll_back_after,
    )  # fmt: skip
    announcement = build_announcement(settings, store)
    inspectors = (*inspectors_of(settings, protection, clocks), changes)
    health = TunnelHealth(clocks, inspectors, settings.one_way_after, probe_of(settings, clocks))
    agent = Agent(
        bus.peer,
        drivers,
        Intents(bus.source, store),
        Announcer(BusRegistry(bus.connection, bus.peer), drivers, announcement, clocks, own_addresses),
        Supervisor(drivers, reporter, clocks, health, build_paths(settings, store, clocks)),
        Safeguards(protection, changes),
        clocks,
    )
    return agent, drivers


def build_paths(settings: AgentSettings, store: StateStore, clocks: Clocks) -> PathManager:
    """What chooses between the ways to a peer's networks; by echoes through the tunnels too, unless the settings forbid it."""
    data_path = DataPathProbe(clocks.monotonic, own_addresses, more=settings.probe) if settings.path_probe else None
    return PathManager(
        clocks.monotonic,
        hold_down=settings.path_hold_down,
        data_path=data_path,
        memory=PathsFile(store.folder / "paths.json"),
    )


def _adopt_with(drivers: DriverSet) -> Verb:
    async def adopt(connection: str) -> str:
        return f"{connection} is taken over as the tunnel {await drivers.adopt(connection)}"

    return adopt


async def _until_stopped(agent: Agent, teardown: bool) -> None:
    log.info("agent.started", peer=agent.peer)
    try:
        await until_signalled(agent.run())
    finally:
        await agent.close(teardown)
        log.info("agent.stopped", peer=agent.peer, tunnels="removed" if teardown else "kept")
