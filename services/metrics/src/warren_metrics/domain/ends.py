"""Whose the explicitly named tunnels are, by the published policies."""

from collections.abc import Iterable, Mapping

from warren_contracts.policy import PublishedPolicy


def ends_of(policies: Iterable[PublishedPolicy]) -> Mapping[str, frozenset[str]]:
    """The peers of each explicit tunnel, by its name. A tunnel to a foreign gateway has one."""
    ends: dict[str, frozenset[str]] = {}
    for published in policies:
        for tunnel in published.policy.tunnels:
            peers = frozenset(end.peer for end in tunnel.ends if end.peer is not None)
            ends[tunnel.name] = ends.get(tunnel.name, frozenset()) | peers
    return ends
