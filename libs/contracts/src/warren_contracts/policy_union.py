"""Which policy applies when several readers' sets hold it in different revisions: the only implementation."""

from collections.abc import Iterable

from warren_contracts.names import PolicyId
from warren_contracts.policy import PolicySet, PublishedPolicy


def unite(sets: Iterable[PolicySet]) -> tuple[PublishedPolicy, ...]:
    """The union of the sets by policy id, in order of ids; the highest (epoch of the set, revision of the policy) wins."""
    newest: dict[PolicyId, tuple[tuple[int, int], PublishedPolicy]] = {}
    for policy_set in sets:
        for published in policy_set.policies:
            version = (policy_set.epoch, published.revision)
            known = newest.get(published.policy.id)
            if known is None or version > known[0]:
                newest[published.policy.id] = (version, published)
    return tuple(newest[policy][1] for policy in sorted(newest))
