"""What a command does to the stored policies: a pure function of the state before and the command.

A revision counts the changes of the whole service within one epoch; a version counts the changes of one policy and is
never used twice, also not after a deletion, so `expected_versions` cannot mistake a new policy for an old one.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from warren_contracts.commands import ApplyPolicies
from warren_contracts.policy import Policy, PublishedPolicy
from warren_contracts.problems import ConflictError, InvalidField, InvalidInputError, NotFoundError


@dataclass(frozen=True, slots=True)
class PolicySnapshot:
    """All policies at one revision, and the highest version that each id ever had."""

    epoch: int
    revision: int
    policies: Mapping[str, PublishedPolicy]
    versions: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class RevisionChange:
    """What one command changes. `revision` is the new one; nothing is stored when `changed` is empty."""

    revision: int
    before: Mapping[str, PublishedPolicy]
    after: Mapping[str, PublishedPolicy]
    created: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()

    @property
    def changed(self) -> tuple[str, ...]:
        return tuple(sorted((*self.created, *self.updated, *self.deleted)))


def plan_apply(snapshot: PolicySnapshot, command: ApplyPolicies) -> RevisionChange:
    """The change that `command` makes; raises InvalidInputError, Conflict or NotFoundError, each naming policy and field."""
    _check_repeats(command)
    _check_versions(snapshot, {policy.id for policy in command.policies}, command.expected_versions, "policies")
    _check_stated_versions(snapshot, command.policies)
    _check_mode(snapshot, command)
    revision = snapshot.revision + 1
    after = dict(snapshot.policies)
    created: list[str] = []
    updated: list[str] = []
    unchanged: list[str] = []
    for policy in command.policies:
        known = snapshot.policies.get(policy.id)
        if known is not None and _same(known.policy, policy):
            unchanged.append(policy.id)
            continue
        (created if known is None else updated).append(policy.id)
        version = snapshot.versions.get(policy.id, 0) + 1
        after[policy.id] = PublishedPolicy(revision=revision, policy=policy.model_copy(update={"version": version}))
    return RevisionChange(
        revision, snapshot.policies, MappingProxyType(after),
        created=tuple(created), updated=tuple(updated), unchanged=tuple(unchanged),
    )  # fmt: skip


def plan_delete(
    snapshot: PolicySnapshot, ids: Iterable[str], expected_versions: Mapping[str, int] | None = None
) -> RevisionChange:
    """The change that withdraws `ids`, all or none; NotFoundError names those that do not exist, Conflict another version."""
    wanted = tuple(dict.fromkeys(ids))
    absent = [id_ for id_ in wanted if id_ not in snapshot.policies]
    if absent:
        raise NotFoundError(
            f"no policy {', '.join(absent)}: nothing was deleted; list the policies to see what there is"
        )
    _check_versions(snapshot, wanted, expected_versions or {}, "ids")
    after = {id_: published for id_, published in snapshot.policies.items() if id_ not in wanted}
    return RevisionChange(snapshot.revision + 1, snapshot.policies, MappingProxyType(after), deleted=wanted)


def _same(stored: Policy, given: Policy) -> bool:
    """Whether `given` says what is stored; its version is the service's to count, not the caller's."""
    return given.model_copy(update={"version": stored.version}) == stored


def _check_repeats(command: ApplyPolicies) -> None:
    seen: dict[str, int] = {}
    for index, policy in enumerate(command.policies):
        if policy.id in seen:
            message = f"the id {policy.id} is given before as policies/{seen[policy.id]}: state each policy once"
            raise InvalidInputError(
                f"policies/{index}/id: {message}", (InvalidField(field=f"policies/{index}/id", message=message),)
            )
        seen[policy.id] = index


def _check_versions(snapshot: PolicySnapshot, given: Collection[str], versions: Mapping[str, int], field: str) -> None:
    errors = []
    for id_, expected in sorted(versions.items()):
        if id_ not in given:
            message = f"this policy is not in `{field}`"
            raise InvalidInputError(
                f"expected_versions/{id_}: {message}",
                (InvalidField(field=f"expected_versions/{id_}", message=message),),
            )
        held = snapshot.policies[id_].policy.version if id_ in snapshot.policies else 0
        if held != expected:
            errors.append(
                InvalidField(field=f"expected_versions/{id_}", message=f"expected version {expected}, stored is {held}")
            )
    if errors:
        raise ConflictError(
            f"{errors[0].field}: {errors[0].message}; read the policy again and repeat the change", tuple(errors)
        )


def _check_stated_versions(snapshot: PolicySnapshot, policies: Iterable[Policy]) -> None:
    """A policy that states its version was edited from that one: it replaces no other."""
    errors = []
    for index, policy in enumerate(policies):
        held = snapshot.policies[policy.id].policy.version if policy.id in snapshot.policies else 0
        if policy.version not in (0, held):
            stored = f"version {held} is stored" if held else "no policy is stored under this id"
            errors.append(
                InvalidField(
                    field=f"policies/{index}/version",
                    message=f"{policy.id} was edited from version {policy.version}, but {stored}:"
                    " show it again and repeat the edit, or remove `version` to replace whatever is stored",
                )
            )
    if errors:
        raise ConflictError(f"{errors[0].field}: {errors[0].message}", tuple(errors))


def _check_mode(snapshot: PolicySnapshot, command: ApplyPolicies) -> None:
    known = [policy.id for policy in command.policies if policy.id in snapshot.policies]
    unknown = [policy.id for policy in command.policies if policy.id not in snapshot.policies]
    if command.mode == "create" and known:
        raise ConflictError(f"policy {', '.join(known)} exists already: update it, or choose another id")
    if command.mode == "update" and unknown:
        raise NotFoundError(f"no policy {', '.join(unknown)}: create it, or correct the id")
