"""The host's side of the tunnel: its TUN device, what is configured on it, and the kill switch."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path

from warren_ikev2.addresses import SocketAddress
from warren_ikev2.aio.session import Session
from warren_ikev2.aio.udp import local_address_for
from warren_ikev2.dataplane.tun import OffloadTun, link_settings
from warren_vpn.client import verify
from warren_vpn.client.servers import ServerCandidate
from warren_vpn.host.changes import (
    Address,
    AddressChange,
    Change,
    DnsChange,
    Interface,
    KillSwitchChange,
    LinkChange,
    Network,
    Passage,
    ResolvconfChange,
    ResolvConfFileChange,
    ResolvedChange,
    RouteChange,
    RuleChange,
)
from warren_vpn.host.dns import RESOLV_CONF, dns_change
from warren_vpn.host.errors import HostError
from warren_vpn.host.host import Host
from warren_vpn.host.plan import (
    TABLE,
    KillSwitch,
    ServerEndpoint,
    TunnelPlan,
    kill_switch_change,
    local_networks,
    question_rules,
    server_rules,
    tunnel_changes,
)
from warren_vpn.host.resolv_conf import build_resolv_conf
from warren_vpn.host.routing import open_routing
from warren_vpn.profiles.profile import ClientProfile

_ROUTING = (AddressChange, RouteChange, RuleChange)
_DNS = (ResolvedChange, ResolvconfChange, ResolvConfFileChange)


@dataclass(frozen=True, slots=True)
class HostNetwork:
    """How the host is connected."""

    interfaces: frozenset[Interface] = frozenset()
    hosts: tuple[str, ...] = ()
    """Its addresses of the server's IP version, first the one that the kernel sends from; none without a route to the server."""


@dataclass(frozen=True, slots=True)
class TunnelFacts:
    """What is in force while the tunnel is up."""

    addresses: tuple[Address, ...]
    dns: tuple[Address, ...]
    mtu: int
    remarks: tuple[str, ...]
    """What the server offered and the client did not take, in words."""


