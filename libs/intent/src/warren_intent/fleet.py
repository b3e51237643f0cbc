"""The directory as derivation needs it: active records, and the members of readers."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from functools import cached_property

from warren_contracts.base import assembled
from warren_contracts.names import PeerId, Tag
from warren_contracts.peers import PeerRecord
from warren_contracts.policy import HubSpoke, Mesh, Policy, PublishedPolicy, SiteToSite, Topology, TunnelEnd
from warren_contracts.subjects import ALL, Audience, peer_reader

NOBODY: frozenset[PeerId] = frozenset()
_END_FIELDS = set(TunnelEnd.model_fields)  # shared, as in `links`
_BARE_END = TunnelEnd.model_construct(
    _END_FIELDS, peer=None, addresses=(), identity=None, public_key=None, subnets=(), vips=(), pools=(), xfrm=None
)


class Members:
    """The peers of each reader, by the tags of every peer. Results are cached."""

    def __init__(self, tags_of: Mapping[PeerId, Collection[Tag]]) -> None:
        self._tags_of = tags_of
        self._known: dict[tuple[Audience, ...], frozenset[PeerId]] = {}

    @cached_property
    def everybody(self) -> frozenset[PeerId]:
        return frozenset(self._tags_of)

    @cached_property
    def _by_tag(self) -> dict[Tag, frozenset[PeerId]]:
        found: defaultdict[Tag, set[PeerId]] = defaultdict(set)
        for peer, tags in self._tags_of.items():
            for tag in tags:
                found[tag].add(peer)
        return {tag: frozenset(peers) for tag, peers in found.items()}

    def of(self, readers: tuple[Audience, ...]) -> frozenset[PeerId]:
        """The peers that match any of these readers."""
        if readers not in self._known:
            self._known[readers] = frozenset().union(*(self._of_one(reader) for reader in readers))
        return self._known[readers]

    def has(self, readers: tuple[Audience, ...], peer: PeerId) -> bool:
        """Whether a peer matches any of these readers, without looking at the other peers."""
        tags = self._tags_of.get(peer)
        if tags is None:
            return False
        own = peer_reader(peer)
        return any(it in (ALL, own) or (it.startswith("tag=") and it[4:] in tags) for it in readers)

    def _of_one(self, reader: Audience) -> frozenset[PeerId]:
        if reader == ALL:
            return self.everybody
        kind, _, name = reader.partition("=")
        if kind == "tag":
            return self._by_tag.get(name, NOBODY)
        return frozenset({name}) if name in self._tags_of else NOBODY


class Fleet:
    """The records that are not withdrawn, and the members of readers among them."""

    def __init__(self, directory: Mapping[PeerId, PeerRecord]) -> None:
        self.records = {peer: record for peer, record in directory.items() if not record.withdrawn}
        self._tags = {peer: record.tags for peer, record in self.records.items()}
        self.members = Members(self._tags)
        self._ends: dict[PeerId, TunnelEnd] = {}

    def replace(self, peer: PeerId, record: PeerRecord | None) -> None:
        """Replace the record of a peer; None, or one that is withdrawn, removes it."""
        if record is None or record.withdrawn:
            self.records.pop(peer, None)
            self._tags.pop(peer, None)
        else:
            self.records[peer] = record
            self._tags[peer] = record.tags
        self.members = Members(self._tags)

    def end(self, peer: PeerId) -> TunnelEnd:
        """A peer as an end that a policy names by id only; cached, since a hub occurs in many tunnels."""
        if peer not in self._ends:
            # The id comes from the directory and was validated there.
            values = {**_BARE_END.__dict__, "peer": peer}
            self._ends[peer] = assembled(TunnelEnd, _END_FIELDS, values)
        return self._ends[peer]


def sides(topology: Topology) -> tuple[tuple[Audience, ...], tuple[Audience, ...]]:
    """A topology as its two sides, each peer of one having a tunnel with each of the other."""
    match topology:
        case SiteToSite():
            return (topology.sites[0],), (topology.sites[1],)
        case HubSpoke():
            return topology.hubs, topology.spokes
        case Mesh():
            return topology.members, topology.members


def current(policies: Iterable[PublishedPolicy]) -> list[PublishedPolicy]:
    """The enabled policies at their highest revision, by descending priority, then by id.

    `check` refuses equal priorities for the same tunnel; if they occur nevertheless, the lower id wins at every peer.
    """
    newest: dict[str, PublishedPolicy] = {}
    for published in policies:
        held = newest.get(published.policy.id)
        if held is None or published.revision > held.revision:
            newest[published.policy.id] = published
    enabled = (published for published in newest.values() if published.policy.enabled)
    return sorted(enabled, key=lambda published: (-published.policy.priority, published.policy.id))


def is_transit(policy: Policy) -> bool:
    """Whether spokes of this policy reach each other through the hub."""
    return isinstance(policy.topology, HubSpoke) and policy.topology.transit
