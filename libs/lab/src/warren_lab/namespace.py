"""A network namespace: addresses, commands inside it, and sockets that belong to it."""

import ctypes
import os
import select
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from ipaddress import IPv4Interface, IPv6Interface
from pathlib import Path
from typing import IO, TypeVar

from warren_lab.errors import CommandFailedError, LabError
from warren_lab.process import bound_to_parent, stop_process

T = TypeVar("T")
Interface = IPv4Interface | IPv6Interface

NETNS_FOLDER = Path("/run/netns")
"""Where `ip netns add` keeps the names (ip-netns(8))."""

COMMAND_LIMIT_SECONDS = 60.0
"""`ip` answers within milliseconds; the limit only keeps a stuck one from blocking a test forever."""

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def run(argv: Sequence[str], *, limit_seconds: float = COMMAND_LIMIT_SECONDS, check: bool = True) -> str:
    """Run a command and return its standard output.

    Raises:
        CommandFailedError: it ended with an error (and `check`), or did not end within the limit.
    """
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=limit_seconds, check=False)
    except subprocess.TimeoutExpired as error:
        raise CommandFailedError(f"{' '.join(argv)}: no end within {limit_seconds:g} s") from error
    except FileNotFoundError as error:
        raise CommandFailedError(f"{argv[0]} is not installed; deploy/debian/setup.sh installs it") from error
    if check and done.returncode != 0:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-3:]
        raise CommandFailedError(f"{' '.join(argv)}: exit code {done.returncode}: {' / '.join(last)}")
    return done.stdout


def in_netns(path: Path, make: Callable[[], T]) -> T:
    """Call `make` in a thread of its own that has entered the network namespace; a socket made there stays in it.

    A thread, because setns(2) moves one thread only and this one should not have to come back.
    """
    result: list[T] = []
    failure: list[BaseException] = []

    def enter() -> None:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
                    raise LabError(f"setns into {path}: {os.strerror(ctypes.get_errno())}")
            finally:
                os.close(descriptor)
            result.append(make())
        except BaseException as error:  # noqa: BLE001 - handed to the caller's thread
            failure.append(error)

    thread = threading.Thread(target=enter, name="enter-netns")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return result[0]


class Namespace:
    """One network namespace, made by `ip netns add` and named so that `ip netns exec NAME ...` finds it by hand.

    Made by `Lab.namespace`, which also deletes it.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.path = NETNS_FOLDER / name
        self._children: list[subprocess.Popen[bytes]] = []

    def create(self) -> None:
        """Add the namespace and bring `lo` up."""
        run(["ip", "netns", "add", self.name])
        self.run("ip", "link", "set", "lo", "up")

    def delete(self) -> None:
        """End what still runs inside, newest first, and delete the namespace. Missing is fine."""
        for child in reversed(self._children):
            stop_process(child)
        self._children.clear()
        if self.path.exists():
            for process_id in self.process_ids():
                _kill_quietly(process_id)
            run(["ip", "netns", "del", self.name])

    def process_ids(self) -> list[int]:
        """The processes that run inside now, also those that another process started."""
        return [int(word) for word in run(["ip", "netns", "pids", self.name]).split()]

    def argv(self, command: Sequence[str]) -> list[str]:
        """`command` as it is run from outside: nsenter, since `ip netns exec` would also remount /sys."""
        return ["nsenter", f"--net={self.path}", "--", *command]

    def run(self, *command: str, check: bool = True, limit_seconds: float = COMMAND_LIMIT_SECONDS) -> str:
        """Run a command inside and return its standard output.

        Raises:
            CommandFailedError: as `run`.
        """
        return run(self.argv(command), check=check, limit_seconds=limit_seconds)

    def spawn(
        self,
        *command: str,
        env: Mapping[str, str] | None = None,
        stdout: IO[bytes] | int = subprocess.DEVNULL,
        stderr: IO[bytes] | int = subprocess.STDOUT,
        stdin: IO[bytes] | int = subprocess.DEVNULL,
        on_parent_death: signal.Signals = signal.SIGTERM,
    ) -> subprocess.Popen[bytes]:
        """Start a process inside. It ends with the thread that started it, and at the latest with the namespace."""
        argv = self.argv(bound_to_parent(command, on_parent_death))
        child = subprocess.Popen(
            argv, env=env, stdin=stdin, stdout=stdout, stderr=stderr, start_new_session=True, close_fds=True
        )
        self._children = [other for other in self._children if other.poll() is None]
        self._children.append(child)
        return child

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A socket of this namespace, usable from any thread."""
        return in_netns(self.path, lambda: socket.socket(family, kind, protocol))

    def add_address(self, device: str, address: Interface) -> None:
        """Give `device` an address; it is usable at once (IPv6: without duplicate address detection)."""
        nodad = ["nodad"] if address.version == 6 else []
        self.run("ip", "address", "add", str(address), "dev", device, *nodad)

    def add_default_route(self, via: str) -> None:
        """Send everything else to the router `via`."""
        self.run("ip", "route", "replace", "default", "via", via)

    def enable_forwarding(self) -> None:
        """Let this namespace route between its links."""
        in_netns(self.path, _write_forwarding)


def _write_forwarding() -> None:
    """In the namespace of the calling thread: /proc/sys/net shows each task its own."""
    for key in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
        path = Path("/proc/sys/net") / key
        if path.exists():
            path.write_text("1")


def _kill_quietly(process_id: int) -> None:
    """Kill a process that lives in a namespace of ours, and wait until it has ended."""
    try:
        descriptor = os.pidfd_open(process_id)
    except ProcessLookupError:
        return
    try:
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        select.select([descriptor], [], [], 5.0)
    except ProcessLookupError:
        return
    finally:
        os.close(descriptor)
