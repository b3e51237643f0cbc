"""`warren vpn server run`: the foreground process.

Everything that needs privileges comes first, without an event loop: the device, the rules, forwarding, the ports. Then the cleaner
is forked, the data process started, and the privileges of this process are given up, before it parses what clients send.
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from warren_bus.logs import setup_logs
from warren_ikev2.aio.udp import UdpPort
from warren_ikev2.dataplane.privileges import KILL, SETGID, SETPCAP, SETUID, drop_privileges
from warren_ikev2.dataplane.tun import OffloadTun
from warren_vpn.server.cleaner import Cleaner
from warren_vpn.server.control_server import ControlServer
from warren_vpn.server.errors import NetworkError, ServerError
from warren_vpn.server.folder import Keys
from warren_vpn.server.metrics import MetricsServer
from warren_vpn.server.network import NetworkSetup
from warren_vpn.server.service import VpnServer, load
from warren_vpn.server.settings import ServerSettings

if TYPE_CHECKING:
    from warren_vpn.server.fleet import FleetReporter

log = structlog.get_logger("warren_vpn")

FLEET_SECONDS = 3.0
"""For the last heartbeat."""
LOCK = "server.lock"
_LOCK_SECONDS = 10.0
"""The cleaner of a server that was killed a moment ago holds the lock until it is done."""
KEPT_BY_ROOT = frozenset({KILL, SETGID, SETUID, SETPCAP})
"""What root's server needs to start its data process again under another user, and to end it. A server with a user of its own
keeps nothing."""


def run_server(path: Path, *, as_json: bool = False, log_level: str = "info") -> None:
    """Serve until SIGTERM or SIGINT. ServerError: it cannot be done like this."""
    path = path.absolute()
    settings, keys = load(path)
    setup_logs("vpn", "json" if as_json else "", log_level)
    if log_level != "debug":
        engine = logging.getLogger("warren_ikev2")
        engine.setLevel(logging.WARNING)
        engine.addFilter(lambda record: not hasattr(record, "event"))  # the server has a line of its own for each
    with _lock(path.parent), contextlib.ExitStack() as stack:
        network = NetworkSetup(settings.tunnel, path.parent)
        tun = network.install()
        stack.callback(network.remove)
        with tun:
            ports = open_ports(settings)
            cleaner = Cleaner(network.remove, (tun.descriptor, *(port.fileno() for port in ports)))
            stack.pop_all()  # from here on it is the cleaner's
            stack.callback(cleaner.finish)
            try:
                asyncio.run(_serve(path, settings, keys, tun, ports))
            finally:
                for port in ports:
                    port.close()


async def _serve(path: Path, settings: ServerSettings, keys: Keys, tun: OffloadTun, ports: tuple[UdpPort, ...]) -> None:
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    try:
        server = VpnServer(path, settings, keys, tun, ports)
    except OSError as error:
        raise ServerError(f"the data process cannot be started: {error.strerror}: {error.filename}") from None
    control = ControlServer(path.parent / settings.control, server.answer)
    metrics = None if settings.metrics_port is None else MetricsServer(settings.metrics_port, server.status)
    try:
        fleet = _join_fleet(path, settings, server)
        await control.start()
        if metrics is not None:
            await metrics.start()
        drop_privileges(None, KEPT_BY_ROOT if os.geteuid() == 0 else ())
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopped.set)
        loop.add_signal_handler(signal.SIGHUP, _reload, server)
        notify_systemd("READY=1")
        log.info(
            "server.ready", identity=settings.identity, public_key=keys.public_key, device=tun.name,
            users=server.users, pools=[str(pool) for pool in settings.tunnel.pools],
        )  # fmt: skip
        reporting = None if fleet is None else asyncio.create_task(_report(fleet))
        await stopped.wait()
        notify_systemd("STOPPING=1")
        log.info("server.stopping", connected=len(server.accounts.sessions))
        await server.close()
        if reporting is not None:
            reporting.cancel()
            await asyncio.wait({reporting}, timeout=FLEET_SECONDS)
    finally:
        control.close()
        if metrics is not None:
            metrics.close()
        server.stop()


async def _report(fleet: "FleetReporter") -> None:
    """Report until cancelled. What is wrong with the enrolment ends the reports, not the server."""
    try:
        await fleet.run()
    except Exception as error:
        log.exception("fleet.failed", peer=fleet.peer, error=str(error))


def _join_fleet(path: Path, settings: ServerSettings, server: VpnServer) -> "FleetReporter | None":
    """The reports to the fleet in which the server is enrolled; None: in none. NATS is imported only for that."""
    if settings.fleet is None:
        return None
    from warren_vpn.server.fleet import FleetReporter

    fleet = FleetReporter(path.parent / settings.fleet, server.connected)
    server.on_session_change = lambda account, closed: fleet.take(account, closed=closed)
    return fleet


def _reload(server: VpnServer) -> None:
    try:
        server.reload()
    except ServerError as error:
        log.error("settings.invalid", error=str(error))


def open_ports(settings: ServerSettings) -> tuple[UdpPort, ...]:
    """Both ports on each address; the last one is where ESP arrives. An IPv6 that the host does not have is left out.

    ServerError: a port is taken, or may not be bound.
    """
    ports: list[UdpPort] = []
    for number in (settings.ike_port, settings.natt_port):
        for address in settings.listen:
            try:
                ports.append(UdpPort(address, number))
            except OSError as error:
                if address.version == 6 and address.is_unspecified and not _has_ipv6():
                    continue
                for port in ports:
                    port.close()
                raise ServerError(f"listen: UDP {address} port {number}: {error.strerror}") from None
    if not ports:
        raise ServerError("listen: no address of this host")
    return tuple(ports)


def _has_ipv6() -> bool:
    try:
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).close()
    except OSError:
        return False
    return Path("/proc/sys/net/ipv6").exists()


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Only one server works with a folder. The cleaner inherits the lock, and so holds it until it is done."""
    path = folder / LOCK
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ServerError(f"{path}: {error.strerror}") from None
    try:
        with _time_limit(path):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _time_limit(path: Path) -> Iterator[None]:
    """Interrupt a wait for the lock."""

    def expired(*_: object) -> None:
        raise NetworkError(f"{path}: another server works with this folder")

    former = signal.signal(signal.SIGALRM, expired)
    signal.setitimer(signal.ITIMER_REAL, _LOCK_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)


def notify_systemd(message: str) -> None:
    """Report to systemd, where it started this process with `Type=notify` (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifier, contextlib.suppress(OSError):
        notifier.connect(address.replace("@", "\0", 1) if address[0] == "@" else address)
        notifier.send(message.encode())
