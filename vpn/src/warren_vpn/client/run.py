"""The composition of `warren vpn client`: from a profile to a running client, and `warren vpn restore`."""

import asyncio
import logging
import os
import signal
from dataclasses import dataclass
from pathlib import Path

from warren_cli.errors import CliError
from warren_ikev2.dataplane.privileges import KILL, SETGID, SETUID, drop_privileges, protect_memory
from warren_vpn.client.client import ClientOptions, VpnClient
from warren_vpn.client.connection import Credentials
from warren_vpn.client.control import SOCKET_NAME, ClientControlServer
from warren_vpn.client.events import ClientEvent, Report
from warren_vpn.client.lookups import Lookups
from warren_vpn.client.platform import check_platform
from warren_vpn.client.servers import ServerOrder
from warren_vpn.client.tunnel import HostTunnel
from warren_vpn.host.dns import RESOLV_CONF
from warren_vpn.host.errors import JournalError
from warren_vpn.host.host import Host
from warren_vpn.host.journal import Journal
from warren_vpn.host.network_lock import hold_network
from warren_vpn.owned_file import is_there
from warren_vpn.profiles.profile import ClientProfile

DEFAULT_DEVICE = "warren-vpn0"
NET_ADMIN = 12  # linux/capability.h
KEPT = (NET_ADMIN, SETUID, SETGID, KILL)
"""CAP_NET_ADMIN for routes, the TUN device and nftables; the others to start the data process as `nobody`, and to end it."""


@dataclass(frozen=True, slots=True)
class HostOptions:
    """Where this host has things."""

    state: Path
    device: str = DEFAULT_DEVICE
    resolv_conf: Path = RESOLV_CONF


def check_free(state: Path) -> None:
    """CliError: a client runs, or this user may not be one. Makes nothing."""
    if is_there(state):
        with Journal(state):
            return
    parent = next(folder for folder in state.absolute().parents if folder.exists())
    if not os.access(parent, os.W_OK):
        raise JournalError(f"{state}: cannot be made in {parent}; run as root, or name another --state folder")


async def run_client(
    profile: ClientProfile, credentials: Credentials, options: ClientOptions, host_options: HostOptions, report: Report
) -> int:
    """Run until SIGTERM, SIGINT or `warren vpn down`; returns the exit code. CliError."""
    check_platform()
    logging.getLogger("warren_ikev2").setLevel(logging.CRITICAL)  # what matters of it is among our own events
    with Journal(host_options.state) as journal, hold_network():
        host = Host(journal)
        await _recover(host, report, kill_switch=options.kill_switch == "off")
        order = ServerOrder(profile.servers, host.record.servers)
        host.begin(profile.name)
        tunnel = HostTunnel(
            host, profile, order.endpoints(), host_options.device, options.kill_switch, host_options.resolv_conf
        )
        lookups = Lookups(tunnel, host_options.resolv_conf)
        client = VpnClient(profile, credentials, order, tunnel, lookups, options, report)
        control = ClientControlServer(host_options.state / SOCKET_NAME, client.handle)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):  # the last one: its terminal is closed
            asyncio.get_running_loop().add_signal_handler(number, client.stop)
        await control.start()
        if os.geteuid() == 0:
            drop_privileges(None, KEPT)
        else:
            protect_memory()
        try:
            return await client.run()
        finally:
            control.close()


async def restore_host(state: Path, report: Report) -> bool:
    """Put back what a client left; returns whether there was anything. CliError: one runs, or something cannot be put back."""
    check_platform()
    with Journal(state) as journal:
        host = Host(journal)
        if not host.record.changes:
            return False
        with hold_network():
            problems = await host.restore(kill_switch=True)
        for problem in problems:
            report(ClientEvent("vpn.not-restored", f"not put back: {problem}"))
        if host.record.changes:
            raise CliError("not everything could be put back; correct the reasons above and run it again")
        return True


async def load_kill_switch(state: Path) -> bool:
    """Put the kill switch of the last client into force again; returns whether it left one. CliError: a client runs, or nft fails."""
    check_platform()
    with Journal(state) as journal:
        host = Host(journal)
        if host.kill_switch is None:
            return False
        with hold_network():
            return await host.load_kill_switch()


async def _recover(host: Host, report: Report, *, kill_switch: bool) -> None:
    """A former client was killed: put back what it left, but for the kill switch where the new one has its own."""
    left = [change for change in host.record.changes if kill_switch or change is not host.kill_switch]
    if not left:
        return
    report(ClientEvent("vpn.recovered", f"putting back what a former client left ({len(left)} changes)"))
    for problem in await host.restore(kill_switch=kill_switch):
        report(ClientEvent("vpn.not-restored", f"not put back: {problem}"))
