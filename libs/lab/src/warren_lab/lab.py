"""The lab as one context: what it makes is removed in reverse order, whatever happened in between."""

import contextlib
import os
import secrets
import shutil
from ipaddress import ip_interface
from pathlib import Path
from types import TracebackType
from typing import Self

from warren_lab.charon import Charon
from warren_lab.charon_conf import Settings
from warren_lab.errors import LabError
from warren_lab.namespace import Namespace, run
from warren_lab.runtime import make_runtime_folder

_CAP_NET_ADMIN = 12
_CAP_SYS_ADMIN = 21


def can_make_namespaces() -> bool:
    """Whether this process may: root, or a user namespace with capabilities kept."""
    status = Path("/proc/self/status").read_text()
    effective = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff:"))
    return all(effective >> capability & 1 for capability in (_CAP_NET_ADMIN, _CAP_SYS_ADMIN))


class Lab:
    """Namespaces and daemons under one random suffix and one temporary folder (short: sockets live in it).

    Use as a context manager, or call `close` yourself.
    """

    def __init__(self, prefix: str = "wl") -> None:
        if not can_make_namespaces():
            raise LabError
        self.suffix = f"{os.getpid():x}{secrets.token_hex(2)}"
        self.prefix = prefix
        self._stack = contextlib.ExitStack()
        self.folder = make_runtime_folder(f"{prefix}-")
        self._stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self.namespaces: dict[str, Namespace] = {}

    def namespace(self, name: str) -> Namespace:
        """A new namespace `<prefix>-<suffix>-<name>` with `lo` up."""
        namespace = Namespace(f"{self.prefix}-{self.suffix}-{name}")
        self._stack.callback(namespace.delete)
        namespace.create()
        self.namespaces[name] = namespace
        return namespace

    def link(
        self,
        first: Namespace,
        first_device: str,
        first_address: str,
        second: Namespace,
        second_device: str,
        second_address: str,
    ) -> None:
        """A veth pair between two namespaces, both ends up with their addresses (`192.0.2.1/30`)."""
        own_end = ["ip", "link", "add", first_device, "netns", first.name]
        run([*own_end, "type", "veth", "peer", "name", second_device, "netns", second.name])
        ends = ((first, first_device, first_address), (second, second_device, second_address))
        for namespace, device, address in ends:
            namespace.run("ip", "link", "set", device, "up")
            namespace.add_address(device, ip_interface(address))

    def host_link(self, namespace: Namespace, device: str, address: str, host_address: str) -> str:
        """A veth pair between a namespace and the namespace of this process; returns the name of the host's end."""
        host_device = f"{self.prefix}{secrets.token_hex(4)}"
        run(["ip", "link", "add", host_device, "type", "veth", "peer", "name", device, "netns", namespace.name])
        self._stack.callback(run, ["ip", "link", "del", host_device], check=False)
        run(["ip", "address", "add", host_address, "dev", host_device])
        run(["ip", "link", "set", host_device, "up"])
        namespace.run("ip", "link", "set", device, "up")
        namespace.add_address(device, ip_interface(address))
        return host_device

    def charon(self, namespace: Namespace, settings: Settings | None = None, root: Path | None = None) -> Charon:
        """A charon for the namespace, not started; `root` as in Charon.

        The namespace's addresses should exist before connections that use them are loaded.
        """
        short = namespace.name.removeprefix(f"{self.prefix}-{self.suffix}-")
        charon = Charon(namespace, self.folder / short, settings, root)
        self._stack.callback(charon.stop)
        return charon

    def close(self) -> None:
        """Remove everything, newest first. Safe to call twice."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
