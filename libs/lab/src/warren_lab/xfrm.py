"""What a namespace's kernel holds of IPsec: its SAs and policies, as ip-xfrm(8) prints them (it has no JSON), without keys."""

import re
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network

from warren_lab.namespace import Namespace

CHARON_ROUTES = "220"
"""The table of charon's routes (charon.routing_table in strongswan.conf(5))."""

_STATE = re.compile(
    r"^src \S+ dst (?P<to>\S+)\n\s+proto esp spi 0x(?P<spi>[0-9a-f]+)\(\d+\) reqid \d+\S* mode (?P<mode>\w+)"
)
_POLICY = re.compile(r"^src (?P<source>\S+) dst (?P<destination>\S+)[^\n]*\n\s+dir (?P<direction>in|out|fwd) ")
_TRAFFIC = re.compile(r"lifetime current:\s+(\d+)\(bytes\), (\d+)\(packets\)")
_TEMPLATE_SPI = re.compile(r"proto esp spi 0x([0-9a-f]+)")
_MARK = re.compile(r"^\s+mark (\S+)", re.MULTILINE)
_IF_ID = re.compile(r"\bif_id (\S+)")


@dataclass(frozen=True)
class KernelSa:
    """One ESP SA. `spi` is eight hexadecimal digits, as in SAInfo; `destination` is the outer address that it leads to."""

    destination: str
    spi: str
    mode: str
    esn: bool
    udp_encapsulated: bool
    mark: str
    if_id: int
    octets: int
    packets: int


@dataclass(frozen=True)
class KernelPolicy:
    """One policy of the kernel's SPD; `spi` is empty where its template names none (inbound and forwarding ones)."""

    direction: str
    source: IPv4Network | IPv6Network
    destination: IPv4Network | IPv6Network
    spi: str
    mark: str
    if_id: int


def kernel_sas(namespace: Namespace) -> list[KernelSa]:
    """The ESP SAs of a namespace."""
    return parse_sas(namespace.run("ip", "-s", "xfrm", "state", "list", "nokeys"))


def kernel_policies(namespace: Namespace) -> list[KernelPolicy]:
    """The policies of a namespace, but for those of single sockets, by which charon lets its own IKE pass."""
    return parse_policies(namespace.run("ip", "xfrm", "policy", "list"))


def charon_routes(namespace: Namespace) -> list[str]:
    """The routes that charon has made."""
    return namespace.run("ip", "route", "show", "table", CHARON_ROUTES, check=False).splitlines()


def parse_sas(text: str) -> list[KernelSa]:
    """`ip -s xfrm state list`; SAs of other protocols, and larval ones that wait for charon, are left out."""
    found = [(_STATE.match(part), part) for part in _parts(text)]
    return [_sa(match, part) for match, part in found if match is not None]


def parse_policies(text: str) -> list[KernelPolicy]:
    """`ip xfrm policy list`."""
    found = [(_POLICY.match(part), part) for part in _parts(text)]
    return [_policy(match, part) for match, part in found if match is not None]


def _parts(text: str) -> list[str]:
    return re.split(r"^(?=src )", text, flags=re.MULTILINE)


def _sa(match: re.Match[str], part: str) -> KernelSa:
    traffic = _TRAFFIC.search(part)
    return KernelSa(
        destination=match["to"],
        spi=match["spi"].rjust(8, "0"),
        mode=match["mode"],
        esn=re.search(r"\bflag [^\n]*\besn\b", part) is not None,
        udp_encapsulated="encap type espinudp" in part,
        mark=_first(_MARK, part),
        if_id=int(_first(_IF_ID, part) or "0", 0),
        octets=int(traffic[1]) if traffic else 0,
        packets=int(traffic[2]) if traffic else 0,
    )


def _policy(match: re.Match[str], part: str) -> KernelPolicy:
    spi = _first(_TEMPLATE_SPI, part)
    return KernelPolicy(
        direction=match["direction"],
        source=ip_network(match["source"]),
        destination=ip_network(match["destination"]),
        spi=spi.rjust(8, "0") if spi else "",
        mark=_first(_MARK, part),
        if_id=int(_first(_IF_ID, part) or "0", 0),
    )


def _first(pattern: re.Pattern[str], part: str) -> str:
    match = pattern.search(part)
    return match[1] if match else ""
