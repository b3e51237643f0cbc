"""`explain` for a peer whose intent changes a little at a time: only the tunnels with the changed peers are derived again.

The result is that of `explain`. Where a change can affect tunnels with other peers, everything is derived: other policies, this peer's own
record, a hub with transit (its selectors are the sum of all spokes), names that several pairs of peers claim, a redundant
gateway of its networks, and many records at once.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from warren_contracts.names import PeerId, TunnelName
from warren_contracts.peers import PeerRecord
from warren_contracts.policy import PublishedPolicy
from warren_contracts.protection import ProtectedTraffic
from warren_contracts.selectors import TrafficSelector
from warren_contracts.tunnel import Tunnel
from warren_intent.candidates import Candidate, candidates
from warren_intent.conflicts import Claimant, Conflict
from warren_intent.derivation import Derivation, Skipped
from warren_intent.expand import Expansion, NeighbourConflicts, Presented, explain, overridden, skip_conflict
from warren_intent.fleet import Fleet, current, is_transit
from warren_intent.protection import protected_by, protected_without_tunnel
from warren_intent.shared_traffic import SharedTraffic

MAX_CHANGED = 64  # records; of more everything is derived again

Pair = tuple[str, str]


class Expander:
    """`explain` of one peer, with its last result in memory."""

    def __init__(self, me: PeerId) -> None:
        self._me = me
        self._held: _ExpansionState | None = None

    def explain(self, policies: Iterable[PublishedPolicy], directory: Mapping[PeerId, PeerRecord]) -> Expansion:
        """The result of `warren_intent.expand.explain` for these policies and this directory."""
        stated = tuple(policies)
        held, self._held = self._held, None
        if held is None or not held.is_of(stated) or not held.update(directory):
            held = _ExpansionState(stated, directory, self._me)
        if not held.is_simple:
            return explain(stated, directory, self._me)
        self._held = held
        return held.expansion()


@dataclass(slots=True)
class _Entry:
    """One tunnel that is wanted between `me` and another end."""

    candidate: Candidate
    claimant: Claimant | None  # None: it is not derived


class _ExpansionState:
    """The state of one expansion. `is_simple` is False where records of other peers matter to a tunnel."""

    def __init__(
        self, policies: tuple[PublishedPolicy, ...], directory: Mapping[PeerId, PeerRecord], me: PeerId
    ) -> None:
        self._stated = policies
        self._directory = dict(directory)
        self._me = me
        self._intent = current(policies)
        self._fleet = Fleet(directory)
        self._derivation = Derivation(self._fleet)
        self._explicit = _explicit_of(self._intent, self._fleet, me)
        self._entries: dict[TunnelName, _Entry] = {}
        self._names: list[TunnelName] = []  # sorted, and of each name:
        self._tunnels: list[Tunnel | None] = []
        self._protected: list[ProtectedTraffic | None] = []
        self._skipped: dict[TunnelName, Skipped] = {}
        self._pairs: dict[Pair, TunnelName] = {}
        self._losers: dict[Pair, list[Skipped]] = {}
        self._traffic = SharedTraffic()
        self._presented: dict[tuple[TrafficSelector, ...], int] = {}  # number of children
        self._neighbours = NeighbourConflicts(self._intent, self._fleet, self._derivation)
        self._rivals: frozenset[PeerId] = frozenset()
        self._is_given = False
        self._is_presented: frozenset[tuple[TrafficSelector, ...]] = frozenset()
        self._other_ends: dict[TunnelName, tuple[Conflict | None, TunnelName | None]] = {}
        self.is_simple = me in self._fleet.records and not any(is_transit(it.policy) for it in self._intent)
        if self.is_simple:
            self._build()

    def is_of(self, policies: Sequence[PublishedPolicy]) -> bool:
        """Whether these are the same policies."""
        return len(policies) == len(self._stated) and all(
            one is other or one == other for one, other in zip(policies, self._stated, strict=True)
        )

    def update(self, directory: Mapping[PeerId, PeerRecord]) -> bool:
        """Derive the tunnels with the changed peers again; False: everything has to be derived."""
        changed = _changed(self._directory, directory)
        if len(changed) > MAX_CHANGED or self._me in changed:
            return False
        if not self._rivals.isdisjoint(changed):
            return False
        for peer in changed:
            record = directory.get(peer)
            self._fleet.replace(peer, record)
            self._derivation.forget(peer)
            if record is None:
                self._directory.pop(peer, None)
            else:
                self._directory[peer] = record
            self._replace_pair(peer)
        presented = self._presented_by()
        if self._is_presented != self._presented.keys():
            self._find_rivals(presented)
        elif any(self._is_rival(presented, peer) for peer in changed):
            return False
        return self.is_simple

    def expansion(self) -> Expansion:
        """The result as it is now."""
        excluded = dict(self._traffic.conflicts(self._me))
        standbys_of_peers: dict[TunnelName, TunnelName] = {}
        if self._rivals or self._is_given:
            self._add_other_ends(excluded, standbys_of_peers)
        standbys = self._traffic.standbys(excluded)
        tunnels = [tunnel for tunnel in self._tunnels if tunnel is not None]
        if excluded or standbys:
            tunnels = [
                tunnel.model_copy(update={"standby_of": standbys[tunnel.name]}) if tunnel.name in standbys else tunnel
                for tunnel in tunnels if tunnel.name not in excluded
            ]  # fmt: skip
        skipped = [skip for losers in self._losers.values() for skip in losers]
        skipped += self._skipped.values()
        skipped += [skip_conflict(self._entries[name].candidate, conflict) for name, conflict in excluded.items()]
        skipped.sort(key=lambda it: (it.name, it.policy, it.path))
        protected = tuple(traffic for traffic in self._protected if traffic is not None)
        return Expansion(tuple(tunnels), tuple(skipped), protected, standbys_of_peers)

    def _build(self) -> None:
        found: dict[Pair, list[Candidate]] = {}
        for published in self._intent:
            for candidate in candidates(published.policy, self._fleet, self._me):
                found.setdefault(candidate.pair, []).append(candidate)
        for pair, wanted in found.items():
            self._add(pair, wanted)
        if self.is_simple:
            self._find_rivals(self._presented_by())

    def _replace_pair(self, peer: PeerId) -> None:
        """Derive the tunnel with a peer again."""
        first, second = sorted((self._me, peer))
        pair = first, second
        self._remove(pair)
        among = frozenset((peer,))
        wanted: list[Candidate] = []
        for published in self._intent:
            wanted += self._explicit.get(published.policy.id, {}).get(pair, ())
            if published.policy.topology is not None:
                found = candidates(published.policy, self._fleet, self._me, among)
                wanted += (it for it in found if it.path == "topology")
        if wanted:
            self._add(pair, wanted)

    def _add(self, pair: Pair, wanted: Sequence[Candidate]) -> None:
        winner = wanted[0]
        # A name that two pairs of peers claim makes tunnels depend on each other
        if any(it.name != winner.name and it.name in self._entries for it in wanted) or winner.name in self._entries:
            self.is_simple = False
            return
        derived = self._derivation.derive(winner, self._me)
        tunnel, claimant = None, None
        if isinstance(derived, Tunnel):
            tunnel, claimant = derived, self._derivation.claimant(winner, derived, self._me)
            protected = protected_by(derived)
        else:
            self._skipped[winner.name] = derived
            protected = protected_without_tunnel(winner, self._fleet, self._me)
        self._entries[winner.name] = _Entry(winner, claimant)
        self._pairs[pair] = winner.name
        at = bisect_left(self._names, winner.name)
        self._names.insert(at, winner.name)
        self._tunnels.insert(at, tunnel)
        self._protected.insert(at, protected)
        if losers := wanted[1:]:
            self._losers[pair] = [overridden(it) for it in losers]
        if claimant is not None:
            self._traffic.add(claimant)
            self._present(claimant, 1)

    def _remove(self, pair: Pair) -> None:
        self._losers.pop(pair, None)
        name = self._pairs.pop(pair, None)
        if name is None:
            return
        entry = self._entries.pop(name)
        at = bisect_left(self._names, name)
        del self._names[at], self._tunnels[at], self._protected[at]
        self._skipped.pop(name, None)
        self._other_ends.pop(name, None)
        if entry.claimant is not None:
            self._traffic.remove(entry.claimant)
            self._present(entry.claimant, -1)

    def _present(self, claimant: Claimant, step: int) -> None:
        for child in claimant.tunnel.link.children:
            held = self._presented.get(child.local_ts, 0) + step
            if held:
                self._presented[child.local_ts] = held
            else:
                del self._presented[child.local_ts]

    def _presented_by(self) -> Presented:
        # A peer's identity is that of its record, unless a policy gives another one: then it is in the claimants
        names = {it.claimant.tunnel.link.local_auth.identity for it in self._stating() if it.claimant is not None}
        record = self._fleet.records[self._me]
        return Presented(self._presented, names | {record.identity})

    def _stating(self) -> Iterator[_Entry]:
        """The explicit tunnels, whose ends may have identities of their own."""
        for of_policy in self._explicit.values():
            for pair in of_policy:
                if (name := self._pairs.get(pair)) is not None:
                    yield self._entries[name]

    def _find_rivals(self, presented: Presented) -> None:
        self._rivals, self._is_given = self._neighbours.rivals(self._me, presented)
        self._is_presented = frozenset(self._presented)
        self._other_ends.clear()

    def _is_rival(self, presented: Presented, peer: PeerId) -> bool:
        record = self._fleet.records.get(peer)
        return record is not None and presented.touches(record.subnets, record.identity)

    def _add_other_ends(
        self, excluded: dict[TunnelName, Conflict], standbys_of_peers: dict[TunnelName, TunnelName]
    ) -> None:
        """What the tunnels lose at their other ends, for those that lose nothing here."""
        for name in self._names:
            claimant = self._entries[name].claimant
            if claimant is None or name in excluded:
                continue
            if name not in self._other_ends:
                self._other_ends[name] = self._neighbours.at_other_end(self._me, claimant, self._rivals)
            conflict, preferred = self._other_ends[name]
            if conflict is not None:
                excluded[name] = conflict
            elif preferred is not None:
                standbys_of_peers[name] = preferred


def _changed(before: Mapping[PeerId, PeerRecord], after: Mapping[PeerId, PeerRecord]) -> set[PeerId]:
    """The peers whose records differ."""
    found = {peer for peer, record in after.items() if before.get(peer) is not record}
    if len(after) - len(found) < len(before):
        found |= before.keys() - after.keys()
    return {peer for peer in found if before.get(peer) != after.get(peer)}


def _explicit_of(
    policies: Iterable[PublishedPolicy], fleet: Fleet, me: PeerId
) -> dict[str, dict[Pair, list[Candidate]]]:
    """The explicit tunnels of a peer by policy and pair: they depend on no record."""
    found: dict[str, dict[Pair, list[Candidate]]] = {}
    for published in policies:
        if not published.policy.tunnels:
            continue
        of_policy = found.setdefault(published.policy.id, {})
        for candidate in candidates(published.policy, fleet, me, frozenset()):  # none of the topology
            of_policy.setdefault(candidate.pair, []).append(candidate)
    return found
