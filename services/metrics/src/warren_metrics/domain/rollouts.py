"""How far the current revision of each policy has got, at the gateways that it concerns: those that it names, and those with a tunnel
of it (`policy_gateways`). Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from warren_contracts.policy import PublishedPolicy
from warren_contracts.rollouts import MAX_WAITING, PolicyRollout, RolloutState, WaitingGateway
from warren_contracts.subjects import ALL, named_peer
from warren_intent.relations import readers
from warren_metrics.domain.fleet import FleetTelemetry
from warren_metrics.domain.peers import PeerView

_MISSING = (RolloutState.FAILED, RolloutState.PENDING, RolloutState.UNREACHABLE)


@dataclass(slots=True)
class _Published:
    """The current revision of a policy."""

    version: tuple[int, int]  # epoch, revision
    named: frozenset[str]  # gateways
    everyone: bool
    seen_at: datetime
    applied: set[str] = field(default_factory=set)  # gateways that have applied it; they keep it


class Rollouts:
    """The progress of all published policies."""

    def __init__(self) -> None:
        self._published: dict[str, _Published] = {}

    def publish(self, policies: Iterable[PublishedPolicy], epoch: int, now: datetime) -> None:
        """Replace the published policies."""
        published: dict[str, _Published] = {}
        for it in policies:
            held = self._published.get(it.policy.id)
            if held is None or held.version != (epoch, it.revision):
                audience = readers(it.policy)
                named = frozenset(peer for reader in audience if (peer := named_peer(reader)) is not None)
                held = _Published((epoch, it.revision), named, ALL in audience, now)
            published[it.policy.id] = held
        self._published = published

    def progress(self, fleet: FleetTelemetry, edited: Mapping[int, datetime], now: datetime) -> list[PolicyRollout]:
        """The progress of each policy, in their order; `edited` has the times of revisions, as far as they are known."""
        return [_progress(policy, held, fleet, edited, now) for policy, held in sorted(self._published.items())]


def _progress(
    policy: str, published: _Published, fleet: FleetTelemetry, edited: Mapping[int, datetime], now: datetime
) -> PolicyRollout:
    concerned = published.named.union(fleet.gateways.of(policy), fleet.peers if published.everyone else ())
    missing: dict[RolloutState, list[str]] = {state: [] for state in _MISSING}
    for peer in concerned - published.applied:
        state = state_of(fleet.peers.get(peer), published.version, now)
        if state is RolloutState.APPLIED:
            published.applied.add(peer)
        else:
            missing[state].append(peer)
    waiting = [WaitingGateway(peer=peer, state=state) for state in _MISSING for peer in sorted(missing[state])]
    counts = {RolloutState.APPLIED: len(concerned) - len(waiting)}
    counts |= {state: len(missing[state]) for state in _MISSING}
    revision = published.version[1]
    return PolicyRollout(
        policy=policy, revision=revision, since=edited.get(revision, published.seen_at) if waiting else None,
        gateways=counts, waiting=tuple(waiting[:MAX_WAITING]),
    )  # fmt: skip


def state_of(view: PeerView | None, version: tuple[int, int], now: datetime) -> RolloutState:
    """What a gateway has done with a revision of an epoch."""
    if view is not None and (view.applied_epoch, view.applied_revision) >= version:
        return RolloutState.APPLIED
    if view is None or not view.online(now):
        return RolloutState.UNREACHABLE
    received = (view.received_epoch, view.received_revision) >= version
    return RolloutState.FAILED if received else RolloutState.PENDING
