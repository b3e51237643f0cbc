"""Rules of routing that lead what tunnels must not take past charon's routing table. Pure.

charon's table is looked up before the main one (rule 220 of kernel-netlink); a tunnel whose selectors contain one of the host's own
networks, or a service that the host needs, has a route there that would take its packets. A rule before it looks them up in the main
table. Packets of the host itself have `iif lo` (ip-rule(8)).
"""

from collections.abc import Iterable, Mapping
from typing import Any

from warren_contracts.guard import Bypass, LocalNetwork
from warren_guard.domain.interfaces import ROUTE_PROTOCOL

PRIORITY = 190  # before charon's 220; the guard owns the rules of this priority and its protocol
_PROTOCOLS = {6: "tcp", 17: "udp"}

# The arguments of ip-rule(8) after `add` and `del`.
Rule = str


def wanted_rules(bypass: Iterable[Bypass], networks: Iterable[LocalNetwork]) -> dict[int, set[Rule]]:
    """The rules by family."""
    found: dict[int, set[Rule]] = {4: set(), 6: set()}
    for service in bypass:
        if service.routed:
            where = f"iif lo ipproto {_PROTOCOLS[service.protocol]} dport {service.port}"
            found[service.address.version].add(_rule(str(service.address), where))
    for local in networks:
        network = local.network
        text = str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)
        found[network.version].add(_rule(text, "" if local.behind else "iif lo"))
    return found


def held_rules(listed: Iterable[Mapping[str, Any]]) -> set[Rule]:
    """The guard's own rules in a listing of `ip -json -details rule show`."""
    found = set()
    for rule in listed:
        if rule.get("priority") != PRIORITY or str(rule.get("protocol")) != ROUTE_PROTOCOL or "dst" not in rule:
            continue
        text = str(rule["dst"]) + (f"/{rule['dstlen']}" if "dstlen" in rule else "")
        words = [f"iif {rule['iif']}"] if "iif" in rule else []
        words += [f"ipproto {rule['ipproto']} dport {rule['dport']}"] if "ipproto" in rule and "dport" in rule else []
        found.add(_rule(text, " ".join(words)))
    return found


def changes(wanted: set[Rule], held: set[Rule]) -> list[str]:
    """The commands that lead from one to the other: what is missing first, so that nothing is led astray meanwhile."""
    return [f"rule add {it}" for it in sorted(wanted - held)] + [f"rule del {it}" for it in sorted(held - wanted)]


def _rule(destination: str, where: str) -> Rule:
    return " ".join(f"priority {PRIORITY} to {destination} {where} lookup main protocol {ROUTE_PROTOCOL}".split())
