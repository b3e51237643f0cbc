"""The composition root: the only place that knows which firewall, sockets and disk the guard has."""

import asyncio
import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from typing import NamedTuple

import structlog

from warren_contracts.guard import EventKind, GuardEvent
from warren_guard.adapters import netlink, nft
from warren_guard.adapters.inspector import HostInspector
from warren_guard.adapters.ip import HostIpsec
from warren_guard.adapters.state_file import StateFile
from warren_guard.errors import BadStateError, MissingCapabilityError
from warren_guard.guard import Guard
from warren_guard.server import GuardServer
from warren_guard.settings import GuardSettings
from warren_process.stop_signals import until_signalled

log = structlog.get_logger("warren_guard")

INSPECT_S = (
    15.0  # s between two looks at the host's network without a change of it: a listing of all rules takes some ms
)
INSPECT_PAUSE_S = 1.0  # s between two looks at most
SETTLE_S = 0.05  # s; several changes of addresses or routes within it are one event
PAUSE_S = 5.0  # s after an event, whose changes are the next one: a routing daemon may change routes all the time


class Nft:
    """The firewall of this process's network namespace."""

    install = staticmethod(nft.install)
    list_table = staticmethod(nft.list_table)


async def work(settings: GuardSettings) -> None:
    """Be the guard until SIGTERM or SIGINT. The table stays in the kernel.

    Raises:
        GuardError: the stored table is refused, or the socket or the folder cannot be used.
    """
    file = StateFile(settings.state)
    file.prepare()
    with _locked(settings), _listening() as listeners:
        guard = Guard(Nft(), HostInspector(), HostIpsec(), file, keep_sources=settings.keep_sources)
        await guard.load()
        async with GuardServer(guard, settings.socket, settings.users).serving():
            notify_systemd("READY=1")
            log.info("guard.started", socket=str(settings.socket))
            await until_signalled(_run(guard, listeners))
    log.info("guard.stopped", table="kept")


class Listeners(NamedTuple):
    """What the kernel reports."""

    tables: netlink.NetlinkListener
    network: netlink.NetlinkListener
    rules: netlink.NetlinkListener


@contextlib.contextmanager
def _listening() -> Iterator[Listeners]:
    """Open before the table is loaded: what is changed afterwards is reported."""
    with contextlib.ExitStack() as stack:
        try:
            listeners = Listeners(*map(stack.enter_context, (netlink.nftables(), netlink.network(), netlink.rules())))
        except PermissionError:
            raise MissingCapabilityError from None
        yield listeners


async def _run(guard: Guard, listeners: Listeners) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(guard.expire())
        tasks.create_task(_keep_table(guard, listeners.tables))
        tasks.create_task(_keep_rules(guard, listeners.rules))
        tasks.create_task(_report_network_changes(guard, listeners.network))
        tasks.create_task(_report_findings(guard))


async def _keep_table(guard: Guard, tables: netlink.NetlinkListener) -> None:
    while True:
        await guard.nftables_changed(await tables.receive())


async def _keep_rules(guard: Guard, rules: netlink.NetlinkListener) -> None:
    """At once: while they are gone, tunnels may take the host's own networks. `ip rule flush` is one message for each rule."""
    while True:
        await rules.receive()
        await _changes_within(rules, SETTLE_S)
        await guard.rules_changed()


async def _report_network_changes(guard: Guard, network: netlink.NetlinkListener) -> None:
    """At once, then every PAUSE_S at most."""
    while True:
        changed = netlink.kinds_of(await network.receive()) | await _changes_within(network, SETTLE_S)
        await _report(guard, changed)
        await _report(guard, await _changes_within(network, PAUSE_S))


async def _changes_within(network: netlink.NetlinkListener, limit_s: float) -> frozenset[str]:
    changed: frozenset[str] = frozenset()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(limit_s):
            while True:
                changed |= netlink.kinds_of(await network.receive())
    return changed


async def _report(guard: Guard, changed: frozenset[str]) -> None:
    kinds = {
        "addresses": EventKind.ADDRESSES_CHANGED,
        "routes": EventKind.ROUTES_CHANGED,
        "tunnel-routes": EventKind.TUNNEL_ROUTES_CHANGED,
    }
    if changed - {"tunnel-routes"}:
        guard.inspect_soon()
    if "addresses" in changed:
        await guard.links_changed()
    for kind in sorted(changed & set(kinds)):
        guard.publish(GuardEvent(event=kinds[kind]))


async def _report_findings(guard: Guard) -> None:
    while True:
        await guard.report_findings()
        await asyncio.sleep(INSPECT_PAUSE_S)
        await guard.inspect_due(INSPECT_S - INSPECT_PAUSE_S)


@contextlib.contextmanager
def _locked(settings: GuardSettings) -> Iterator[None]:
    path = settings.state / "lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise BadStateError(f"{path}: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise BadStateError(f"{settings.state}: another guard uses this folder") from None
    finally:
        os.close(descriptor)


def notify_systemd(message: str) -> None:
    """Report to systemd, where it started this process with `Type=notify` (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifier, contextlib.suppress(OSError):
        notifier.connect(f"\0{address[1:]}" if address.startswith("@") else address)
        notifier.send(message.encode())
