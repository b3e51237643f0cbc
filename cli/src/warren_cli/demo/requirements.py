"""What the demo needs of the machine, looked for before anything starts."""

import shutil
from pathlib import Path

from warren_cli.errors import LabError
from warren_cli.lab.charon import CHARON, TUN_DEVICE

SEARCH_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
"""A user's PATH often lacks sbin, where Debian keeps `ip` and `swanctl`."""
PLUGIN_FOLDER = CHARON.parent / "plugins"
PROGRAMS = {"ip": "iproute2", "swanctl": "strongswan-swanctl", "unshare": "util-linux", "setpriv": "util-linux"}
PLUGINS = {
    "vici": "strongswan-swanctl",
    "error-notify": "libcharon-extra-plugins",
    "kernel-libipsec": "libcharon-extra-plugins",
    "eap-identity": "libcharon-extra-plugins",
    "eap-mschapv2": "libcharon-extauth-plugins",
    "curve25519": "libstrongswan-extra-plugins",
    "chapoly": "libstrongswan-extra-plugins",
    "gcm": "libstrongswan-standard-plugins",
}
"""Plugins of the lab's charon that lie outside strongswan-charon and libstrongswan (Debian 12)."""


def missing_packages() -> list[str]:
    """Debian packages that must be installed first, sorted."""
    missing = {package for program, package in PROGRAMS.items() if shutil.which(program, path=SEARCH_PATH) is None}
    if not CHARON.exists():
        missing.add("strongswan-charon")
    missing |= {package for plugin, package in PLUGINS.items() if not _plugin(plugin).exists()}
    return sorted(missing)


def require() -> None:
    """Refuse with the one command that helps.

    Raises:
        LabError: packages or /dev/net/tun are missing.
    """
    packages = missing_packages()
    if packages:
        raise LabError(
            "Debian packages are missing. Run once as root: apt-get update && "
            f"apt-get install --no-install-recommends {' '.join(packages)} (deploy/debian/setup.sh does it without "
            "starting strongSwan on this machine)"
        )
    if not TUN_DEVICE.exists():
        raise LabError("/dev/net/tun is missing. Run once as root: modprobe tun")


def _plugin(name: str) -> Path:
    return PLUGIN_FOLDER / f"libstrongswan-{name}.so"
