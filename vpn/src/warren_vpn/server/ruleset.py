"""The server's nftables table as text for `nft -f -`: one transaction that replaces it. Pure.

Forwarding between the tunnel device and the rest: clients reach each other only if that is allowed, and nobody outside can use an
address of the pools. The table accepts nothing that another table drops: a host's own firewall stays in force.
"""

from collections.abc import Iterable, Sequence

from warren_vpn.server.settings import Network, TunnelSettings

TABLE = "warren_vpn"
_WORDS = {4: ("ip", "ipv4_addr"), 6: ("ip6", "ipv6_addr")}
_FORWARD, _BEFORE_CONNECTION_TRACKING, _SOURCE_NAT = 0, -300, 100
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
