"""The content of resolv.conf(5), and which program keeps it on a host. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from warren_vpn.host.changes import Address

DnsMode = Literal["resolved", "resolvconf", "file"]
MAX_SERVERS = 3  # resolv.conf(5): MAXNS
STUB = "127.0.0.53"
"""Where systemd-resolved listens (systemd-resolved.service(8))."""


@dataclass(frozen=True, slots=True)
class DnsFacts:
    """What the host has."""

    resolved_runs: bool
    """resolvectl is installed, and systemd-resolved's socket is there."""
    has_resolvconf: bool
    """resolvconf is installed, and is not resolvectl under another name."""
    resolv_conf: str
    """The content of /etc/resolv.conf; empty if there is none."""


def choose_mode(facts: DnsFacts) -> DnsMode:
    """The program that keeps the file: systemd-resolved if the file names it, else resolvconf if it is installed, else none."""
    if facts.resolved_runs and STUB in nameservers(facts.resolv_conf):
        return "resolved"
    return "resolvconf" if facts.has_resolvconf else "file"


def nameservers(content: str) -> list[str]:
    """The servers that a resolv.conf names."""
    lines = (line.split() for line in content.splitlines())
    return [words[1] for words in lines if len(words) > 1 and words[0] == "nameserver"]


def build_resolv_conf(servers: Sequence[Address], search: Sequence[str]) -> str:
    """The content of the file: at most three servers are read."""
    lines = ["# Written by `warren vpn client`; the former file comes back when it stops (`warren vpn restore`)."]
    lines += [f"nameserver {server}" for server in servers[:MAX_SERVERS]]
    if search:
        lines.append(f"search {' '.join(search)}")
    return "\n".join(lines) + "\n"


def build_record(servers: Sequence[Address], search: Sequence[str]) -> str:
    """The record that resolvconf(8) reads from its standard input."""
    lines = [f"nameserver {server}" for server in servers]
    if search:
        lines.append(f"search {' '.join(search)}")
    return "\n".join(lines) + "\n"


def domain_arguments(search: Sequence[str], *, everything: bool) -> list[str]:
    """The arguments of `resolvectl domain`; `~.` routes every name to the device's servers."""
    return [*search, *(["~."] if everything else [])]
