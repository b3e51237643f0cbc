"""Run nft(8), resolvectl(1) and resolvconf(8)."""

from warren_process import host_command
from warren_vpn.host.errors import HostError

PACKAGES = {"nft": "nftables", "resolvectl": "systemd-resolved", "resolvconf": "openresolv"}


async def run(program: str, *arguments: str, stdin: str = "") -> str:
    """The output of a program that ended with 0. HostError: it is missing, does not end, or refuses."""
    return await host_command.run(program, *arguments, package=PACKAGES[program], error=HostError, stdin=stdin)
