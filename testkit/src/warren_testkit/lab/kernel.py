"""Gateways whose data plane is the kernel's: what the tests of `make test-kernel` share."""

import contextlib
import os
from dataclasses import dataclass
from ipaddress import ip_interface

from warren_lab.namespace import Namespace, run
from warren_testkit.lab.gateways import Gateway, Watched

WIRE = "wire"


def make_wire(wire: Namespace) -> None:
    """Make a bridge in a namespace that has nothing else: whatever gateways send each other passes it as it is on the WAN.

    On the gateway's own end of the link a capture would also see what the kernel has decrypted.
    """
    wire.run("ip", "link", "add", WIRE, "type", "bridge")
    wire.run("ip", "link", "set", WIRE, "up")


def join(wire: Namespace, namespace: Namespace, name: str, address: str, device: str = "wan") -> None:
    """Plug a namespace into the wire by a device with its address; `name` is the bridge's end."""
    end = ["ip", "link", "add", device, "netns", namespace.name, "type", "veth"]
    run([*end, "peer", "name", name, "netns", wire.name])
    wire.run("ip", "link", "set", name, "master", WIRE, "up")
    namespace.run("ip", "link", "set", device, "up")
    namespace.add_address(device, ip_interface(f"{address}/24"))


class KernelLog:
    """What the kernel says from now on."""

    def __init__(self) -> None:
        self._descriptor = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.lseek(self._descriptor, 0, os.SEEK_END)
        self.lines: list[str] = []

    def denials(self) -> list[str]:
        """What AppArmor has denied so far."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self.lines.append(os.read(self._descriptor, 8192).decode(errors="replace"))
        return [line.strip() for line in self.lines if 'apparmor="DENIED"' in line]

    def close(self) -> None:
        os.close(self._descriptor)


@dataclass
class KernelFleet:
    """The hub first. `drivers` stand next to their charons."""

    gateways: tuple[Gateway, ...]
    drivers: tuple[Watched, ...]
