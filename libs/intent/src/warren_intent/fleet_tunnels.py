"""Every tunnel that a set of policies requests in a fleet, derived once: what `check` and `plan` are computed from.

A set that differs little from an earlier one takes over what cannot have changed: the tunnels of an equal policy between peers
whose records are equal. Tunnels of a hub with transit are derived again, since their selectors are the sum of all spokes.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import NamedTuple

from warren_contracts.names import PeerId, PolicyId, TunnelName
from warren_contracts.peers import PeerRecord
from warren_contracts.policy import Policy, PublishedPolicy
from warren_contracts.tunnel import Tunnel
from warren_intent.candidates import Candidate, candidates
from warren_intent.claims import PolicyClaims, apply_claims
from warren_intent.conflicts import Claimant, Conflict, all_conflicts, claimants_by_peer
from warren_intent.derivation import Derivation, Skipped
from warren_intent.fleet import Fleet, current, is_transit, sides

MAX_TUNNELS = 100_000  # of one policy: a mesh of 447 peers, 10,000 spokes of 10 hubs; about ten seconds for one check

Pair = tuple[str, str]


class Request(NamedTuple):
    """One requested tunnel. `derived` is the tunnel at the lower of its peer ids, or why there is none; None: another one overrides it.

    `holder` has the same two ends, `namesake` the same name; for the tunnel that is used both are its own candidate.
    """

    candidate: Candidate
    derived: Tunnel | Skipped | None
    holder: Candidate | None
    namesake: Candidate | None


class _PolicyDerivation(NamedTuple):
    """What one policy requests: all candidates in order, and what was derived of those that are used."""

    policy: Policy
    candidates: list[Candidate]
    derived: dict[Pair, tuple[Candidate, Tunnel | Skipped]]


class FleetTunnels:
    """The tunnels of a fleet for one set of policies. Never raises, as `expand`."""

    def __init__(
        self,
        policies: Iterable[PublishedPolicy],
        directory: Mapping[PeerId, PeerRecord],
        earlier: "FleetTunnels | None" = None,
    ) -> None:
        """Derive all tunnels; `earlier` is a set that is likely to have some of them."""
        stated = tuple(policies)
        self.policies = current(stated)
        self.has_transit = any(is_transit(it.policy) for it in self.policies)
        records, self.rejected = apply_claims(PolicyClaims(stated), directory)
        self.fleet = Fleet(records)
        known = earlier.fleet.records if earlier is not None else {}
        changed = _changed(known, self.fleet.records)
        self.derivation = Derivation(self.fleet)
        if earlier is not None and not changed:
            self.fleet = earlier.fleet
            # The sum of a transit hub's spokes is stored there by the policy's id
            is_shared = not (self.has_transit or earlier.has_transit)
            self.derivation = earlier.derivation if is_shared else Derivation(self.fleet)
        self.too_large: dict[PolicyId, tuple[int, int]] = {}  # not derived; the numbers of peers of both sides
        self.requests: list[Request] = []
        self._held: dict[PolicyId, _PolicyDerivation] = {}
        self._pairs: dict[Pair, Candidate] = {}
        self._names: dict[TunnelName, Candidate] = {}
        for published in self.policies:
            held = earlier._held.get(published.policy.id) if earlier is not None else None
            self._request_all(published.policy, held, changed)
        self._pairs, self._names = {}, {}

    @cached_property
    def claimants(self) -> list[Claimant]:
        """The derived tunnels with the priorities of their ends, each seen from the lower of its peer ids."""
        priorities = self.derivation.with_priorities
        return [priorities(candidate, tunnel, min(candidate.peers)) for candidate, tunnel in self._derived()]

    @cached_property
    def at_peers(self) -> dict[PeerId, list[Claimant]]:
        """The tunnels of each peer that has several which may conflict."""
        return claimants_by_peer(self.claimants)

    @cached_property
    def tunnels(self) -> dict[TunnelName, tuple[Candidate, Tunnel]]:
        """The derived tunnels that lose no conflict."""
        excluded = self._conflicts()
        return {
            candidate.name: (candidate, tunnel)
            for candidate, tunnel in self._derived()
            if candidate.name not in excluded
        }

    def _conflicts(self) -> dict[TunnelName, Conflict]:
        if not self.has_transit:
            return all_conflicts(self.at_peers)
        # Networks beyond a transit hub are not claimed
        claimant = self.derivation.claimant
        claims = [claimant(candidate, tunnel, min(candidate.peers)) for candidate, tunnel in self._derived()]
        return all_conflicts(claimants_by_peer(claims))

    def _derived(self) -> Iterator[tuple[Candidate, Tunnel]]:
        for request in self.requests:
            if isinstance(request.derived, Tunnel):
                yield request.candidate, request.derived

    def _request_all(self, policy: Policy, held: _PolicyDerivation | None, changed: frozenset[PeerId] | None) -> None:
        """Derive what one policy requests; `changed` None: no record is known."""
        if self._is_too_large(policy):
            return
        if held is None or changed is None or (held.policy is not policy and held.policy != policy):
            held, changed = None, None
        wanted = held.candidates if held is not None and not changed else list(candidates(policy, self.fleet))
        known = held.derived if held is not None and not is_transit(policy) else {}
        derived: dict[Pair, tuple[Candidate, Tunnel | Skipped]] = {}
        for candidate in wanted:
            pair, name = candidate.pair, candidate.name
            holder, namesake = self._pairs.get(pair), self._names.get(name)
            if holder is not None or namesake is not None:
                self.requests.append(Request(candidate, None, holder, namesake))
                continue
            self._pairs[pair] = self._names[name] = candidate
            made = known.get(pair)
            # Always seen from the same end, so that the order of the ends in a policy does not matter
            if made is None or made[0].path != candidate.path or (changed and not changed.isdisjoint(candidate.peers)):
                result = self.derivation.derive(candidate, min(candidate.peers))
            else:
                result = made[1]
            derived[pair] = candidate, result
            self.requests.append(Request(candidate, result, candidate, candidate))
        self._held[policy.id] = _PolicyDerivation(policy, wanted, derived)

    def _is_too_large(self, policy: Policy) -> bool:
        if policy.topology is None:
            return False
        left, right = (len(self.fleet.members.of(side)) for side in sides(policy.topology))
        if left * right <= MAX_TUNNELS * 2:
            return False
        self.too_large[policy.id] = left, right
        return True


def _changed(before: Mapping[PeerId, PeerRecord], after: Mapping[PeerId, PeerRecord]) -> frozenset[PeerId] | None:
    """The peers whose records differ; None if there was no record before."""
    if not before:
        return None
    found = {peer for peer, record in after.items() if before.get(peer) is not record and before.get(peer) != record}
    if len(after) - len(found) < len(before):
        found |= before.keys() - after.keys()
    return frozenset(found)
