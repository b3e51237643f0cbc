"""Check a set of policies before it is published.

For every tunnel that would be derived, both ends must support it and agree on it, and no two tunnels of a peer may claim
the same traffic; so NO_PROPOSAL_CHOSEN and TS_UNACCEPTABLE are found before publication and not on the wire.
"""

from collections.abc import Collection, Iterable, Mapping

from warren_contracts.identities import canonical
from warren_contracts.names import PeerId, Tag
from warren_contracts.peers import PeerRecord
from warren_contracts.policy import Policy, PublishedPolicy, TunnelEnd
from warren_contracts.tunnel import TunnelConfig
from warren_intent.candidates import Candidate, candidates
from warren_intent.claims import PolicyClaims, RejectedClaim, apply_claims
from warren_intent.conflicts import Claimant, Conflict, claimants_by_peer, conflicts_at, other_end
from warren_intent.derivation import Derivation, SkipCode, Skipped
from warren_intent.findings import Code, Collector, Finding, Severity
from warren_intent.fleet import Fleet, current, is_transit, sides
from warren_intent.lint import PolicyLinter
from warren_intent.overlaps import overlap
from warren_intent.profiles import proposals_of
from warren_intent.proposal_filter import (
    ProposalFilter,
    can_do,
    can_express,
    features_of,
    features_of_xfrm,
    is_one_host,
)

MAX_TUNNELS = 100_000  # of one policy: a mesh of 447 peers, 10,000 spokes of 10 hubs; about ten seconds for one check

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
    check_of = _Check(stated, directory)
    check_of.each_policy(tags)
    check_of.all_tunnels()
    return check_of.found.findings()


