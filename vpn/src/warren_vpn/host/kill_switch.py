"""The kill switch as text for `nft -f -`: one transaction that replaces our table. Pure.

Packets are looked at last of all, in postrouting after source NAT, where those of the host and those that it forwards pass. In full
tunnel nothing leaves but through the tunnel and loopback, except IKE and ESP to the servers, DHCP, the neighbour and router discovery
without which IPv6 reaches no server, and the client's own questions for the servers' names while it asks them. In split tunnel the
same holds for the tunnel's routes only.
"""

from collections.abc import Iterable, Iterator, Sequence

from warren_vpn.host.changes import KillSwitchChange, Network, Passage, without_zone, zone_of

TABLE = "warren_vpn_client"
REMOVE = f"table inet {TABLE}\ndelete table inet {TABLE}\n"
_FAMILY = {4: ("ip", "ipv4_addr"), 6: ("ip6", "ipv6_addr")}
_QUESTIONS_SECONDS = 15
"""After which the kernel itself forgets a passage: longer than a question lasts, also one of a client that was killed."""
_AFTER_NAT = 300  # source NAT is at 100; connection tracking confirms at INT_MAX


def build_table(change: KillSwitchChange) -> str:
    """The transaction."""
    whole: set[int] = {network.version for network in change.protected if network.prefixlen == 0}
    parts = [f"{REMOVE}table inet {TABLE} {{\n"]
    for version in (4, 6):
        parts += _set(f"protected{version}", version, [n for n in change.protected if n.prefixlen])
        parts += _set(f"local{version}", version, change.local)
        parts += _questions(version, change.questions)
    parts += _link_questions(change.questions)
    parts.append("  chain outgoing {\n")
    parts.append(f"    type filter hook postrouting priority {_AFTER_NAT}; policy accept;\n")
    parts += [f"    {rule}\n" for rule in _rules(change, whole)]
    parts.append("  }\n}\n")
    return "".join(parts)


def _rules(change: KillSwitchChange, whole: set[int]) -> Iterator[str]:
    yield f'oifname {{ "lo", "{change.device}" }} accept'
    for address, port in change.servers:
        yield f"{_FAMILY[address.version][0]} daddr {address} udp dport {port} accept"
    if any(zone_of(server) for server, _ in change.questions):
        yield "oifname . ip6 daddr . udp sport @link_questions udp dport 53 accept"
    for version in sorted({server.version for server, _ in change.questions if not zone_of(server)}):
        yield f"{_FAMILY[version][0]} daddr . udp sport @questions{version} udp dport 53 accept"
    yield "meta nfproto ipv4 udp sport 68 udp dport 67 accept"
    yield "meta nfproto ipv6 udp sport 546 udp dport 547 accept"
    yield "icmpv6 type { nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert } ip6 hoplimit 255 accept"
    for version in (4, 6):
        word = _FAMILY[version][0]
        if any(network.version == version for network in change.local):
            yield f"{word} daddr @local{version} accept"
        if version in whole:
            yield f"meta nfproto ipv{version} counter drop"
        elif any(network.version == version for network in change.protected):
            yield f"{word} daddr @protected{version} counter drop"


def _questions(version: int, questions: Sequence[Passage]) -> Iterable[str]:
    elements = ", ".join(
        f"{server} . {port} timeout {_QUESTIONS_SECONDS}s"
        for server, port in questions
        if server.version == version and not zone_of(server)
    )
    if elements:
        kind = f"{_FAMILY[version][1]} . inet_service"
        yield f"  set questions{version} {{\n    type {kind}; flags timeout; elements = {{ {elements} }}\n  }}\n"


def _link_questions(questions: Sequence[Passage]) -> Iterable[str]:
    """A link-local server is another one on each link."""
    elements = ", ".join(
        f'"{zone}" . {without_zone(server)} . {port} timeout {_QUESTIONS_SECONDS}s'
        for server, port in questions
        if (zone := zone_of(server))
    )
    if elements:
        kind = "ifname . ipv6_addr . inet_service"
        yield f"  set link_questions {{\n    type {kind}; flags timeout; elements = {{ {elements} }}\n  }}\n"


def _set(name: str, version: int, networks: Sequence[Network]) -> Iterable[str]:
    elements = ", ".join(str(network) for network in networks if network.version == version)
    if elements:
        kind = _FAMILY[version][1]
        yield f"  set {name} {{\n    type {kind}; flags interval; auto-merge; elements = {{ {elements} }}\n  }}\n"
