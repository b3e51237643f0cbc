"""Ports of this machine: taken ones are named before anything starts."""

import secrets
import socket
from collections.abc import Mapping
from contextlib import suppress
from ipaddress import ip_address

from psutil import net_if_addrs

from warren_stack.errors import LocalError

_FAMILIES = (socket.AF_INET, socket.AF_INET6)
# Below the kernel's ephemeral ports: one of those may be taken by any outgoing connection before its server has started.
UNCLAIMED = range(20_000, 32_000)
TRIES = 20


def check_bind(host: str) -> None:
    """Raises LocalError unless `host` is an address (or the name of one) that this machine has."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.bind(address)
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or "no host name"
        raise LocalError(f"{host!r} is not an address of this machine ({why}): choose another with --bind") from None


def reachable_addresses(bind: str) -> tuple[str, ...]:
    """The addresses by which others reach what listens on `bind`: itself, or all of this machine's where it is 0.0.0.0 or ::."""
    try:
        address = ip_address(bind)
    except ValueError:
        return ()  # a name: what it means elsewhere is not known here
    if not address.is_unspecified:
        return (str(address),)
    own = (
        ip_address(it.address.partition("%")[0])
        for them in net_if_addrs().values()
        for it in them
        if it.family in _FAMILIES
    )
    return tuple(sorted({str(it) for it in own if not it.is_loopback}))


def check_distinct(ports: Mapping[str, int]) -> None:
    """Raises LocalError where two options name the same port; 0 is any free one."""
    named: dict[int, str] = {}
    for option, port in ports.items():
        if port and (other := named.setdefault(port, option)) != option:
            raise LocalError(f"{other} and {option} are both {port}: choose another port for one of them")


def choose_port(host: str, wanted: int, option: str) -> int:
    """`wanted` if it is free on `host`, or any free one for 0.

    Raises:
        LocalError: somebody else listens there, or `host` is not an address of this machine.
    """
    if wanted:
        return _bind(host, wanted, option)
    for port in secrets.SystemRandom().sample(UNCLAIMED, TRIES):
        with suppress(LocalError):
            return _bind(host, port, option)
    return _bind(host, 0, option)


def _bind(host: str, port: int, option: str) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port in TIME_WAIT is free
        try:
            probe.bind((host, port))
        except OSError as error:
            what = f"port {port} on {host}" if port else host
            raise LocalError(f"{what} cannot be used: {error.strerror}; choose another with {option}") from error
        return int(probe.getsockname()[1])


def url(scheme: str, host: str, port: int) -> str:
    """A URL; an IPv6 address gets its brackets."""
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
