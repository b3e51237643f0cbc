"""The composition of `warren vpn client`: from a profile to a running client, and `warren vpn restore`."""

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from warren_cli.errors import CliError
from warren_ikev2.dataplane.privileges import KILL, SETGID, SETUID, drop_privileges
from warren_vpn.client.client import ClientOptions, VpnClient
from warren_vpn.client.connection import Credentials
from warren_vpn.client.control import SOCKET_NAME, ControlServer
from warren_vpn.client.events import ClientEvent, Report
from warren_vpn.client.platform import check_platform
from warren_vpn.client.servers import MAX_ADDRESSES, Candidate, ServerOrder
from warren_vpn.client.tunnel import Tunnel
from warren_vpn.host.changes import Address
from warren_vpn.host.dns import RESOLV_CONF
from warren_vpn.host.host import Host
from warren_vpn.host.journal import Journal
from warren_vpn.host.plan import Endpoint
from warren_vpn.profiles.profile import ClientProfile, Server

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


async def run_client(
    profile: ClientProfile, credentials: Credentials, options: ClientOptions, host_options: HostOptions, report: Report
) -> int:
    """Run until SIGTERM, SIGINT or `warren vpn down`; returns the exit code. CliError."""
    check_platform()
    logging.getLogger("warren_ikev2").setLevel(logging.CRITICAL)  # what matters of it is among our own events
    with Journal(host_options.state) as journal:
        host = Host(journal)
        await _recover(host, report, kill_switch=options.kill_switch == "off")
        found = {server.host: await resolve(server.host, host.record.servers) for server in profile.servers}
        host.begin(profile.name, found)
        candidates = list_candidates(profile.servers, found)
        endpoints = tuple(dict.fromkeys(candidate.endpoint for candidate in candidates))
        tunnel = Tunnel(host, profile, endpoints, host_options.device, options.kill_switch, host_options.resolv_conf)
        client = VpnClient(profile, credentials, ServerOrder(candidates), tunnel, options, report)
        control = ControlServer(host_options.state / SOCKET_NAME, client.handle)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):  # the last one: its terminal is closed
            asyncio.get_running_loop().add_signal_handler(number, client.stop)
        await control.start()
        if os.geteuid() == 0:
            drop_privileges(None, KEPT)
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
        problems = await host.restore(kill_switch=True)
        for problem in problems:
            report(ClientEvent("vpn.not-restored", f"not put back: {problem}"))
        if host.record.changes:
            raise CliError("not everything could be put back; correct the reasons above and run it again")
        return True


async def _recover(host: Host, report: Report, *, kill_switch: bool) -> None:
    """A former client was killed: put back what it left, but for the kill switch where the new one has its own."""
    left = [change for change in host.record.changes if kill_switch or change is not host.kill_switch]
    if not left:
        return
    report(ClientEvent("vpn.recovered", f"putting back what a former client left ({len(left)} changes)"))
    for problem in await host.restore(kill_switch=kill_switch):
        report(ClientEvent("vpn.not-restored", f"not put back: {problem}"))


async def resolve(host: str, remembered: Mapping[str, tuple[Address, ...]]) -> tuple[Address, ...]:
    """The addresses of a server; those of the former run if no name can be looked up. CliError."""
    try:
        return (ip_address(host),)
    except ValueError:
        pass
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_DGRAM)
        return tuple(dict.fromkeys(ip_address(str(entry[4][0]).partition("%")[0]) for entry in found))[:MAX_ADDRESSES]
    except OSError as error:
        if host in remembered:
            return remembered[host]
        raise CliError(
            f"servers: {host}: the name cannot be looked up ({error.strerror}); with the kill switch of a former run in force"
            " no name can: use addresses in the profile, or run `warren vpn restore` first"
        ) from None


def list_candidates(servers: tuple[Server, ...], addresses: Mapping[str, tuple[Address, ...]]) -> list[Candidate]:
    """Every address of every server, in order of preference."""
    return [
        Candidate(
            server.host, rank, Endpoint(address, tuple(dict.fromkeys((server.ike_port, server.port)))),
            server.ike_port, server.port,
        )
        for rank, server in enumerate(servers)
        for address in addresses[server.host]
    ]  # fmt: skip
