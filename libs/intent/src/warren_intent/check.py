"""Check a set of policies before it is published.

For every tunnel that would be derived, both ends must support it and agree on it, and no two tunnels of a peer may claim
the same traffic; so NO_PROPOSAL_CHOSEN and TS_UNACCEPTABLE are found before publication and not on the wire.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

from warren_contracts.addresses import IPNetwork
from warren_contracts.identities import canonical
from warren_contracts.names import PeerId, Tag
from warren_contracts.networks import contains
from warren_contracts.peers import PeerRecord
from warren_contracts.policy import Policy, PublishedPolicy
from warren_contracts.protection import LocalBypass, Protect
from warren_contracts.selectors import TrafficSelector, networks_of, within
from warren_contracts.tunnel import Tunnel
from warren_intent.candidates import Candidate
from warren_intent.claims import RejectedClaim
from warren_intent.conflicts import (
    Claimant,
    Conflict,
    Precedence,
    Shared,
    conflicts_at,
    other_end,
    shared_at,
    states_networks,
)
from warren_intent.derivation import IPSEC, SkipCode, Skipped
from warren_intent.findings import Code, Finding, Severity
from warren_intent.fleet import is_transit
from warren_intent.fleet_tunnels import MAX_TUNNELS, FleetTunnels
from warren_intent.lint import PolicyLinter
from warren_intent.overlaps import claimed_twice
from warren_intent.profiles import proposals_of
from warren_intent.proposal_filter import ProposalFilter
from warren_intent.protection import unprotectable
from warren_intent.tunnel_checks import PolicyReport, TunnelChecks

_MISSING = {
    SkipCode.NO_PUBLIC_KEY: "no tunnel yet for {}: no IKE public key announced (start its agent, or set `public_key`)",
    SkipCode.NO_SUBNETS: "no tunnel yet for {}: no protected subnets announced (set them at the agent, or set `subnets`)",
}


def check(
    policies: Iterable[Policy | PublishedPolicy], directory: Mapping[PeerId, PeerRecord], tags: Collection[Tag]
) -> tuple[Finding, ...]:
    """All findings in these policies, errors first.

    `policies` is the complete set after the change; field paths index its entries (`policies/0`). `tags` are those that a
    peer or a join token has.
    """
    stated = [item.policy if isinstance(item, PublishedPolicy) else item for item in policies]
    published = (PublishedPolicy.model_construct(revision=0, policy=policy) for policy in stated)
    return check_derived(stated, FleetTunnels(published, directory), tags)


def check_derived(policies: Sequence[Policy], fleet: FleetTunnels, tags: Collection[Tag]) -> tuple[Finding, ...]:
    """The same, of policies whose tunnels are derived; the order of `policies` is that of the field paths."""
    check_of = _Check(policies, fleet)
    check_of.each_policy(tags)
    check_of.all_tunnels()
    return check_of.findings()


class _Check:
    """One run over one set of policies."""

    def __init__(self, policies: Sequence[Policy], derived: FleetTunnels) -> None:
        self._policies = policies
        self._report = PolicyReport(policies)
        self._derived = derived
        self._fleet = derived.fleet
        self._by_id = {policy.id: policy for policy in reversed(policies)}
        self._checks = TunnelChecks(self._fleet, policies, self._report)
        self._without_proposal: dict[str, list[tuple[Candidate, str]]] = {}

    def findings(self) -> tuple[Finding, ...]:
        """What was found so far, errors first."""
        return self._report.found.findings()

    def each_policy(self, tags: Collection[Tag]) -> None:
        seen: set[str] = set()
        for index, policy in enumerate(self._policies):
            if policy.id in seen:
                self._report.add(Code.DUPLICATE_POLICY, policy, "id", "duplicate policy id", index=index)
            seen.add(policy.id)
            PolicyLinter(policy, f"policies/{index}", self._report.found).lint(self._fleet.records.keys(), tags)

    def all_tunnels(self) -> None:
        for rejected in self._derived.rejected:
            self._rejected_claim(rejected)
        self._each_request()
        self._proposals(self._derived.claimants)
        self._checks.report_unsupported()
        for policy in self._by_id.values():
            if policy.enabled:
                self._checks.check_pools(policy)
        for peer, tunnels in self._derived.at_peers.items():
            for conflict in conflicts_at(peer, tunnels).values():
                self._conflict(conflict)
            self._contradictions(peer, [claimant.tunnel for claimant in tunnels])
            for shared in shared_at(tunnels):
                self._shared(peer, shared)
        self._identities({peer: it.candidate for it in self._derived.claimants for peer in it.candidate.peers})

    def _each_request(self) -> None:
        """Check each requested tunnel, and report policies that request none."""
        requesting: set[str] = set()
        for candidate, derived, holder, namesake in self._derived.requests:
            requesting.add(candidate.policy.id)
            if isinstance(derived, Tunnel):
                self._checks.check(candidate, derived)
                self._protection(candidate, derived)
                self._cut_off(candidate)
            elif derived is not None:
                self._skipped(candidate, derived)
            elif namesake is not None and namesake.pair != candidate.pair:
                self._name_taken(candidate, namesake)
            elif holder is not None:
                self._tie(candidate, holder)
                self._differs(candidate, holder)
        for published in self._derived.policies:
            policy = published.policy
            if policy.topology is None or policy.id in requesting:
                continue
            if policy.id in self._derived.too_large:
                left, right = self._derived.too_large[policy.id]
                message = f"{left} by {right} peers exceed {MAX_TUNNELS} tunnels: use hub-spoke, or smaller groups"
                self._report.add(Code.TOO_LARGE, policy, "topology", message)
            else:
                message = "no tunnel yet: no two gateways have the tags and ids that it names"
                self._report.add(Code.NO_TUNNEL, policy, "topology", message, severity=Severity.WARNING)

    def _name_taken(self, candidate: Candidate, namesake: Candidate) -> None:
        message = f"policy {namesake.policy.id} already has a tunnel of this name between other peers: use another name"
        self._report.add(Code.NAME_TAKEN, candidate.policy, f"{candidate.path}/name", message)

    def _tie(self, candidate: Candidate, holder: Candidate) -> None:
        same_policy = candidate.policy.id == holder.policy.id
        if candidate.policy.priority != holder.policy.priority or (same_policy and candidate.path == "topology"):
            return
        if same_policy:
            message = f"{holder.path} has the same two ends: remove one of them"
            self._report.add(Code.TIE, candidate.policy, candidate.path, message)
            return
        message = f"policy {holder.policy.id} has the same priority and the same tunnels ({{}}): increase one priority"
        self._report.add(Code.TIE, candidate.policy, "priority", message, candidate.name)

    def _differs(self, candidate: Candidate, holder: Candidate) -> None:
        """Two policies of the same tunnels must agree on what happens to packets that no tunnel carries."""
        stated, winning = candidate.policy, holder.policy
        for code, field in ((Code.PROTECT, "protect"), (Code.BYPASS, "bypass")):
            own, other = getattr(stated, field), getattr(winning, field)
            if own is not other:
                message = (
                    f"policy {winning.id} defines the same tunnels ({{}}) with `{field}: {other}`, and this one with"
                    f" `{own}`: set the same in both"
                )
                self._report.add(code, stated, field, message, candidate.name)

    def _cut_off(self, candidate: Candidate) -> None:
        """Report tunnels that a peer will refuse: they contain its own networks, and the policy forbids to pass them by."""
        if candidate.policy.bypass is LocalBypass.ALLOW:
            return
        for peer in candidate.peers:
            derived = self._derived.derivation.derive(candidate, peer)
            if not isinstance(derived, Tunnel):
                continue
            taken = [TrafficSelector(it) for child in derived.link.children for it in networks_of(child.remote_ts)]
            for network in self._fleet.records[peer].subnets:
                if any(within(TrafficSelector(network), it) for it in taken):
                    message = (
                        f"{{}}: peer {peer} refuses it, since it contains the peer's own network {network} and may not pass it"
                        " by: narrow the other end's networks, or set `bypass: allow`"
                    )
                    self._report.add(Code.BYPASS, candidate.policy, "bypass", message, candidate.name, Severity.WARNING)
                    break

    def _contradictions(self, peer: PeerId, tunnels: list[Tunnel]) -> None:
        """Report tunnels without protection whose traffic another tunnel of the same peer protects."""
        if len({tunnel.protect is Protect.OFF for tunnel in tunnels}) < 2:
            return
        for one, other in claimed_twice(tunnels):
            off, on = (one, other) if one.protect is Protect.OFF else (other, one)
            if off.protect is Protect.OFF and on.protect is not Protect.OFF:
                message = (
                    f"at peer {peer} the tunnel {on.name} of policy {on.policy} protects (`{on.protect}`) traffic that {{}} does"
                    " not (`off`), so it is dropped whenever no SA carries it: set the same in both, or use disjoint subnets"
                )
                policy = self._by_id[off.policy]
                self._report.add(Code.PROTECT, policy, "protect", message, off.name, Severity.WARNING)

    def _protection(self, candidate: Candidate, tunnel: Tunnel) -> None:
        if not any(_is_dynamic(child.local_ts) or _is_dynamic(child.remote_ts) for child in tunnel.link.children):
            return
        for peer in candidate.peers:
            derived = self._derived.derivation.derive(candidate, peer)
            if isinstance(derived, Tunnel) and (reason := unprotectable(derived)):
                message = f"{{}}: {reason}"
                self._report.add(Code.PROTECT, candidate.policy, "protect", message, candidate.name, Severity.WARNING)

    def _skipped(self, candidate: Candidate, skipped: Skipped) -> None:
        field = skipped.path
        if skipped.code in _MISSING:
            subject = skipped.peer or candidate.name
            self._report.add(
                Code.INCOMPLETE_PEER, candidate.policy, field, _MISSING[skipped.code], subject, Severity.WARNING
            )
        elif skipped.code is SkipCode.NO_ADDRESS:
            message = "no end of {} can initiate: neither has a fixed address; set `addresses` of one end, or its endpoints at the agent"
            self._report.add(Code.NO_ADDRESS, candidate.policy, field, message, candidate.name, Severity.WARNING)
        elif skipped.code is SkipCode.NO_COMMON_PROPOSAL:
            self._without_proposal.setdefault(candidate.policy.id, []).append((candidate, skipped.message))
        elif skipped.code is SkipCode.TOO_MANY_SELECTORS:
            self._report.add(Code.SELECTORS, candidate.policy, field, f"{{}}: {skipped.message}", candidate.name)
        # Missing records and unknown profiles are reported at the field that names them.

    def _proposals(self, made: Iterable[Claimant]) -> None:
        """Report tunnels without common proposals: an error if the policy has no tunnel left and several peers cause it, else
        a warning, since the capabilities of one peer must not refuse a policy."""
        standing = {it.candidate.policy.id for it in made}
        for policy, failed in self._without_proposal.items():
            blamed = {
                peer for candidate, _ in failed for peer in candidate.peers if self._can_do_nothing(candidate, peer)
            }
            severity = Severity.ERROR if policy not in standing and len(blamed) > 1 else Severity.WARNING
            for candidate, reason in failed:
                message = f"{{}}: {reason}: add a proposal, or choose another profile"
                self._report.add(Code.NO_COMMON_PROPOSAL, candidate.policy, "crypto", message, candidate.name, severity)

    def _can_do_nothing(self, candidate: Candidate, peer: PeerId) -> bool:
        driver = self._fleet.records[peer].driver(IPSEC)
        return not all(ProposalFilter().common(*proposals_of(candidate.crypto), (driver,)))

    def _rejected_claim(self, rejected: RejectedClaim) -> None:
        claim = rejected.claim
        message = f"this policy assigns {rejected.what} to {claim.owner}; the same announcement by {{}} is ignored"
        self._report.add(Code.OVERLAP, self._by_id[claim.policy], claim.path, message, rejected.peer, Severity.WARNING)

    def _conflict(self, conflict: Conflict) -> None:
        ends = (other_end(conflict.winner), other_end(conflict.loser))
        if conflict.same_identity and not any(end.identity for end in ends):
            return  # reported by _identities for the two peers
        what = "name the same IKE identity" if conflict.same_identity else "claim the same traffic"
        remedy = "use distinct identities" if conflict.same_identity else _remedy(conflict)
        message = f"at peer {conflict.at} the tunnels {conflict.winner.candidate.name} and {{}} {what}: {remedy}"
        code = Code.DUPLICATE_IDENTITY if conflict.same_identity else Code.OVERLAP
        severity = Severity.WARNING if _is_announced(conflict) else Severity.ERROR
        self._report.add(code, conflict.loser.candidate.policy, "", message, conflict.loser.candidate.name, severity)

    def _shared(self, peer: PeerId, shared: Shared) -> None:
        """Say which of two tunnels with common traffic carries it, where both stay."""
        first, second, precedence = shared
        policy = second.candidate.policy
        if precedence is Precedence.LONGER_PREFIX:
            message = f"at peer {peer} the tunnel {first.candidate.name} carries part of the traffic of {{}}: the longer prefix wins"
            self._report.add(Code.PRECEDENCE, policy, "", message, second.candidate.name, Severity.WARNING)
        elif precedence is Precedence.STANDBY:
            message = (
                f"at peer {peer}, standby of {first.candidate.name}: {{}} (the priority of {first.tunnel.peer}, "
                f"{first.other_priority}, is higher)"
            )
            self._report.add(Code.PRECEDENCE, policy, "", message, second.candidate.name, Severity.WARNING)
            lost = _only_at_standby(shared)
            if lost:
                networks = ", ".join(map(str, lost))
                message = f"while {first.candidate.name} is up, {{}} does not carry {networks}: {first.tunnel.peer} does not protect it"
                self._report.add(Code.PRECEDENCE, policy, "", message, second.candidate.name, Severity.WARNING)

    def _identities(self, used: dict[PeerId, Candidate]) -> None:
        holders: dict[str, PeerId] = {}
        for peer in sorted(used):
            holder = holders.setdefault(canonical(self._fleet.records[peer].identity), peer)
            if holder != peer:
                message = f"{{}} and {holder} have the same IKE identity: use distinct identities"
                self._report.add(Code.DUPLICATE_IDENTITY, used[peer].policy, "", message, peer, Severity.WARNING)


def _is_dynamic(selectors: tuple[TrafficSelector, ...]) -> bool:
    return any(selector.addresses is None for selector in selectors)


def _remedy(conflict: Conflict) -> str:
    """What to change if two tunnels claim the same traffic."""
    one, other = conflict.winner, conflict.loser
    if one.tunnel.peer is None or other.tunnel.peer is None:
        return "use disjoint subnets"
    if one.own_priority is not None:
        return f"redundant gateways at both ends are not supported: remove the priority of {conflict.at}"
    return (
        f"use disjoint subnets, or, if {one.tunnel.peer} and {other.tunnel.peer} are redundant gateways, give them different "
        f"priorities (`warren peers priority {one.tunnel.peer} 200`)"
    )


def _only_at_standby(shared: Shared) -> tuple[IPNetwork, ...]:
    """The networks of a standby tunnel that no network of the preferred one contains."""
    preferred, standby = (
        [net for child in it.tunnel.link.children for net in networks_of(child.remote_ts)] for it in shared[:2]
    )
    return tuple(net for net in standby if not any(contains(outer, net) for outer in preferred))


def _is_announced(conflict: Conflict) -> bool:
    """Whether the losing tunnel claims what its other end announced, and neither policy uses transit."""
    lost = conflict.loser
    stated = other_end(lost).identity is not None if conflict.same_identity else states_networks(lost)
    return not stated and not any(is_transit(it.candidate.policy) for it in (conflict.winner, conflict.loser))
