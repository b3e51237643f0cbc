"""What the demo needs of the machine, looked for before anything starts."""

import os
import shutil
import subprocess
from pathlib import Path

from warren_lab.charon import CHARON, TUN_DEVICE
from warren_lab.errors import LabError
from warren_lab.lab import can_make_namespaces
from warren_lab.sandbox import USER_NAMESPACE

SEARCH_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
"""A user's PATH often lacks sbin, where Debian keeps `ip` and `swanctl`."""
PROBE_LIMIT_SECONDS = 10.0
PLUGIN_FOLDER = CHARON.parent / "plugins"
PROGRAMS = {"ip": "iproute2", "nft": "nftables", "unshare": "util-linux", "setpriv": "util-linux"}
"""What every driver needs."""
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


def missing_packages(driver: str) -> list[str]:
    """Debian packages that must be installed first, sorted."""
    programs = PROGRAMS if driver == "userspace" else {**PROGRAMS, "swanctl": "strongswan-swanctl"}
    missing = {package for program, package in programs.items() if shutil.which(program, path=SEARCH_PATH) is None}
    if driver == "userspace":
        return sorted(missing)
    if not CHARON.exists():
        missing.add("strongswan-charon")
    missing |= {package for plugin, package in PLUGINS.items() if not _plugin(plugin).exists()}
    return sorted(missing)


def require(driver: str) -> None:
    """Refuse with the one command that helps.

    Raises:
        LabError: packages, /dev/net/tun or the right to make namespaces are missing.
    """
    packages = missing_packages(driver)
    if packages:
        raise LabError(
            "Debian packages are missing. Run once as root: apt-get update && "
            f"apt-get install --no-install-recommends {' '.join(packages)} (deploy/debian/setup.sh does it without "
            "starting strongSwan on this machine)"
        )
    if not os.access(TUN_DEVICE, os.R_OK | os.W_OK):
        raise LabError(
            "/dev/net/tun is missing or closed to this user. Run once as root: modprobe tun, or run the demo as root"
        )
    if not can_make_namespaces() and not _user_namespaces_work():
        raise LabError(
            "this machine lets no user make namespaces. Run the demo as root, or allow it once as root: "
            "sysctl kernel.unprivileged_userns_clone=1 (Debian), kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu)"
        )


def _user_namespaces_work() -> bool:
    """Whether `unshare` gives this user the namespaces of the sandbox, capabilities kept."""
    probe = [*USER_NAMESPACE, "ip", "link", "set", "lo", "up"]
    environment = {"PATH": SEARCH_PATH}
    done = subprocess.run(probe, env=environment, capture_output=True, timeout=PROBE_LIMIT_SECONDS, check=False)
    return done.returncode == 0


def _plugin(name: str) -> Path:
    return PLUGIN_FOLDER / f"libstrongswan-{name}.so"
