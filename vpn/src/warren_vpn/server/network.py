"""The host's network for the server: TUN device, addresses, routes, nftables table and forwarding, and how they end.

The device ends with the processes that hold it, and its addresses and routes with it. The table and the settings are removed by
`NetworkSetup.remove`: at the end, by the cleaner after a kill, or at the next start.
"""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from warren_ikev2.dataplane.tun import OffloadTun, ip_arguments, link_settings
from warren_process.host_command import first_reason
from warren_vpn.server.errors import NetworkError
from warren_vpn.server.ruleset import build_table, remove_table
from warren_vpn.server.settings import TunnelSettings
from warren_vpn.server.sysctl import Forwarding

STATE = "network.json"
_LIMIT_S = 20.0


@dataclass(slots=True)
class NetworkSetup:
    """What the server changes on its host."""

    tunnel: TunnelSettings
    folder: Path
    """Where the state of forwarding is."""

    def install(self) -> OffloadTun:
        """Put everything in place, and return the open device. NetworkError, with nothing left of it."""
        self.remove()
        tunnel = self.tunnel
        try:
            tun = OffloadTun(tunnel.device)
        except OSError as error:
            raise NetworkError(
                f"{tunnel.device}: {error.strerror}: a TUN device needs CAP_NET_ADMIN and /dev/net/tun"
            ) from None
        try:
            self._address()
            run("nft", "-f", "-", stdin=build_table(tunnel), package="nftables")
            versions = sorted({pool.version for pool in tunnel.pools})
            self._forwarding.enable(tunnel.device, tunnel.uplinks or self._uplinks(versions), versions)
        except BaseException:
            tun.close()
            self.remove()
            raise
        return tun

    def remove(self) -> None:
        """Remove the table and put the settings back; harmless if there is nothing. NetworkError."""
        run("nft", "-f", "-", stdin=remove_table(), package="nftables")
        self._forwarding.put_back()

    @property
    def _forwarding(self) -> Forwarding:
        return Forwarding(self.folder / STATE)

    def _address(self) -> None:
        tunnel = self.tunnel
        run("ip", "link", "set", "dev", tunnel.device, "up", *ip_arguments(link_settings(tunnel.mtu)))
        for pool, own in zip(tunnel.pools, tunnel.own_addresses, strict=True):
            more = ["nodad"] if pool.version == 6 else []
            # the prefix of the pool makes the route of all its clients
            run("ip", f"-{pool.version}", "address", "add", f"{own}/{pool.prefixlen}", "dev", tunnel.device, *more)

    def _uplinks(self, versions: Sequence[int]) -> tuple[str, ...]:
        """The interfaces of the default routes."""
        found: list[str] = []
        for version in versions:
            listed = json.loads(run("ip", "-json", f"-{version}", "route", "show", "default") or "[]")
            found += [str(route["dev"]) for route in listed if "dev" in route]
        return tuple(dict.fromkeys(found))


def run(*argv: str, stdin: str = "", package: str = "iproute2") -> str:
    """The output of ip(8) or nft(8). NetworkError: it is missing, refuses, or does not end."""
    try:
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    except FileNotFoundError:
        raise NetworkError(f"{argv[0]}: not installed; install {package}") from None
    except subprocess.TimeoutExpired:
        raise NetworkError(f"{' '.join(argv)}: no end within {_LIMIT_S:g} s") from None
    if done.returncode:
        raise NetworkError(f"{' '.join(argv[:4])}: {first_reason(done.stderr, done.returncode)}")
    return done.stdout
