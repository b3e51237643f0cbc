"""Which systems the client runs on. Imports nothing that another system lacks."""

import sys

from warren_cli.errors import CliError


def check_platform() -> None:
    """CliError on anything but Linux."""
    if sys.platform != "linux":
        raise CliError(
            "the VPN client runs on Linux only: macOS's utun has neither the offloads nor policy routing and nftables;"
            " use the system's own IKEv2 client, with a profile that `warren vpn profile` writes for it"
        )
