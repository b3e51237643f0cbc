"""Candidates: the tunnels that policies request, before it is known whether they can be derived.

A candidate is the same at both ends: the policy determines the order of `first` and `second`.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from warren_contracts.names import PeerId, TunnelName, tunnel_name
from warren_contracts.policy import (
    ChildSpec,
    Crypto,
    HubSpoke,
    Policy,
    PublishedPolicy,
    TunnelEnd,
    TunnelOptions,
    TunnelSpec,
)
from warren_intent.fleet import Fleet, sides
from warren_intent.links import WHOLE_TUNNEL


class Candidate(NamedTuple):
    """One tunnel that a policy requests. `path` is the requesting field: `topology` or `tunnels/3`."""

    policy: Policy
    path: str
    name: TunnelName
    first: TunnelEnd
    second: TunnelEnd
    crypto: Crypto
    options: TunnelOptions
    children: tuple[ChildSpec, ...]
    auto_start: bool = True
    spoke: PeerId | None = None  # the spoke, in hub-spoke topologies

    @property
    def pair(self) -> tuple[str, str]:
        """The sorted ends; candidates with the same pair are the same tunnel."""
        first, second = _key(self.first), _key(self.second)
        return (first, second) if first <= second else (second, first)

    @property
    def peers(self) -> tuple[PeerId, ...]:
        """The ends that are managed peers."""
        first, second = self.first.peer, self.second.peer
        if first is None or second is None:
            return tuple(peer for peer in (first, second) if peer is not None)
        return first, second


def _key(end: TunnelEnd) -> str:
    # A peer id contains no space, so a foreign gateway's identity never equals a peer.
    return end.peer if end.peer is not None else f"foreign {end.identity}"


def candidates(
    policy: Policy, fleet: Fleet, me: PeerId | None = None, among: frozenset[PeerId] | None = None
) -> Iterator[Candidate]:
    """The tunnels that a policy requests, for `me` or for the whole fleet; explicit tunnels before the topology's.

    `among`: of the topology's tunnels only those with one of these peers.
    """
    for index, spec in enumerate(policy.tunnels):
        first, second = spec.ends
        if me is None or me in (first.peer, second.peer):
            yield _explicit(policy, index, spec)
    if policy.topology is not None:
        yield from _of_topology(policy, fleet, me, among)


def _explicit(policy: Policy, index: int, spec: TunnelSpec) -> Candidate:
    return Candidate(
        policy=policy, path=f"tunnels/{index}", name=spec.name, first=spec.ends[0], second=spec.ends[1],
        crypto=spec.crypto or policy.crypto, options=spec.options or policy.options,
        children=spec.children or policy.children or WHOLE_TUNNEL, auto_start=spec.auto_start,
    )  # fmt: skip


def _of_topology(
    policy: Policy, fleet: Fleet, me: PeerId | None, among: frozenset[PeerId] | None
) -> Iterator[Candidate]:
    assert policy.topology is not None
    left, right = sides(policy.topology)
    has_roles = isinstance(policy.topology, HubSpoke)
    is_left, is_right = partial(fleet.members.has, left), partial(fleet.members.has, right)
    if me is not None and among is not None:
        pairs = _pairs_among(is_left, is_right, me, among)
    else:
        lefts, rights = fleet.members.of(left), fleet.members.of(right)
        is_left, is_right = lefts.__contains__, rights.__contains__  # type: ignore[assignment] # of one argument
        pairs = _pairs(lefts, rights, me)
    for first, second in pairs:
        # Two peers that have both roles occur in either order: the lower id is the first end.
        interchangeable = is_right(first) and is_left(second)
        if interchangeable and first > second:
            continue
        yield Candidate(
            policy=policy, path="topology", name=tunnel_name(first, second),
            first=fleet.end(first), second=fleet.end(second), crypto=policy.crypto, options=policy.options,
            children=policy.children or WHOLE_TUNNEL, spoke=second if has_roles and not interchangeable else None,
        )  # fmt: skip


def _pairs(left: frozenset[PeerId], right: frozenset[PeerId], me: PeerId | None) -> Iterator[tuple[PeerId, PeerId]]:
    if me is None:
        yield from ((first, second) for first in left for second in right if first != second)
        return
    if me in left:
        yield from ((me, other) for other in right if other != me)
    if me in right:
        yield from ((other, me) for other in left if other != me)


def _pairs_among(
    is_left: Callable[[PeerId], bool], is_right: Callable[[PeerId], bool], me: PeerId, among: frozenset[PeerId]
) -> Iterator[tuple[PeerId, PeerId]]:
    """The pairs of `me` with these peers only; the work does not grow with the members of either side."""
    if is_left(me):
        yield from ((me, other) for other in among if other != me and is_right(other))
    if is_right(me):
        yield from ((other, me) for other in among if other != me and is_left(other))


def select_winners(
    policies: list[PublishedPolicy], fleet: Fleet, me: PeerId, among: frozenset[PeerId] | None = None
) -> tuple[list[Candidate], list[Candidate]]:
    """The candidates of `me` that are used, and those that another one overrides; `policies` as `fleet.current` orders them."""
    pairs: set[tuple[str, str]] = set()
    names: set[TunnelName] = set()
    winners: list[Candidate] = []
    losers: list[Candidate] = []
    for published in policies:
        for candidate in candidates(published.policy, fleet, me, among):
            if candidate.pair in pairs or candidate.name in names:
                losers.append(candidate)
                continue
            pairs.add(candidate.pair)
            names.add(candidate.name)
            winners.append(candidate)
    return winners, losers
