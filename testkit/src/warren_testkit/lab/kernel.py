"""Gateways whose data plane is the kernel's: what the tests of `make test-kernel` share."""

import contextlib
import os
from dataclasses import dataclass

from warren_testkit.lab.gateways import Gateway, Watched


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
