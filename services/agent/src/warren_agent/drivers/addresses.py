"""Which of a peer's announced addresses this host really has."""

import errno
import socket
from collections.abc import Callable

from warren_contracts.addresses import IPAddress
from warren_contracts.tunnel import Tunnel

Owns = Callable[[IPAddress], bool]


def host_owns(address: IPAddress) -> bool:
    """Whether an address is one of this host's: a socket can be bound to it. In doubt (no rights, no family) yes."""
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError as error:
        return error.errno != errno.EADDRNOTAVAIL
    return True


def with_own_addresses(config: Tunnel, owns: Owns) -> Tunnel:
    """The configuration without local addresses that the host does not have.

    A gateway behind one-to-one NAT announces the address outside, which its daemon could neither send from nor listen on.
    With none left the daemon chooses.
    """
    kept = tuple(it for it in config.local_endpoints if isinstance(it.host, str) or owns(it.host))
    return config if kept == config.local_endpoints else config.model_copy(update={"local_endpoints": kept})
