"""Run the daemon: `python -m warren_ikev2.daemon --socket /run/warren/userspace.sock`."""

import argparse
import asyncio
import logging
import os
import pwd
import signal
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path

from warren_ikev2.aio.offload import DataPlaneOptions, OffloadDriver
from warren_ikev2.aio.udp import UdpPort
from warren_ikev2.configuration import EndpointConfiguration
from warren_ikev2.daemon.routes import Routes, run_ip
from warren_ikev2.daemon.server import DaemonControlServer
from warren_ikev2.daemon.tunnels import Tunnels
from warren_ikev2.dataplane.privileges import protect_memory
from warren_ikev2.dataplane.tun import OffloadTun, ip_arguments, link_settings
from warren_ikev2.endpoint import Endpoint

TUN_MTU = 1400
"""Bytes: fits every cipher over IPv4 and IPv6 on a path of 1,500."""
_ANY = ("0.0.0.0", "::")  # noqa: S104  a gateway listens on all its addresses


def _open_ports(ike_port: int, natt_port: int) -> tuple[UdpPort, ...]:
    """Both ports over IPv4, and over IPv6 where the host has it. Raises `OSError`."""
    ports = [UdpPort(ip_address(_ANY[0]), ike_port), UdpPort(ip_address(_ANY[0]), natt_port)]
    try:
        ports[1:1] = [UdpPort(ip_address(_ANY[1]), ike_port), UdpPort(ip_address(_ANY[1]), natt_port)]
    except OSError:
        logging.getLogger("warren_ikev2").warning("daemon.no_ipv6")
    return tuple(ports)


async def run(options: argparse.Namespace) -> None:
    """Serve until a signal or `Shutdown`."""
    server = DaemonControlServer(options.socket, pwd.getpwnam(options.user).pw_uid if options.user else None)
    with OffloadTun(options.tun) as tun:
        await run_ip("link", "set", tun.name, "up", *ip_arguments(link_settings(TUN_MTU)))
        ports = _open_ports(options.ike_port, options.natt_port)
        configuration = replace(EndpointConfiguration(), ike_port=options.ike_port, natt_port=options.natt_port)
        engine = Endpoint(configuration, os.urandom, lambda: datetime.now(UTC))
        driver = OffloadDriver(engine, ports, options.ike_port, options.path_mtu, DataPlaneOptions(tun))
        server.tunnels = Tunnels(driver, engine, Routes(tun.name), server.report)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, server.stopped.set)
        try:
            await server.start()
            await server.stopped.wait()
            await server.tunnels.close()
        finally:
            await server.close()
            driver.stop()


def main() -> None:
    """Parse the options and run."""
    parser = argparse.ArgumentParser(prog="warren_ikev2.daemon", description=__doc__, allow_abbrev=False)
    parser.add_argument("--socket", type=Path, required=True, help="where drivers connect")
    parser.add_argument("--user", help="who may control the daemon besides root, such as the agent's user")
    parser.add_argument("--tun", default="warren0", help="name of the TUN device")
    parser.add_argument("--ike-port", type=int, default=500)
    parser.add_argument("--natt-port", type=int, default=4500)
    parser.add_argument("--path-mtu", type=int, default=1500, help="bytes of the largest outer packet")
    options = parser.parse_args()
    protect_memory()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    asyncio.run(run(options))


if __name__ == "__main__":
    main()
