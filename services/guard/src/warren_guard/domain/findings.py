"""What in a host's network contradicts its tunnels, from nftables' ruleset and the kernel's switches. Pure.

The ruleset has the form of libnftables-json(5). Rules of iptables-nft are part of it; those of iptables-legacy are not visible.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from warren_contracts.guard import FindingCode, HostFinding
from warren_guard.domain.ruleset import TABLE

Rule = Mapping[str, Any]
Statements = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class HostReadings:
    """What was read of a host. `forwarding` by family; `has_xfrm`: the kernel holds outbound IPsec policies.

    `networks` says for which families the gateway forwards other hosts' packets into tunnels.
    """

    ruleset: Sequence[Mapping[str, Any]]
    forwarding: Mapping[int, bool]
    networks: Collection[int]
    devices: Collection[str]
    strict_rp_filter: Collection[str]
    has_xfrm: bool


def find(facts: HostReadings, *, keep_sources: bool) -> tuple[HostFinding, ...]:
    """All findings, masquerading first."""
    return (
        *_masquerade(facts, keep_sources),
        *_forwarding(facts),
        *_forward_drop(facts),
        *_rp_filter(facts),
    )


def _masquerade(facts: HostReadings, keep_sources: bool) -> Iterator[HostFinding]:
    """Source NAT in front of a tunnel: with the new source address no XFRM policy matches the packet any more."""
    for chain, rule in _rules(facts.ruleset, kind="nat", hook="postrouting"):
        statements = _statements(rule)
        if not any(_translates(it) for it in statements) or _spares_tunnels(statements):
            continue
        devices = _output_devices(statements)
        if devices is not None and not facts.has_xfrm and not set(devices) & set(facts.devices):
            continue  # the packets leave by a tunnel device, which the rule does not name
        where = f"{chain['family']} {chain['table']} {chain['name']}"
        detail = f"chain {where} translates the source of packets before they reach an SA, so that none carries them"
        remedy = (
            "a rule of the guard excepts protected traffic" if keep_sources else "add `rt ipsec missing` to the rule"
        )
        yield HostFinding(code=FindingCode.MASQUERADE, detail=f"{detail}: {remedy}"[:1_000], fixed=keep_sources)


def _forwarding(facts: HostReadings) -> Iterator[HostFinding]:
    names = {4: "net.ipv4.ip_forward", 6: "net.ipv6.conf.all.forwarding"}
    for version in sorted(facts.networks):
        if not facts.forwarding.get(version, True):
            detail = f"{names[version]} is 0, so no packet of a protected network is forwarded: set it to 1"
            yield HostFinding(code=FindingCode.FORWARDING_OFF, detail=detail)


def _forward_drop(facts: HostReadings) -> Iterator[HostFinding]:
    """Forward chains that drop by default and accept nothing but packets of known connections."""
    for chain in _chains(facts.ruleset, kind="filter", hook="forward"):
        if chain.get("policy") != "drop" or not facts.networks:
            continue
        rules = [_statements(rule) for owner, rule in _rules(facts.ruleset, "filter", "forward") if owner is chain]
        if any(_lets_new_packets_pass(statements) for statements in rules):
            continue
        where = f"{chain['family']} {chain['table']} {chain['name']}"
        detail = f"chain {where} drops every new connection that is forwarded: accept those of the protected networks"
        yield HostFinding(code=FindingCode.FORWARD_DROP, detail=detail[:1_000])


def _rp_filter(facts: HostReadings) -> Iterator[HostFinding]:
    for device in sorted(set(facts.strict_rp_filter) & set(facts.devices)):
        detail = (
            f"net.ipv4.conf.{device}.rp_filter is 1 (strict): packets from a tunnel are dropped unless the route back uses"
            f" {device}; set it to 2"
        )
        yield HostFinding(code=FindingCode.RP_FILTER, detail=detail)


def _chains(ruleset: Iterable[Mapping[str, Any]], kind: str, hook: str) -> list[Mapping[str, Any]]:
    found = [item["chain"] for item in ruleset if isinstance(item.get("chain"), Mapping)]
    return [
        chain
        for chain in found
        if chain.get("type") == kind
        and chain.get("hook") == hook
        and (chain.get("table"), chain.get("family")) != (TABLE, "inet")
    ]


def _rules(ruleset: Sequence[Mapping[str, Any]], kind: str, hook: str) -> Iterator[tuple[Mapping[str, Any], Rule]]:
    """The rules of the base chains of a kind at a hook, and of the chains that they jump to; each with its base chain."""
    by_chain: dict[tuple[Any, Any, Any], list[Rule]] = {}
    for item in ruleset:
        rule = item.get("rule")
        if isinstance(rule, Mapping):
            by_chain.setdefault((rule.get("family"), rule.get("table"), rule.get("chain")), []).append(rule)
    for chain in _chains(ruleset, kind, hook):
        waiting, seen = [chain.get("name")], set()
        while waiting:
            name = waiting.pop()
            if name in seen:
                continue
            seen.add(name)
            for rule in by_chain.get((chain.get("family"), chain.get("table"), name), []):
                yield chain, rule
                waiting += [target for it in _statements(rule) if (target := _target(it)) is not None]


def _statements(rule: Rule) -> Statements:
    found = rule.get("expr")
    return [it for it in found if isinstance(it, Mapping)] if isinstance(found, list) else []


def _target(statement: Mapping[str, Any]) -> str | None:
    for word in ("jump", "goto"):
        if isinstance(statement.get(word), Mapping):
            return str(statement[word].get("target"))
    return None


def _translates(statement: Mapping[str, Any]) -> bool:
    xt = statement.get("xt")
    if isinstance(xt, Mapping):  # of iptables-nft
        return xt.get("name") in ("MASQUERADE", "SNAT")
    return "masquerade" in statement or "snat" in statement


def _spares_tunnels(statements: Statements) -> bool:
    """Whether the rule itself excepts packets that an SA will carry: `rt ipsec missing`, or iptables' `-m policy`."""
    for statement in statements:
        xt = statement.get("xt")
        if isinstance(xt, Mapping) and xt.get("name") == "policy":
            return True
        left = _match(statement).get("left")
        if isinstance(left, Mapping) and isinstance(left.get("rt"), Mapping) and left["rt"].get("key") == "ipsec":
            return True
    return False


def _output_devices(statements: Statements) -> tuple[str, ...] | None:
    """The devices that the rule is restricted to; None: any."""
    for statement in statements:
        match = _match(statement)
        left = match.get("left")
        if isinstance(left, Mapping) and isinstance(left.get("meta"), Mapping) and left["meta"].get("key") == "oifname":
            right = match.get("right")
            if match.get("op") == "==" and isinstance(right, str) and not right.endswith("*"):
                return (right,)
    return None


def _match(statement: Mapping[str, Any]) -> Mapping[str, Any]:
    found = statement.get("match")
    return found if isinstance(found, Mapping) else {}


def _lets_new_packets_pass(statements: Statements) -> bool:
    """Whether a rule accepts, or may accept elsewhere, packets that begin a connection."""
    if not any("accept" in it or _target(it) or "vmap" in it or "queue" in it or "xt" in it for it in statements):
        return False
    for statement in statements:
        match = _match(statement)
        left = match.get("left")
        if isinstance(left, Mapping) and isinstance(left.get("ct"), Mapping) and left["ct"].get("key") == "state":
            states = match.get("right")
            named = {states} if isinstance(states, str) else set(states) if isinstance(states, list) else {"new"}
            if match.get("op") in ("==", "in") and "new" not in named:
                return False
    return True
