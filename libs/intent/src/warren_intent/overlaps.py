"""Whether two tunnels of one peer claim the same traffic: their local and their remote selectors both overlap."""

from collections.abc import Iterable, Iterator

from warren_contracts.addresses import IPNetwork
from warren_contracts.tunnel import TunnelConfig

Range = tuple[int, int, int]  # IP version, first and last address


def claimed_twice(tunnels: Iterable[TunnelConfig]) -> Iterator[tuple[TunnelConfig, TunnelConfig]]:
    """Pairs of tunnels of one peer that claim the same traffic, each pair once.

    Networks either contain each other or are apart, so one pass over the remote selectors in order meets each one while
    the networks around it are still on the stack.
    """
    claims = sorted(
        ((_range(network), number, tunnel) for number, tunnel in enumerate(tunnels) for network in tunnel.remote_ts),
        key=lambda claim: (claim[0][0], claim[0][1], -claim[0][2], claim[1]),
    )
    around: list[tuple[Range, int, TunnelConfig]] = []
    told: set[tuple[int, int]] = set()
    for claim in claims:
        (version, first, _), number, tunnel = claim
        while around and (around[-1][0][0] != version or around[-1][0][2] < first):
            around.pop()
        for _, other_number, other in around:
            pair = (min(number, other_number), max(number, other_number))
            if number != other_number and pair not in told and overlap(tunnel.local_ts, other.local_ts):
                told.add(pair)
                yield other, tunnel
        around.append(claim)


def overlap(own: Iterable[IPNetwork], others: Iterable[IPNetwork]) -> bool:
    """Whether any network of the one overlaps any of the other."""
    ranges = [_range(network) for network in others]
    return any(
        version == other_version and first <= other_last and other_first <= last
        for version, first, last in map(_range, own)
        for other_version, other_first, other_last in ranges
    )


def _range(network: IPNetwork) -> Range:
    return network.version, int(network.network_address), int(network.broadcast_address)
