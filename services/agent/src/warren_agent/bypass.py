"""Keeps the host in reach of its own networks, its name servers and the bus, whatever the tunnels' selectors contain."""

import contextlib
import socket
import struct
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path

import structlog

from warren_agent.domain.surroundings import (
    Needs,
    Surroundings,
    needs,
    parse_resolvers,
    parse_routes,
    parse_routes6,
    part_of_local,
)
from warren_agent.drivers.port import Bypassed
from warren_agent.host import own_addresses
from warren_contracts.addresses import IPAddress
from warren_contracts.guard import Bypass, LocalNetwork
from warren_contracts.protection import LocalBypass
from warren_contracts.status import ReasonCode
from warren_contracts.tunnel import Tunnel

log = structlog.get_logger("warren_agent")

_ROUTES, _ROUTES6 = Path("/proc/self/net/route"), Path("/proc/self/net/ipv6_route")
_RESOLVERS = (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf"))
_SIOCGIFHWADDR = 0x8927  # netdevice(7)
# if_arp.h: Ethernet, PPP, InfiniBand, IEEE 802.11. Tunnels (TUN and XFRM interfaces, GRE, IPIP) have other types.
_LINK_TYPES = frozenset({1, 32, 512, 801})

Servers = Callable[[], Awaitable[tuple[Bypass, ...]]]
Look = Callable[[], Awaitable[Surroundings]]


class HostSurroundings:
    """Reads them; `servers` are the addresses of the bus."""

    def __init__(self, servers: Servers) -> None:
        self._servers = servers

    async def __call__(self) -> Surroundings:
        """What is around now; what cannot be read is not known."""
        routes = (*parse_routes(_read(_ROUTES), _is_link), *parse_routes6(_read(_ROUTES6), _is_link))
        resolvers = [address for path in _RESOLVERS for address in parse_resolvers(_read(path))]
        return Surroundings(routes, own_addresses(), tuple(dict.fromkeys(resolvers)), await self._servers())


class LocalReach:
    """What must pass the tunnels by, and which tunnels are refused for it. Without `look` nothing is known."""

    def __init__(self, look: Look | None = None) -> None:
        self._look = look
        self._tunnels: tuple[Tunnel, ...] = ()
        self._reported: Needs | None = None
        self.around = Surroundings()
        self.needed = Needs()  # of all tunnels that allow it

    async def update(self, tunnels: Iterable[Tunnel], running: Mapping[str, Tunnel] | None = None) -> None:
        """Look around, and decide for these tunnels. `running` are the configurations that drivers hold: that of a tunnel which is
        refused stays, and with it what it would cut off."""
        if self._look is None:
            return
        self._tunnels = tuple(tunnels)
        self.around = await self._look()
        networks: dict[LocalNetwork, None] = {}
        services: dict[Bypass, None] = {}
        for tunnel in self._tunnels:
            needed = needs(tunnel, self.around)
            if needed and self._forbidden(tunnel, needed):
                former = (running or {}).get(tunnel.name)
                needed = Needs() if former is None else needs(former, self.around)
            if needed:
                networks |= dict.fromkeys(needed.networks)
                services |= dict.fromkeys(needed.services)
        self.needed = Needs(tuple(networks), tuple(services))
        if self.needed != (self._reported or Needs()):
            log.info("bypass.needed", what=str(self.needed) or "nothing")
        self._reported = self.needed

    async def has_changed(self) -> bool:
        """Whether the surroundings differ from those of the last `update`."""
        return self._look is not None and await self._look() != self.around

    @property
    def services(self) -> tuple[Bypass, ...]:
        """What the host itself may always reach in clear: the bus, and what a tunnel would take."""
        taken = {(it.address, it.protocol, it.port) for it in self.needed.services}
        others = (it for it in self.around.servers if (it.address, it.protocol, it.port) not in taken)
        return (*self.needed.services, *others)[:64]

    def taken(self, address: IPAddress) -> bool:
        """Whether a tunnel's selectors contain the address of a service: then who answers there may be at the tunnel's other end."""
        return any(it.address == address for it in self.needed.services)

    def bypassed(self) -> Bypassed:
        """The same for a driver: gateways and services as hosts, with the local addresses that reach them."""
        networks = [it.network for it in self.needed.networks]
        hosts = [it.network_address for it in networks if it.prefixlen == it.max_prefixlen]
        hosts += [it.address for it in self.needed.services]
        return Bypassed(
            tuple(it for it in networks if it.prefixlen < it.max_prefixlen),
            tuple((self.around.source_of(host), host) for host in dict.fromkeys(hosts)),
        )

    def refusal(self, config: Tunnel, unavailable: str) -> tuple[ReasonCode, str] | None:
        """Why a tunnel must not be applied; `unavailable` is why nothing can pass tunnels by here, empty if it can."""
        if self._look is None or not (needed := needs(config, self.around)):
            return None
        if reason := self._forbidden(config, needed):
            return ReasonCode.BYPASS_FORBIDDEN, reason
        if unavailable:
            reason = (
                f"its selectors contain {needed}, which it would cut off, and {unavailable}: or narrow the selectors"
            )
            return ReasonCode.BYPASS_UNAVAILABLE, f"{config.name}: {reason}"
        return None

    def _forbidden(self, tunnel: Tunnel, needed: Needs) -> str:
        if tunnel.bypass is LocalBypass.FORBID:
            return (
                f"{tunnel.name}: bypass: forbid: its selectors contain {needed}, which it would cut off: narrow them, or set"
                " `bypass: allow`"
            )
        for local in needed.networks:
            if other := part_of_local(self._tunnels, local.network):
                return (
                    f"{tunnel.name}: its selectors contain the local network {local.network}, of which {other} takes a part:"
                    " narrow them"
                )
        return ""


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _is_link(device: str) -> bool:
    """Whether a device is a link, and no tunnel and not the loopback."""
    import fcntl  # not on every platform

    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        answer = fcntl.ioctl(asking, _SIOCGIFHWADDR, struct.pack("40s", device.encode()[:15]))
        return struct.unpack_from("H", answer, 16)[0] in _LINK_TYPES
    return False
