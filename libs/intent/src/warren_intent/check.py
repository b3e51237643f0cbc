"""`check`: what is wrong with a set of policies, before anything of it is published.

It proves for every tunnel that would be derived that both ends can express it and agree on it, and that no two tunnels of
a peer claim the same traffic; so that NO_PROPOSAL_CHOSEN and TS_UNACCEPTABLE are found here and not on the wire.
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

MAX_TUNNELS = 100_000  # of one policy: a mesh of 447 peers, 10,000 spokes of 10 hubs; some ten seconds of one check

_MISSING = {
    SkipCode.NO_PUBLIC_KEY: "no tunnel yet for {}: no IKE public key was announced (start its agent, or give `public_key`)",
    SkipCode.NO_SUBNETS: "no tunnel yet for {}: no protected subnets were announced (set them at the agent, or give `subnets`)",
}


def check(
    policies: Iterable[Policy | PublishedPolicy], directory: Mapping[PeerId, PeerRecord], tags: Collection[Tag]
) -> tuple[Finding, ...]:
    """Everything that is wrong with these policies together, errors first.

    `policies` is the whole intent as it would stand; fields count its entries (`policies/0`). `tags` are those that a
    peer or a join token carries.
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
                self._add(Code.DUPLICATE_POLICY, policy, "id", "this id is given twice", index=index)
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
        message = f"{left} by {right} peers are more than {MAX_TUNNELS} tunnels: use hub-spoke, or smaller groups"
        self._add(Code.TOO_LARGE, policy, "topology", message)
        return True

    def _name_taken(self, candidate: Candidate, namesake: Candidate) -> None:
        message = f"policy {namesake.policy.id} has a tunnel of this name between other peers: use another name"
        self._add(Code.NAME_TAKEN, candidate.policy, f"{candidate.path}/name", message)

    def _tie(self, candidate: Candidate, holder: Candidate) -> None:
        same_policy = candidate.policy.id == holder.policy.id
        if candidate.policy.priority != holder.policy.priority or (same_policy and candidate.path == "topology"):
            return
        if same_policy:
            message = f"{holder.path} is between the same two ends: keep one of the two"
            self._add(Code.TIE, candidate.policy, candidate.path, message)
            return
        message = f"policy {holder.policy.id} has the same priority and the same tunnels ({{}}): raise one of the two"
        self._add(Code.TIE, candidate.policy, "priority", message, candidate.name)

    def _skipped(self, candidate: Candidate, skipped: Skipped) -> None:
        field = skipped.path
        if skipped.code in _MISSING:
            subject = skipped.peer or candidate.name
            self._add(Code.INCOMPLETE_PEER, candidate.policy, field, _MISSING[skipped.code], subject, Severity.WARNING)
        elif skipped.code is SkipCode.NO_ADDRESS:
            message = "nobody can call in {}: neither end has a fixed address; give one end `addresses` or an endpoint"
            self._add(Code.NO_ADDRESS, candidate.policy, field, message, candidate.name, Severity.WARNING)
        elif skipped.code is SkipCode.NO_COMMON_PROPOSAL:
            self._without_proposal.setdefault(candidate.policy.id, []).append((candidate, skipped.message))
        elif skipped.code is SkipCode.TOO_MANY_SELECTORS:
            self._add(Code.SELECTORS, candidate.policy, field, f"{{}}: {skipped.message}", candidate.name)
        # Records and profiles that are not there were told where the policy names them.

    def _proposals(self, made: Iterable[Claimant]) -> None:
        """A policy of which nothing is left, since several peers cannot do what it asks for, is the operator's mistake. Else it
        is what one peer says of itself, which only leaves its own tunnels out."""
        standing = {candidate.policy.id for candidate, _ in made}
        for policy, failed in self._without_proposal.items():
            blamed = {
                peer for candidate, _ in failed for peer in candidate.peers if self._can_do_nothing(candidate, peer)
            }
            severity = Severity.ERROR if policy not in standing and len(blamed) > 1 else Severity.WARNING
            for candidate, reason in failed:
                message = f"{{}}: {reason}: offer one more, or choose another profile"
                self._add(Code.NO_COMMON_PROPOSAL, candidate.policy, "crypto", message, candidate.name, severity)

    def _can_do_nothing(self, candidate: Candidate, peer: PeerId) -> bool:
        able = self._fleet.records[peer].capabilities
        return not all(ProposalFilter().common(*proposals_of(candidate.crypto), (able,)))

    def _features(self) -> None:
        """An option that one peer alone cannot do leaves that peer out: its driver refuses the tunnel."""
        for (policy, field, feature), peers in self._unable.items():
            severity = Severity.ERROR if len(peers) > 1 else Severity.WARNING
            for peer, reported in peers.items():
                message = f"{{}} cannot do {feature}: change the option, or leave these peers out"
                if not reported:
                    message = f"{{}} has not told whether it can do {feature}: start its IPsec daemon and its agent"
                self._add(Code.UNSUPPORTED, self._by_id[policy], field, message, peer, severity)

    def _selectors(self, candidate: Candidate, tunnel: TunnelConfig) -> None:
        given = candidate.first.subnets and candidate.second.subnets
        severity = Severity.ERROR if given else Severity.WARNING
        families = {net.version for net in tunnel.local_ts} & {net.version for net in tunnel.remote_ts}
        if not families:
            message = "{}: one end protects IPv4 only and the other IPv6 only, so no packet could pass"
            self._add(Code.SELECTORS, candidate.policy, candidate.path, message, candidate.name, severity)
        if any(net.prefixlen == 0 for net in (*tunnel.local_ts, *tunnel.remote_ts)):
            message = "{}: a default route is among the subnets, so that all traffic enters the tunnel"
            self._add(Code.DEFAULT_ROUTE, candidate.policy, candidate.path, message, candidate.name, Severity.WARNING)
        elif overlap(tunnel.local_ts, tunnel.remote_ts):
            message = "{}: both ends protect the same addresses; give them subnets that are apart"
            self._add(Code.OVERLAP, candidate.policy, candidate.path, message, candidate.name, severity)

    def _mode(self, candidate: Candidate, tunnel: TunnelConfig) -> None:
        """Networks that the policy gives are its mistake; those that one peer announced leave that peer out."""
        mode, field = candidate.options.mode, f"{_options(candidate)}/mode"
        own, other = candidate.peers[0], tunnel.peer
        sides = ((own, tunnel.local_ts, tunnel.local_addrs), (other, tunnel.remote_ts, tunnel.remote_addrs))
        for peer, networks, addresses in sides:
            if is_one_host(mode, networks, addresses):
                continue
            if peer is None or _end_of(candidate, peer).subnets:
                message = f"{{}}: {mode} mode is for two single hosts and not between networks: use tunnel mode"
                self._add(Code.UNSUPPORTED, candidate.policy, field, message, candidate.name)
            else:
                feature = f"{mode} mode, which is for two single hosts and not between networks"
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
                    message = f"{{}} cannot do {feature}, or has not told: leave it out"
                    where = f"{candidate.path}/ends/{int(end is candidate.second)}/xfrm/{field}"
                    self._add(Code.UNSUPPORTED, candidate.policy, where, message, peer)
            for field, words, left in (
                ("ike", able.ike, tunnel.ike_proposals), ("esp", able.esp, tunnel.esp_proposals)
            ):  # fmt: skip
                for index, proposal in enumerate(getattr(candidate.crypto, field)):
                    if proposal not in left and not can_express(proposal, words, able.features):
                        message = f"{{}} cannot express {proposal}: it is left out in tunnels of these peers"
                        where = f"crypto/{field}/{index}"
                        self._add(Code.UNSUPPORTED, candidate.policy, where, message, peer, Severity.WARNING)

    def _rejected_claim(self, rejected: RejectedClaim) -> None:
        claim = rejected.claim
        message = (
            f"{rejected.what} is given to {claim.owner}, and {{}} announces it too: this peer's word does not count"
        )
        self._add(Code.OVERLAP, self._by_id[claim.policy], claim.path, message, rejected.peer, Severity.WARNING)

    def _conflict(self, conflict: Conflict) -> None:
        ends = (other_end(conflict.winner), other_end(conflict.loser))
        if conflict.same_identity and not any(end.identity for end in ends):
            return  # told of the two peers, wherever they meet
        what = "name the same IKE identity" if conflict.same_identity else "claim the same traffic"
        remedy = "give each its own" if conflict.same_identity else "keep their subnets apart"
        message = f"at peer {conflict.at} the tunnels {conflict.winner.candidate.name} and {{}} {what}: {remedy}"
        code = Code.DUPLICATE_IDENTITY if conflict.same_identity else Code.OVERLAP
        severity = Severity.WARNING if _is_a_peers_word(conflict) else Severity.ERROR
        self._add(code, conflict.loser.candidate.policy, "", message, conflict.loser.candidate.name, severity)

    def _identities(self, used: dict[PeerId, Candidate]) -> None:
        holders: dict[str, PeerId] = {}
        for peer in sorted(used):
            holder = holders.setdefault(canonical(self._fleet.records[peer].identity), peer)
            if holder != peer:
                message = f"{{}} and {holder} have the same IKE identity: give each its own"
                self._add(Code.DUPLICATE_IDENTITY, used[peer].policy, "", message, peer, Severity.WARNING)

    def _add(
        self, code: Code, policy: Policy, field: str, message: str, subject: str = "",
        severity: Severity = Severity.ERROR, *, index: int | None = None,
    ) -> None:  # fmt: skip
        where = self._where[policy.id] if index is None else f"policies/{index}"
        self.found.add(code, severity, policy.id, f"{where}/{field}".rstrip("/"), message, subject)


def _is_a_peers_word(conflict: Conflict) -> bool:
    """Whether the tunnel that comes second claims what its other end announced, and neither of the two is a sum that the
    policy itself asked for."""
    lost = other_end(conflict.loser)
    stated = lost.identity if conflict.same_identity else lost.subnets
    return not stated and not any(is_transit(it.candidate.policy) for it in (conflict.winner, conflict.loser))


def _end_of(candidate: Candidate, peer: PeerId) -> TunnelEnd:
    return candidate.first if candidate.first.peer == peer else candidate.second


def _options(candidate: Candidate) -> str:
    """Where the options of a candidate stand: at its tunnel, else at its policy."""
    if candidate.options is candidate.policy.options:
        return "options"
    return f"{candidate.path}/options"
