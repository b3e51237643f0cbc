"""Three gateways: one hub, two spokes, each with a WAN link, a management link, a protected subnet and a daemon."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, ip_interface

from warren_lab.capture import Capture
from warren_lab.charon_conf import charon_settings
from warren_lab.lab import Lab
from warren_lab.namespace import Namespace, run
from warren_lab.ping import Ping
from warren_stack.demo.daemon import CharonDaemon, GatewayDaemon, UserspaceDaemon

MANAGEMENT_ADDRESS = IPv4Address("198.18.0.1")
"""Where agents reach the bus: on `lo` of the sandbox (addresses of RFC 2544, which no real network routes)."""


@dataclass(frozen=True)
class AddressPlan:
    """The addresses of one gateway."""

    peer: str
    tag: str
    wan: IPv4Interface
    router: IPv4Interface
    management: IPv4Interface
    management_router: IPv4Interface
    subnet: IPv4Network

    @property
    def inner(self) -> IPv4Address:
        """The gateway's own address in its protected subnet."""
        return self.subnet.network_address + 1


def plan(peer: str, tag: str, index: int) -> AddressPlan:
    """Addresses by number: WAN 203.0.113.0/24 (RFC 5737), management 198.18.1.0/24, protected 10.80.N.0/24."""
    wan, management = IPv4Address("203.0.113.0") + 4 * index, IPv4Address("198.18.1.0") + 4 * index
    return AddressPlan(
        peer=peer,
        tag=tag,
        wan=IPv4Interface(f"{wan + 2}/30"),
        router=IPv4Interface(f"{wan + 1}/30"),
        management=IPv4Interface(f"{management + 2}/30"),
        management_router=IPv4Interface(f"{management + 1}/30"),
        subnet=IPv4Network(f"10.80.{index}.0/24"),
    )


PLANS = (plan("hub", "hub", 0), plan("spoke-1", "branch", 1), plan("spoke-2", "branch", 2))


@dataclass
class Gateway:
    """One gateway of the demo."""

    plan: AddressPlan
    namespace: Namespace
    daemon: GatewayDaemon

    def capture(self, inner: frozenset[IPv4Address]) -> Capture:
        """A capture on its WAN link that watches for these addresses in clear."""
        return Capture(self.namespace, "wan", inner)

    def ping(self, peer: "Gateway") -> Ping:
        """Pings between the protected subnets, every 10 ms."""
        return Ping(self.namespace, self.plan.inner, peer.plan.inner)


def build_fleet(lab: Lab, driver: str) -> dict[str, Gateway]:
    """Make the gateways around one router, and start the daemons of this driver. Addresses exist before."""
    run(["ip", "address", "replace", f"{MANAGEMENT_ADDRESS}/32", "dev", "lo"])
    router = lab.namespace("wan")
    router.enable_forwarding()
    gateways = {}
    for index, plan in enumerate(PLANS):
        namespace = lab.namespace(plan.peer)
        namespace.enable_forwarding()
        lab.link(namespace, "wan", str(plan.wan), router, f"gw{index}", str(plan.router))
        lab.host_link(namespace, "mgmt", str(plan.management), str(plan.management_router))
        namespace.add_default_route(str(plan.router.ip))
        via = ["via", str(plan.management_router.ip), "dev", "mgmt"]
        namespace.run("ip", "route", "add", f"{MANAGEMENT_ADDRESS}/32", *via)
        namespace.add_address("lo", ip_interface(f"{plan.inner}/24"))
        daemon = _make_daemon(lab, namespace, driver)
        daemon.start()
        gateways[plan.peer] = Gateway(plan, namespace, daemon)
    return gateways


def _make_daemon(lab: Lab, namespace: Namespace, driver: str) -> GatewayDaemon:
    if driver == "userspace":
        return UserspaceDaemon(namespace, lab.folder / namespace.name)
    # IKE belongs on the WAN alone; MOBIKE would otherwise offer the management address to the peer.
    return CharonDaemon(lab.charon(namespace, charon_settings(extra={"charon": {"interfaces_use": "wan"}})))


def inner_addresses(gateways: dict[str, Gateway]) -> frozenset[IPv4Address]:
    """What must never be seen in clear."""
    return frozenset(gateway.plan.inner for gateway in gateways.values())
