"""A derived tunnel with addresses in place of names, in the order in which they are called. Pure."""

from collections.abc import Callable, Iterable, Sequence

from warren_contracts.addresses import IKE_PORT, Endpoint, IPAddress
from warren_contracts.tunnel import Tunnel

Lookup = Callable[[str], tuple[IPAddress, ...]]
Owns = Callable[[IPAddress], bool]


def names_of(tunnel: Tunnel) -> set[str]:
    """The host names among the addresses of both ends."""
    endpoints = (*tunnel.local_endpoints, *tunnel.remote_endpoints)
    return {endpoint.host for endpoint in endpoints if isinstance(endpoint.host, str)}


def resolved_endpoints(endpoints: Iterable[Endpoint], lookup: Lookup) -> tuple[Endpoint, ...]:
    """The endpoints in order, each name replaced by all its addresses, without repetitions."""
    found: dict[Endpoint, None] = {}
    for endpoint in endpoints:
        hosts = lookup(endpoint.host) if isinstance(endpoint.host, str) else (endpoint.host,)
        found |= dict.fromkeys(Endpoint(host, endpoint.port) for host in hosts)
    return tuple(found)


def effective(
    tunnel: Tunnel, remote: Sequence[Endpoint], chosen: Endpoint | None, lookup: Lookup, owns: Owns
) -> Tunnel:
    """The tunnel as a driver gets it.

    `remote` are the addresses of the other end, `chosen` the one that is called. The others stay acceptable if the peer calls
    from one of them, unless they come from a name: then every change of the name would change the tunnel.
    """
    local = _local(tunnel, lookup, owns)
    if chosen is not None:
        literal = [endpoint for endpoint in tunnel.remote_endpoints if not isinstance(endpoint.host, str)]
        remote = (chosen, *(endpoint for endpoint in literal if endpoint.host != chosen.host))
    port = remote[0].port if remote else None
    called = tuple(dict.fromkeys(Endpoint(endpoint.host, port) for endpoint in remote))
    if (local, called) == (tunnel.local_endpoints, tunnel.remote_endpoints):
        return tunnel
    return tunnel.model_copy(update={"local_endpoints": local, "remote_endpoints": called})


def _local(tunnel: Tunnel, lookup: Lookup, owns: Owns) -> tuple[Endpoint, ...]:
    """This end's addresses. A daemon listens at one port, so that different ones can only be those of a NAT in front of it."""
    local = tunnel.local_endpoints
    if names_of(tunnel.model_copy(update={"remote_endpoints": ()})):
        local = tuple(it for it in resolved_endpoints(local, lookup) if not isinstance(it.host, str) and owns(it.host))
    if len({endpoint.port or IKE_PORT for endpoint in local}) > 1:
        local = tuple(dict.fromkeys(Endpoint(endpoint.host) for endpoint in local))
    return local
