"""Forwarding between the tunnel device and the uplinks, by the kernel's settings of interfaces, and how it was before.

IPv4 forwards what arrives on an interface whose `forwarding` is on (networking/ip-sysctl.rst), so only the tunnel device and the
uplinks are touched. IPv6 does so per interface from Linux 6.17 on (`force_forwarding`); before that only
`conf/all/forwarding` counts, which makes the host a router: interfaces that take router advertisements get `accept_ra` 2, with
which they still do.

What was there is in a file before it is changed, so that it can be put back after the server was killed.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from warren_process.atomic_file import write_atomically
from warren_vpn.server.errors import NetworkError

NET = Path("/proc/sys/net")
_MAX_STATE = 256 << 10


@dataclass(frozen=True, slots=True)
class SysctlChange:
    """One setting: what it was, and what the server needs."""

    setting: str
    """Below /proc/sys/net."""
    before: str
    wanted: str


class Forwarding:
    """The changes of one server. `state`: the file of what to put back."""

    def __init__(self, state: Path, net: Path = NET) -> None:
        self._state = state
        self._net = net

    def enable(self, device: str, uplinks: Iterable[str], versions: Iterable[int]) -> tuple[SysctlChange, ...]:
        """Let packets pass between the tunnel device and the uplinks. NetworkError: the kernel does not take it."""
        links = tuple(dict.fromkeys((device, *uplinks)))
        changes: list[SysctlChange] = []
        for version in versions:
            wanted = self._ipv4(links) if version == 4 else self._ipv6(links)
            changes += [
                SysctlChange(setting, before, value)
                for setting, value in wanted
                if (before := self._read(setting)) is not None and before != value
            ]
        rows = [[change.setting, change.before, change.wanted] for change in changes]
        write_atomically(self._state, json.dumps(rows).encode())
        for change in changes:
            self._write(change.setting, change.wanted)
        return tuple(changes)

    def put_back(self) -> bool:
        """Put back what a server has changed, also one that was killed; what others have changed since then stays.

        Returns whether there was something.
        """
        try:
            rows = json.loads(self._state.read_bytes()[:_MAX_STATE])
            changes = [SysctlChange(*map(str, row)) for row in rows]
        except FileNotFoundError:
            return False
        except (OSError, ValueError, TypeError) as error:
            raise NetworkError(f"{self._state}: unreadable ({error}); check forwarding, then remove the file") from None
        for change in reversed(changes):
            if _is_name(change.setting) and self._read(change.setting) == change.wanted:
                self._write(change.setting, change.before)
        self._state.unlink(missing_ok=True)
        return bool(changes)

    def _ipv4(self, links: Iterable[str]) -> Iterator[tuple[str, str]]:
        for link in links:
            yield f"ipv4/conf/{link}/forwarding", "1"

    def _ipv6(self, links: tuple[str, ...]) -> Iterator[tuple[str, str]]:
        if self._read(f"ipv6/conf/{links[0]}/force_forwarding") is not None:
            for link in links:
                yield f"ipv6/conf/{link}/force_forwarding", "1"
            return
        if self._read("ipv6/conf/all/forwarding") == "1":
            return
        for link in links[1:]:
            if self._read(f"ipv6/conf/{link}/accept_ra") == "1":
                yield f"ipv6/conf/{link}/accept_ra", "2"
        yield "ipv6/conf/all/forwarding", "1"

    def _read(self, setting: str) -> str | None:
        try:
            return (self._net / setting).read_text().strip()
        except OSError:
            return None

    def _write(self, setting: str, value: str) -> None:
        try:
            (self._net / setting).write_text(value)
        except FileNotFoundError:  # the interface is gone, and its setting with it
            return
        except OSError as error:
            raise NetworkError(f"{self._net / setting}: {error.strerror}: forwarding needs CAP_NET_ADMIN") from None


def _is_name(setting: str) -> bool:
    """Whether a setting of the state file is one that `enable` writes."""
    parts = setting.split("/")
    return len(parts) == 4 and parts[0] in ("ipv4", "ipv6") and parts[1] == "conf" and ".." not in parts