class HostTunnel:
    """The one tunnel of this host."""

    def __init__(
        self,
        host: Host,
        profile: ClientProfile,
        endpoints: Sequence[ServerEndpoint],
        device: str,
        kill_switch: KillSwitch,
        resolv_conf: Path = RESOLV_CONF,
    ) -> None:
        self._host = host
        self._profile = profile
        self._endpoints = tuple(endpoints)
        self._kill_switch = kill_switch
        self._resolv_conf = resolv_conf
        self._addresses: tuple[Address, ...] = ()
        self._passages: tuple[Passage, ...] = ()
        self._changing = asyncio.Lock()
        """Held while rules and kill switch are changed, so that each change is a whole one."""
        self.device = device
        self.tun: OffloadTun | None = None

    @property
    def changes(self) -> tuple[Change, ...]:
        """What is in force on the host."""
        return self._host.record.changes

    @property
    def has_kill_switch(self) -> bool:
        """Whether the kernel has taken the kill switch."""
        return self._host.has_kill_switch

    @property
    def is_in_force(self) -> bool:
        """Whether packets of the host go into the tunnel or are blocked, its resolver's too."""
        return any(isinstance(one, (KillSwitchChange, RuleChange, *_DNS)) for one in self.changes)

    async def set_endpoints(
        self, endpoints: Sequence[ServerEndpoint], remembered: Mapping[str, tuple[Address, ...]]
    ) -> None:
        """Let IKE and ESP pass to these servers, and to no others. `remembered`: their names' addresses, for the next run. HostError."""
        self._host.remember(dict(remembered))
        if tuple(endpoints) != self._endpoints:
            self._endpoints = tuple(endpoints)
            await self._renew_rules()

    @asynccontextmanager
    async def passages(self, passages: tuple[Passage, ...]) -> AsyncIterator[None]:
        """Let questions to DNS servers pass while the context lasts. HostError."""
        self._passages = passages
        try:
            await self._renew_rules()
            yield
        finally:
            self._passages = ()
            await self._renew_rules()

    async def open(self) -> OffloadTun:
        """The TUN device, made if there is none. HostError."""
        if self.tun is None:
            await self._host.apply([LinkChange(device=self.device)])
            try:
                self.tun = OffloadTun(self.device)
            except OSError as error:
                raise HostError(
                    f"{self.device}: cannot create the TUN device ({error.strerror});"
                    " it needs root, /dev/net/tun, and no other program with a device of this name"
                ) from None
        return self.tun

    async def index(self) -> int | None:
        """The device's index."""
        async with open_routing() as routing:
            return await routing.index_of(self.device)

    async def interfaces(self) -> list[Interface]:
        """The host's own addresses, without those of the tunnel and of loopback."""
        async with open_routing() as routing:
            return await routing.interfaces(self.device)

    async def network(self, remote: SocketAddress) -> HostNetwork:
        """The host's addresses, and from which of them the server may be reached now."""
        interfaces = await self.interfaces()
        try:
            chosen = local_address_for(remote)
        except OSError:
            return HostNetwork(frozenset(interfaces))
        if chosen in self._addresses:  # without a route in the main table the tunnel's own is found
            return HostNetwork(frozenset(interfaces))
        others = sorted(str(one.ip) for one in interfaces if one.version == chosen.version)
        return HostNetwork(frozenset(interfaces), tuple(dict.fromkeys((str(chosen), *others))))

    async def configure(self, candidate: ServerCandidate, session: Session) -> TunnelFacts:
        """Check what the server assigned, and let the host use it. ServerRefusedError, HostError."""
        profile, network = self._profile, session.info.network
        interfaces = await self.interfaces()
        addresses = verify.accepted_addresses(network, candidate.endpoint.address, interfaces)
        for child in session.children.values():
            verify.check_selectors(child, addresses, profile.routes)
        versions: set[int] = {address.version for address in addresses}
        outside = (*self._local(interfaces), *(ip_network(one.ip) for one in interfaces))
        dns, refused = verify.accepted_dns(network, profile.dns_servers, profile.routes, outside)
        mtu = min(profile.mtu or session.mtu, session.mtu)
        self._addresses = addresses
        async with self._changing:
            if self._kill_switch != "off":
                await self.apply_kill_switch(interfaces)
            async with open_routing() as routing:
                await routing.bring_up(self.device, link_settings(mtu))
            await self._host.replace(_ROUTING, self._routing(interfaces))
            await self._configure_dns(dns)
        remarks = [f"the server's DNS server {one} is not inside the tunnel and is not used" for one in refused]
        wider = verify.refused_subnets(network, profile.routes)
        remarks += [
            f"the server announces {one}, which is not among the profile's routes and is not added" for one in wider
        ]
        missing = sorted({route.version for route in profile.routes} - versions)
        remarks += [
            f"the server assigned no IPv{one} address: IPv{one} of the routes is unreachable" for one in missing
        ]
        return TunnelFacts(addresses, dns, mtu, tuple(remarks))

    async def apply_kill_switch(self, interfaces: Sequence[Interface]) -> None:
        """Let nothing of the routes leave but through the tunnel. HostError."""
        local = self._local(interfaces)
        change = kill_switch_change(
            self.device, self._endpoints, self._profile.routes, local, self._kill_switch, self._passages
        )
        if change is not None:
            await self._host.apply([change])

    async def follow(self, network: HostNetwork) -> None:
        """Adapt rules and kill switch to changed addresses of the host. HostError."""
        await self._renew_rules(tuple(network.interfaces))

    async def _renew_rules(self, interfaces: Sequence[Interface] | None = None) -> None:
        """Let rules and kill switch, as far as they are in force, fit the present addresses, servers and questions. HostError."""
        async with self._changing:
            if not self.is_in_force:
                return
            if interfaces is None:
                interfaces = await self.interfaces()
            if self._host.kill_switch is not None:
                await self.apply_kill_switch(interfaces)
            if any(isinstance(one, RuleChange) for one in self.changes):
                await self._host.replace(_ROUTING, self._routing(interfaces))

    async def drop(self) -> None:
        """The device is gone, and what was on it: until the next one, its routes are unreachable. HostError."""
        if self.tun is not None:
            self.tun.close()
            self.tun = None
        changes = self._host.record.changes
        gone = [one for one in changes if isinstance(one, LinkChange | AddressChange | ResolvedChange)]
        self._host.forget(gone)
        routes = [one for one in changes if isinstance(one, RouteChange)]
        await self._host.apply([RouteChange(network=one.network, table=TABLE, device=None) for one in routes])

    async def restore(self, *, kill_switch: bool) -> list[str]:
        """Put everything back, the kill switch only if `kill_switch`; returns what could not be put back, in words."""
        problems = await self._host.restore(kill_switch=kill_switch)
        if self.tun is not None:
            self.tun.close()
            self.tun = None
        return problems

    async def counters(self) -> dict[str, int]:
        """Bytes and packets of the TUN device."""
        async with open_routing() as routing:
            return await routing.counters(self.device)

    def _local(self, interfaces: Sequence[Interface]) -> tuple[Network, ...]:
        return local_networks(interfaces, self._profile.routes, strict=self._kill_switch != "off")

    def _routing(self, interfaces: Sequence[Interface]) -> list[AddressChange | RouteChange | RuleChange]:
        plan = TunnelPlan(self.device, self._profile.routes, self._addresses)
        tunnel = [one for one in tunnel_changes(plan, self._local(interfaces)) if isinstance(one, _ROUTING)]
        return [*server_rules(self._endpoints), *question_rules(self._passages), *tunnel]

    async def _configure_dns(self, servers: tuple[Address, ...]) -> None:
        profile = self._profile
        present = next((one for one in self._host.record.changes if isinstance(one, _DNS)), None)
        if not servers:
            await self._host.replace(_DNS, [])
            return
        wanted: DnsChange
        if isinstance(present, ResolvConfFileChange):
            wanted = present.rewritten(build_resolv_conf(servers, profile.search_domains))
        else:
            wanted = dns_change(
                self.device, servers, profile.search_domains, everything=profile.is_full_tunnel, path=self._resolv_conf
            )
        await self._host.replace(_DNS, [wanted])
