"""Whether two tunnels of one peer claim the same traffic: selectors of a child of each overlap at both ends.

Only packets with the same interface id and mark are compared with both tunnels' selectors.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import pairwise

from warren_contracts import selectors
from warren_contracts.addresses import IPNetwork
from warren_contracts.ipsec import ChildSettings, Xfrm
from warren_contracts.selectors import AddressRange, TrafficSelector, networks_of
from warren_contracts.tunnel import Tunnel

Range = tuple[int, int, int]  # IP version, first and last address


def claimed_twice(tunnels: Iterable[Tunnel]) -> Iterator[tuple[Tunnel, Tunnel]]:
    """Pairs of tunnels of one peer that claim the same traffic, each pair once.

    Networks either contain each other or are disjoint, so one pass over the remote networks in order meets each one while
    the networks that contain it are on the stack.
    """
    every = list(tunnels)
    claims = [(claimed, number) for number, tunnel in enumerate(every) for claimed in claimed_ranges(tunnel)]
    claims.sort(key=lambda claim: (claim[0][0], claim[0][1], -claim[0][2], claim[1]))
    if _follow_each_other(claimed for claimed, _ in claims):  # the usual case needs no look at the tunnels
        return
    around: list[tuple[Range, int]] = []
    compared: set[tuple[int, int]] = set()
    for claim in claims:
        (version, first, _), number = claim
        while around and (around[-1][0][0] != version or around[-1][0][2] < first):
            around.pop()
        for _, other_number in around:
            pair = (min(number, other_number), max(number, other_number))
            if number != other_number and pair not in compared:
                compared.add(pair)
                if claim_the_same(every[other_number], every[number]):
                    yield every[other_number], every[number]
        around.append(claim)


def claimed_ranges(tunnel: Tunnel) -> Iterator[Range]:
    """The remote networks of a tunnel."""
    for child in tunnel.link.children:
        yield from ranges_of(child.remote_ts)


def ranges_of(listed: Iterable[TrafficSelector]) -> list[Range]:
    """The networks of selectors; none of those that are dynamic."""
    return [_range(network) for selector in listed for network in _networks(selector)]


def _networks(selector: TrafficSelector) -> tuple[IPNetwork, ...]:
    addresses = selector.addresses
    if addresses is None or isinstance(addresses, AddressRange):
        return selector.networks
    return (addresses,)


def are_apart(networks: Iterable[Range]) -> bool:
    """Whether no two of these networks overlap."""
    return _follow_each_other(sorted(networks))


def _follow_each_other(networks: Iterable[Range]) -> bool:
    return all(own[2] < after[1] or own[0] != after[0] for own, after in pairwise(networks))


def claim_the_same(one: Tunnel, other: Tunnel) -> bool:
    """Whether two tunnels of one peer claim the same traffic."""
    if not _compete(one.link.xfrm, other.link.xfrm):
        return False
    return any(children_overlap(a, b) for a in one.link.children for b in other.link.children)


def _compete(one: Xfrm, other: Xfrm) -> bool:
    """Whether any packet is looked up in the policies of both, in either direction.

    The kernel compares interface ids for equality, 0 included, and a mark within the mask of the policy (xfrm_policy_match).
    """
    if one is other:
        return True
    return any(
        getattr(one, f"if_id_{way}") == getattr(other, f"if_id_{way}") and _marks_overlap(one, other, f"mark_{way}")
        for way in ("in", "out")
    )


def _marks_overlap(one: Xfrm, other: Xfrm, field: str) -> bool:
    own, others = getattr(one, field), getattr(other, field)
    if not own or not others:
        return True  # a policy without a mark matches every packet
    common: int = getattr(one, f"{field}_mask") & getattr(other, f"{field}_mask")
    return bool(own & common == others & common)


def inner_tunnel(one: Tunnel, other: Tunnel) -> Tunnel | None:
    """The tunnel whose common selectors all lie within those of the other; None if there is none.

    Kernels take the policy of the longer prefixes first, so that the inner tunnel carries all of the common traffic.
    """
    inner: Tunnel | None = None
    for a in one.link.children:
        for b in other.link.children:
            if not children_overlap(a, b):
                continue
            found = one if _lies_within(a, b) else other if _lies_within(b, a) else None
            if found is None or (inner is not None and inner is not found):
                return None
            inner = found
    return inner


def _lies_within(inner: ChildSettings, outer: ChildSettings) -> bool:
    """Whether each selector of `inner` that overlaps one of `outer` lies within it, and is not equal, by both ends together."""
    pairs = [
        (local, remote, outer_local, outer_remote)
        for local in inner.local_ts for outer_local in outer.local_ts if selectors.overlap(local, outer_local)
        for remote in inner.remote_ts for outer_remote in outer.remote_ts if selectors.overlap(remote, outer_remote)
    ]  # fmt: skip
    return all(
        selectors.within(local, outer_local)
        and selectors.within(remote, outer_remote)
        and (local, remote) != (outer_local, outer_remote)
        for local, remote, outer_local, outer_remote in pairs
    )


def children_overlap(one: ChildSettings, other: ChildSettings) -> bool:
    """Whether any packet belongs to two children of one peer."""
    return selectors_overlap(one.remote_ts, other.remote_ts) and selectors_overlap(one.local_ts, other.local_ts)


def selectors_overlap(own: Iterable[TrafficSelector], others: Iterable[TrafficSelector]) -> bool:
    """Whether any two selectors of the two lists overlap."""
    listed = list(others)
    if not overlap(networks_of(own), networks_of(listed)):
        return False
    return any(selectors.overlap(a, b) for a in own for b in listed)


class Ranges:
    """A set of networks that finds overlaps with another network."""

    def __init__(self, networks: Iterable[IPNetwork]) -> None:
        self._starts: dict[int, list[int]] = {4: [], 6: []}
        self._ends: dict[int, list[int]] = {4: [], 6: []}
        for version, first, last in sorted(map(_range, networks)):
            starts, ends = self._starts[version], self._ends[version]
            if not ends or ends[-1] < first:
                starts.append(first)
                ends.append(last)
            else:
                ends[-1] = max(ends[-1], last)

    def touch(self, network: IPNetwork) -> bool:
        version, first, last = _range(network)
        before = bisect_right(self._starts[version], last)
        return before > 0 and self._ends[version][before - 1] >= first


def overlap(own: Iterable[IPNetwork], others: Iterable[IPNetwork]) -> bool:
    """Whether any two networks of the two lists overlap."""
    ranges = [_range(network) for network in others]
    return any(
        version == other_version and first <= other_last and other_first <= last
        for version, first, last in map(_range, own)
        for other_version, other_first, other_last in ranges
    )


def _range(network: IPNetwork) -> Range:
    first = int(network.network_address)  # `broadcast_address` creates an object and is three times slower
    return network.version, first, first + (1 << (network.max_prefixlen - network.prefixlen)) - 1
