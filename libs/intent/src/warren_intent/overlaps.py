"""Whether two tunnels of one peer claim the same traffic: their local and their remote selectors both overlap."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import pairwise

from warren_contracts.addresses import IPNetwork
from warren_contracts.tunnel import TunnelConfig

Range = tuple[int, int, int]  # IP version, first and last address


def claimed_twice(tunnels: Iterable[TunnelConfig]) -> Iterator[tuple[TunnelConfig, TunnelConfig]]:
    """Pairs of tunnels of one peer that claim the same traffic, each pair once.

    Networks either contain each other or are disjoint, so one pass over the remote selectors in order meets each one while
    the networks that contain it are on the stack.
    """
    every = list(tunnels)
    if _all_apart([_range(network) for tunnel in every for network in tunnel.remote_ts]):
        return
    claims = sorted(
        ((_range(network), number, tunnel) for number, tunnel in enumerate(every) for network in tunnel.remote_ts),
        key=lambda claim: (claim[0][0], claim[0][1], -claim[0][2], claim[1]),
    )
    around: list[tuple[Range, int, TunnelConfig]] = []
    reported: set[tuple[int, int]] = set()
    for claim in claims:
        (version, first, _), number, tunnel = claim
        while around and (around[-1][0][0] != version or around[-1][0][2] < first):
            around.pop()
        for _, other_number, other in around:
            pair = (min(number, other_number), max(number, other_number))
            if number != other_number and pair not in reported and overlap(tunnel.local_ts, other.local_ts):
                reported.add(pair)
                yield other, tunnel
        around.append(claim)


def _all_apart(ranges: list[Range]) -> bool:
    """Whether no two networks overlap, which is the usual case and needs no look at the tunnels."""
    ranges.sort()
    return all(own[2] < after[1] or own[0] != after[0] for own, after in pairwise(ranges))


class Ranges:
    """A set of networks that finds overlaps with another network."""

    def __init__(self, networks: Iterable[IPNetwork]) -> None:
        self._starts: dict[int, list[int]] = {4: [], 6: []}
        self._ends: dict[int, list[int]] = {4: [], 6: []}
        for version, first, last in sorted(map(_range, networks)):
            starts, ends = self._starts[version], self._ends[version]
            if not ends or ends[-1] < first:  # else the previous range contains it
                starts.append(first)
                ends.append(last)

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
