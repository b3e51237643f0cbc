"""How far the current revision of each policy has got, at the gateways that it concerns: the members of its readers, by the registry's
directory. Until that was read once: those that it names, and those with a tunnel of it (`policy_gateways`). Pure."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from heapq import nsmallest
from itertools import islice
from typing import NamedTuple

from warren_contracts.names import PeerId, Tag
from warren_contracts.policy import PublishedPolicy
from warren_contracts.rollouts import MAX_WAITING, PolicyRollout, RolloutState, WaitingGateway
from warren_contracts.subjects import ALL, Audience, named_peer
from warren_intent.fleet import Members
from warren_intent.relations import readers
from warren_metrics.domain.fleet import FleetTelemetry

_MISSING = (RolloutState.FAILED, RolloutState.PENDING, RolloutState.UNREACHABLE)


@dataclass(slots=True)
class _Published:
    """The current revision of a policy."""

    version: tuple[int, int]  # epoch, revision
    readers: tuple[Audience, ...]
    seen_at: datetime
    applied: set[str] = field(default_factory=set)  # gateways that have applied it; they keep it


class Rollouts:
    """The progress of all published policies."""

    def __init__(self) -> None:
        self._published: dict[str, _Published] = {}
        self._members: Members | None = None  # None: the directory was never read

    def publish(self, policies: Iterable[PublishedPolicy], epoch: int, now: datetime) -> None:
        """Replace the published policies."""
        published: dict[str, _Published] = {}
        for it in policies:
            held = self._published.get(it.policy.id)
            if held is None or held.version != (epoch, it.revision):
                held = _Published((epoch, it.revision), tuple(sorted(readers(it.policy))), now)
            published[it.policy.id] = held
        self._published = published

    def set_tags(self, tags_of: Mapping[PeerId, Collection[Tag]]) -> None:
        """Replace the tags of all peers of the directory. The mapping is not changed afterwards."""
        self._members = Members(tags_of)

    def progress(self, fleet: FleetTelemetry, edited: Mapping[int, datetime], now: datetime) -> list[PolicyRollout]:
        """The progress of each policy, in their order; `edited` has the times of revisions, as far as they are known."""
        standings = _standings(fleet, now)
        return [
            _progress(policy, held, self._concerned(policy, held, fleet), standings, edited)
            for policy, held in sorted(self._published.items())
        ]

    def _concerned(self, policy: str, published: _Published, fleet: FleetTelemetry) -> frozenset[PeerId]:
        if self._members is not None:
            return self._members.of(published.readers)
        named = frozenset(peer for reader in published.readers if (peer := named_peer(reader)) is not None)
        return named.union(fleet.gateways.of(policy), fleet.peers if ALL in published.readers else ())


class _Standing(NamedTuple):
    """What a gateway says of revisions, as (epoch, revision). Most gateways of a fleet have one of a few standings."""

    applied: tuple[int, int]
    received: tuple[int, int]
    is_online: bool

    def state(self, version: tuple[int, int]) -> RolloutState:
        """What such a gateway has done with a revision of an epoch."""
        if self.applied >= version:
            return RolloutState.APPLIED
        if not self.is_online:
            return RolloutState.UNREACHABLE
        return RolloutState.FAILED if self.received >= version else RolloutState.PENDING


def _standings(fleet: FleetTelemetry, now: datetime) -> dict[_Standing, set[PeerId]]:
    found: dict[_Standing, set[PeerId]] = {}
    for peer, view in fleet.peers.items():
        standing = _Standing(
            (view.applied_epoch, view.applied_revision), (view.received_epoch, view.received_revision), view.online(now)
        )
        found.setdefault(standing, set()).add(peer)
    return found


def _progress(
    policy: str, published: _Published, concerned: frozenset[PeerId], standings: Mapping[_Standing, set[PeerId]],
    edited: Mapping[int, datetime],
) -> PolicyRollout:  # fmt: skip
    missing: dict[RolloutState, list[str]] = {state: [] for state in _MISSING}
    unseen = {*concerned} - published.applied  # not frozen: what is seen is removed in place
    for standing, peers in standings.items():
        found = unseen & peers
        state = standing.state(published.version)
        if state is RolloutState.APPLIED:
            published.applied |= found
        else:
            missing[state] += found
        unseen -= found
    missing[RolloutState.UNREACHABLE] += unseen
    # Of 10,000 gateways few are named: a model of each would take longer than all else together.
    named = ((state, peer) for state in _MISSING for peer in nsmallest(MAX_WAITING, missing[state]))
    waiting = tuple(WaitingGateway(peer=peer, state=state) for state, peer in islice(named, MAX_WAITING))
    counts = {RolloutState.APPLIED: len(concerned) - sum(map(len, missing.values()))}
    counts |= {state: len(missing[state]) for state in _MISSING}
    revision = published.version[1]
    since = edited.get(revision, published.seen_at) if waiting else None
    return PolicyRollout(policy=policy, revision=revision, since=since, gateways=counts, waiting=waiting)
