"""The server's nftables table as text for `nft -f -`: one transaction that replaces it. Pure.

Forwarding between the tunnel device and the rest: clients reach each other only if that is allowed, and nobody outside can use an
address of the pools. Clients reach neither what is the server's alone, its links and the metadata service of its cloud, nor, unless that is
allowed, services on its host. The table accepts nothing that another table drops: a host's own firewall stays in force.
"""

from collections.abc import Iterable, Sequence
from ipaddress import ip_network

from warren_vpn.server.settings import Network, TunnelSettings

TABLE = "warren_vpn"
_NEVER = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "::/127",
        "fe80::/10",
        "ff00::/8",
        "fd00:ec2::254",
    )
)
"""Destinations that mean the server's own links: this network, loopback, link-local, multicast, reserved and broadcast (RFC 6890).
Clouds serve their machines' credentials at 169.254.169.254, Amazon's also at fd00:ec2::254: with the server's own address a client
would get them."""
_WORDS = {4: ("ip", "ipv4_addr"), 6: ("ip6", "ipv6_addr")}
_INPUT, _FORWARD, _BEFORE_CONNECTION_TRACKING, _SOURCE_NAT = 0, 0, -300, 100
"""Priorities of the hooks (nft(8), "priority")."""


def build_table(tunnel: TunnelSettings) -> str:
    """The transaction that makes the table, in place of one that is there."""
    device = f'"{tunnel.device}"'
    pools = {version: [pool for pool in tunnel.pools if pool.version == version] for version in (4, 6)}
    parts = [*_begin(), f"table inet {TABLE} {{\n"]
    parts += [_set(version, networks) for version, networks in pools.items() if networks]
    parts.append(
        _chain("spoofed", f"filter hook prerouting priority {_BEFORE_CONNECTION_TRACKING}", _spoofed(device, pools))
    )
    parts.append(
        _chain("local", f"filter hook prerouting priority {_BEFORE_CONNECTION_TRACKING}", _local(device, tunnel))
    )
    if not tunnel.server_services:
        parts.append(_chain("services", f"filter hook input priority {_INPUT}", _services(device, tunnel)))
    parts.append(_chain("forwarded", f"filter hook forward priority {_FORWARD}", _forwarded(device, tunnel)))
    if tunnel.nat:
        parts.append(_chain("translated", f"nat hook postrouting priority {_SOURCE_NAT}", _translated(device, pools)))
    return "".join((*parts, "}\n"))


def remove_table() -> str:
    """The transaction that removes the table, whether it is there or not."""
    return "".join(_begin())


def _begin() -> Sequence[str]:
    return (f"table inet {TABLE}\n", f"delete table inet {TABLE}\n")


def _spoofed(device: str, pools: dict[int, list[Network]]) -> Iterable[str]:
    """Addresses of the pools belong to the tunnel, whichever interface a packet claims to come from."""
    for version, networks in pools.items():
        if networks:
            word = _WORDS[version][0]
            yield f"iifname != {{ {device}, lo }} {word} saddr @pool{version} counter drop"


def _local(device: str, tunnel: TunnelSettings) -> Iterable[str]:
    """What is the server's alone, unless `networks` names a part of it."""
    named = [network for network in tunnel.networks if network.prefixlen]
    for block in _NEVER:
        if not any(block.version == network.version and block.overlaps(network) for network in named):
            yield f"iifname {device} {_WORDS[block.version][0]} daddr {block} counter drop"


def _services(device: str, tunnel: TunnelSettings) -> Iterable[str]:
    """On the server's host clients reach the DNS servers that they were given, and get answers to pings and errors."""
    for address in tunnel.dns:
        yield f"iifname {device} {_WORDS[address.version][0]} daddr {address} meta l4proto {{ tcp, udp }} th dport 53 accept"
    yield f"iifname {device} meta l4proto {{ icmp, ipv6-icmp }} accept"
    yield f"iifname {device} ct state != {{ established, related }} counter drop"


def _forwarded(device: str, tunnel: TunnelSettings) -> Iterable[str]:
    if not tunnel.client_to_client:
        yield f"iifname {device} oifname {device} counter drop"
    # TCP's segments fit the tunnel also where ICMP errors are filtered; a smaller size stays (nft(8), "EXTENSION HEADER")
    for word in ("iifname", "oifname"):
        for family, headers in (("ipv4", 40), ("ipv6", 60)):
            yield (
                f"{word} {device} meta nfproto {family} tcp flags syn / syn,rst"
                f" tcp option maxseg size set {tunnel.mtu - headers}"
            )


def _translated(device: str, pools: dict[int, list[Network]]) -> Iterable[str]:
    for version, networks in pools.items():
        if networks:
            yield f"oifname != {device} {_WORDS[version][0]} saddr @pool{version} masquerade"


def _set(version: int, networks: Sequence[Network]) -> str:
    elements = ", ".join(map(str, networks))
    return f"  set pool{version} {{\n    type {_WORDS[version][1]}; flags interval; elements = {{ {elements} }}\n  }}\n"


def _chain(name: str, hook: str, rules: Iterable[str]) -> str:
    lines = "".join(f"    {rule}\n" for rule in rules)
    return f"  chain {name} {{\n    type {hook}; policy accept;\n{lines}  }}\n"
