"""Which names the certificate of a listener is for, and how a process of this machine verifies it."""

import ipaddress
import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress

import psutil

from warren_stack.tls.folder import TlsFolder
from warren_trust.certificates import LOOPBACK


def listener_names(bind: str) -> tuple[str, ...]:
    """The address that it listens on (all of this machine's for a wildcard), this machine's name, and the loopback."""
    found = [bind, *LOOPBACK, *_host_name()]
    with suppress(ValueError):
        if ipaddress.ip_address(bind).is_unspecified:
            found += _addresses()
    return tuple(dict.fromkeys(found))


def client_context(folder: TlsFolder) -> ssl.SSLContext:
    """Trusts the CAs that clients pin, and no other one."""
    return ssl.create_default_context(cafile=str(folder.trusted))


def _host_name() -> Iterator[str]:
    name = socket.gethostname()
    if name and name.isascii() and len(name) <= 253:
        yield name.lower()


def _addresses() -> Iterator[str]:
    """Of the interfaces, without those that only hold on their link."""
    for entries in psutil.net_if_addrs().values():
        for entry in entries:
            with suppress(ValueError):
                if not ipaddress.ip_address(entry.address).is_link_local:
                    yield entry.address


def is_loopback(host: str) -> bool:
    """Whether a listener is reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