class _Check:
    """One run over one set of policies."""

    def __init__(self, policies: list[Policy], directory: Mapping[PeerId, PeerRecord]) -> None:
        self.found = Collector()
        self._policies = policies
        given = PolicyClaims(PublishedPolicy.model_construct(revision=0, policy=policy) for policy in policies)
        records, self._rejected = apply_claims(given, directory)
        self._fleet = Fleet(records)
        self._by_id = {policy.id: policy for policy in reversed(policies)}
        self._unable: dict[tuple[str, str, str], dict[PeerId, bool]] = {}
        self._without_proposal: dict[str, list[tuple[Candidate, str]]] = {}
        self._where = {policy.id: f"policies/{index}" for index, policy in reversed(list(enumerate(policies)))}

    def each_policy(self, tags: Collection[Tag]) -> None:
        seen: set[str] = set()
        for index, policy in enumerate(self._policies):
            if policy.id in seen:
                self._add(Code.DUPLICATE_POLICY, policy, "id", "duplicate policy id", index=index)
            seen.add(policy.id)
            PolicyLinter(policy, f"policies/{index}", self.found).lint(self._fleet.records.keys(), tags)

    def all_tunnels(self) -> None:
        derivation = Derivation(self._fleet)
        for rejected in self._rejected:
            self._rejected_claim(rejected)
        made: list[Claimant] = []
        used: dict[PeerId, Candidate] = {}
        for candidate in self._winners():
            derived = derivation.derive(candidate, min(candidate.peers))
            if isinstance(derived, Skipped):
                self._skipped(candidate, derived)
                continue
            self._selectors(candidate, derived)
            self._mode(candidate, derived)
            self._capabilities(candidate, derived)
            made.append(Claimant(candidate, derived))
            used |= dict.fromkeys(candidate.peers, candidate)
        self._proposals(made)
        self._features()
        for peer, tunnels in claimants_by_peer(made).items():
            for conflict in conflicts_at(peer, tunnels).values():
                self._conflict(conflict)
        self._identities(used)

    def _winners(self) -> Iterable[Candidate]:
        pairs: dict[tuple[str, str], Candidate] = {}
        names: dict[str, Candidate] = {}
        published = (PublishedPolicy.model_construct(revision=0, policy=policy) for policy in self._policies)
        for item in current(published):
            if self._is_too_large(item.policy):
                continue
            for candidate in candidates(item.policy, self._fleet):
                holder = pairs.setdefault(candidate.pair, candidate)
                namesake = names.setdefault(candidate.name, candidate)
                if namesake.pair != candidate.pair:
                    self._name_taken(candidate, namesake)
                elif holder is not candidate:
                    self._tie(candidate, holder)
                else:
                    yield candidate

    def _is_too_large(self, policy: Policy) -> bool:
        if policy.topology is None:
            return False
        left, right = (len(self._fleet.members.of(side)) for side in sides(policy.topology))
        if left * right <= MAX_TUNNELS * 2:
            return False
        message = f"{left} by {right} peers exceed {MAX_TUNNELS} tunnels: use hub-spoke, or smaller groups"
        self._add(Code.TOO_LARGE, policy, "topology", message)
        return True

    def _name_taken(self, candidate: Candidate, namesake: Candidate) -> None:
        message = f"policy {namesake.policy.id} already has a tunnel of this name between other peers: use another name"
        self._add(Code.NAME_TAKEN, candidate.policy, f"{candidate.path}/name", message)

    def _tie(self, candidate: Candidate, holder: Candidate) -> None:
        same_policy = candidate.policy.id == holder.policy.id
        if candidate.policy.priority != holder.policy.priority or (same_policy and candidate.path == "topology"):
            return
        if same_policy:
            message = f"{holder.path} has the same two ends: remove one of them"
            self._add(Code.TIE, candidate.policy, candidate.path, message)
            return
        message = f"policy {holder.policy.id} has the same priority and the same tunnels ({{}}): increase one priority"
        self._add(Code.TIE, candidate.policy, "priority", message, candidate.name)

    def _skipped(self, candidate: Candidate, skipped: Skipped) -> None:
        field = skipped.path
        if skipped.code in _MISSING:
            subject = skipped.peer or candidate.name
            self._add(Code.INCOMPLETE_PEER, candidate.policy, field, _MISSING[skipped.code], subject, Severity.WARNING)
        elif skipped.code is SkipCode.NO_ADDRESS:
            message = "no end of {} can initiate: neither has a fixed address; set `addresses` of one end, or its endpoints at the agent"
            self._add(Code.NO_ADDRESS, candidate.policy, field, message, candidate.name, Severity.WARNING)
        elif skipped.code is SkipCode.NO_COMMON_PROPOSAL:
            self._without_proposal.setdefault(candidate.policy.id, []).append((candidate, skipped.message))
        elif skipped.code is SkipCode.TOO_MANY_SELECTORS:
            self._add(Code.SELECTORS, candidate.policy, field, f"{{}}: {skipped.message}", candidate.name)
        # Missing records and unknown profiles are reported at the field that names them.

    def _proposals(self, made: Iterable[Claimant]) -> None:
        """Report tunnels without common proposals: an error if the policy has no tunnel left and several peers cause it, else
        a warning, since the capabilities of one peer must not refuse a policy."""
        standing = {candidate.policy.id for candidate, _ in made}
        for policy, failed in self._without_proposal.items():
            blamed = {
                peer for candidate, _ in failed for peer in candidate.peers if self._can_do_nothing(candidate, peer)
            }
            severity = Severity.ERROR if policy not in standing and len(blamed) > 1 else Severity.WARNING
            for candidate, reason in failed:
                message = f"{{}}: {reason}: add a proposal, or choose another profile"
                self._add(Code.NO_COMMON_PROPOSAL, candidate.policy, "crypto", message, candidate.name, severity)

    def _can_do_nothing(self, candidate: Candidate, peer: PeerId) -> bool:
        able = self._fleet.records[peer].capabilities
        return not all(ProposalFilter().common(*proposals_of(candidate.crypto), (able,)))

    def _features(self) -> None:
        """Report unsupported options: a warning if only one peer lacks it, since only that peer's driver refuses the tunnel."""
        for (policy, field, feature), peers in self._unable.items():
            severity = Severity.ERROR if len(peers) > 1 else Severity.WARNING
            for peer, reported in peers.items():
                message = f"{{}}: {feature} is not supported: change the option, or exclude these peers"
                if not reported:
                    message = f"{{}}: support for {feature} is unknown: start the IPsec daemon and the agent"
                self._add(Code.UNSUPPORTED, self._by_id[policy], field, message, peer, severity)

    def _selectors(self, candidate: Candidate, tunnel: TunnelConfig) -> None:
        given = candidate.first.subnets and candidate.second.subnets
        severity = Severity.ERROR if given else Severity.WARNING
        families = {net.version for net in tunnel.local_ts} & {net.version for net in tunnel.remote_ts}
        if not families:
            message = "{}: one end has IPv4 subnets only and the other IPv6 only, so no traffic can pass"
            self._add(Code.SELECTORS, candidate.policy, candidate.path, message, candidate.name, severity)
        if any(net.prefixlen == 0 for net in (*tunnel.local_ts, *tunnel.remote_ts)):
            message = "{}: the subnets include a default route, so all traffic enters the tunnel"
            self._add(Code.DEFAULT_ROUTE, candidate.policy, candidate.path, message, candidate.name, Severity.WARNING)
        elif overlap(tunnel.local_ts, tunnel.remote_ts):
            message = "{}: the subnets of both ends overlap: use disjoint subnets"
            self._add(Code.OVERLAP, candidate.policy, candidate.path, message, candidate.name, severity)

    def _mode(self, candidate: Candidate, tunnel: TunnelConfig) -> None:
        """Report subnets that the mode cannot carry: an error if the policy sets them, else by the peer that announced them."""
        mode, field = candidate.options.mode, f"{_options(candidate)}/mode"
        own, other = candidate.peers[0], tunnel.peer
        sides = ((own, tunnel.local_ts, tunnel.local_addrs), (other, tunnel.remote_ts, tunnel.remote_addrs))
        for peer, networks, addresses in sides:
            if is_one_host(mode, networks, addresses):
                continue
            if peer is None or _end_of(candidate, peer).subnets:
                message = f"{{}}: {mode} mode is between two single hosts only: use tunnel mode"
                self._add(Code.UNSUPPORTED, candidate.policy, field, message, candidate.name)
            else:
                feature = f"{mode} mode between networks"
                self._unable.setdefault((candidate.policy.id, field, feature), {})[peer] = True

    def _capabilities(self, candidate: Candidate, tunnel: TunnelConfig) -> None:
        for peer in candidate.peers:
            able = self._fleet.records[peer].capabilities
            for option, feature in features_of(candidate.options):
                if not can_do(able.features, feature):
                    key = (candidate.policy.id, f"{_options(candidate)}/{option}", feature)
                    self._unable.setdefault(key, {})[peer] = bool(able.features)
            end = _end_of(candidate, peer)
            for field, feature in features_of_xfrm(end.xfrm):
                if not can_do(able.features, feature):
                    message = f"{{}}: {feature} is not supported or not reported: remove it"
                    where = f"{candidate.path}/ends/{int(end is candidate.second)}/xfrm/{field}"
                    self._add(Code.UNSUPPORTED, candidate.policy, where, message, peer)
            for field, words, left in (
                ("ike", able.ike, tunnel.ike_proposals), ("esp", able.esp, tunnel.esp_proposals)
            ):  # fmt: skip
                for index, proposal in enumerate(getattr(candidate.crypto, field)):
                    if proposal not in left and not can_express(proposal, words, able.features):
                        message = f"{{}}: {proposal} is not supported and is removed from the tunnels of these peers"
                        where = f"crypto/{field}/{index}"
                        self._add(Code.UNSUPPORTED, candidate.policy, where, message, peer, Severity.WARNING)

    def _rejected_claim(self, rejected: RejectedClaim) -> None:
        claim = rejected.claim
        message = f"this policy assigns {rejected.what} to {claim.owner}; the same announcement by {{}} is ignored"
        self._add(Code.OVERLAP, self._by_id[claim.policy], claim.path, message, rejected.peer, Severity.WARNING)

    def _conflict(self, conflict: Conflict) -> None:
        ends = (other_end(conflict.winner), other_end(conflict.loser))
        if conflict.same_identity and not any(end.identity for end in ends):
            return  # reported by _identities for the two peers
        what = "name the same IKE identity" if conflict.same_identity else "claim the same traffic"
        remedy = "use distinct identities" if conflict.same_identity else "use disjoint subnets"
        message = f"at peer {conflict.at} the tunnels {conflict.winner.candidate.name} and {{}} {what}: {remedy}"
        code = Code.DUPLICATE_IDENTITY if conflict.same_identity else Code.OVERLAP
        severity = Severity.WARNING if _is_announced(conflict) else Severity.ERROR
        self._add(code, conflict.loser.candidate.policy, "", message, conflict.loser.candidate.name, severity)

    def _identities(self, used: dict[PeerId, Candidate]) -> None:
        holders: dict[str, PeerId] = {}
        for peer in sorted(used):
            holder = holders.setdefault(canonical(self._fleet.records[peer].identity), peer)
            if holder != peer:
                message = f"{{}} and {holder} have the same IKE identity: use distinct identities"
                self._add(Code.DUPLICATE_IDENTITY, used[peer].policy, "", message, peer, Severity.WARNING)

    def _add(
        self, code: Code, policy: Policy, field: str, message: str, subject: str = "",
        severity: Severity = Severity.ERROR, *, index: int | None = None,
    ) -> None:  # fmt: skip
        where = self._where[policy.id] if index is None else f"policies/{index}"
        self.found.add(code, severity, policy.id, f"{where}/{field}".rstrip("/"), message, subject)


def _is_announced(conflict: Conflict) -> bool:
    """Whether the losing tunnel claims what its other end announced, and neither policy uses transit."""
    lost = other_end(conflict.loser)
    stated = lost.identity if conflict.same_identity else lost.subnets
    return not stated and not any(is_transit(it.candidate.policy) for it in (conflict.winner, conflict.loser))


def _end_of(candidate: Candidate, peer: PeerId) -> TunnelEnd:
    return candidate.first if candidate.first.peer == peer else candidate.second


def _options(candidate: Candidate) -> str:
    """The field of a candidate's options: at its tunnel, else at its policy."""
    if candidate.options is candidate.policy.options:
        return "options"
    return f"{candidate.path}/options"
