"""What identifies this host and its present boot.

An agent names its connection to the bus by it, so that the registry detects that a copy of its disk runs on another host.
"""

import hashlib
import re
import socket
from pathlib import Path

MACHINE_ID = Path("/etc/machine-id")
DEVICES = Path("/sys/class/net")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_NO_ADDRESS = "00:00:00:00:00:00"


def connection_name(peer: str, instance: str) -> str:
    """`agent:<peer>:<host id>:<instance>:<host name>`; `instance` is a random number of this process (16 hexadecimal digits)."""
    name = re.sub(r"[^!-~]", "-", socket.gethostname())[:64]
    return f"agent:{peer}:{host_id()}:{instance}:{name}"


def host_id(machine_id: Path = MACHINE_ID, devices: Path = DEVICES) -> str:
    """16 hexadecimal digits of this machine: a hash of its id and of the addresses of its network cards.

    A cloned disk has the machine id of its original, the clone's network cards have addresses of their own.
    """
    digest = hashlib.sha256()
    for text in (_text(machine_id), *sorted(_card_addresses(devices))):
        digest.update(text.encode() + b"\n")
    return digest.hexdigest()[:16]


def boot_id(path: Path = BOOT_ID) -> str:
    """A random number that the kernel has drawn at its start; empty where there is none."""
    return _text(path)


def _card_addresses(devices: Path) -> set[str]:
    """Of cards that are hardware (or a hypervisor's); where there is none, as in a container, of every interface."""
    try:
        found = [(device, _text(device / "address")) for device in devices.iterdir()]
    except OSError:
        return set()
    usable = [(device, address) for device, address in found if address not in ("", _NO_ADDRESS)]
    cards = {address for device, address in usable if (device / "device").exists()}
    return cards or {address for _, address in usable}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()[:256]
    except OSError:
        return ""
