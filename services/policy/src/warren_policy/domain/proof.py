"""Whether the intent as it would stand may be published: `warren_intent.check`, in the fields of the command.

The whole intent is checked, since a new policy can contradict an old one. What was wrong before this change (a peer that was revoked
since) does not stop it, in the given policies neither: there it is a warning. Only findings that were not there before refuse.
"""

from collections.abc import Collection, Mapping, Sequence

from warren_contracts.commands import ApplyPolicies
from warren_contracts.policy import PublishedPolicy
from warren_contracts.problems import InvalidField
from warren_intent.check import check_derived
from warren_intent.findings import Finding, Severity
from warren_policy.domain.derived import DerivedChange
from warren_policy.domain.revisions import RevisionChange
from warren_policy.errors import IntentRefusedError

MAX_REPORTED = 32  # findings in one problem: it must fit into a reply, and nobody reads more


def prove(
    change: RevisionChange, command: ApplyPolicies, derived: DerivedChange, tags: Collection[str]
) -> tuple[InvalidField, ...]:
    """The warnings of the given policies; raises IntentRefusedError with the errors, the fields as the command has them."""
    given = [policy.id for policy in command.policies]
    order = [*given, *sorted(id_ for id_ in change.after if id_ not in given)]
    found = check_derived([change.after[id_].policy for id_ in order], derived.after, tags)
    errors = [finding for finding in found if finding.severity is Severity.ERROR]
    old = _old(errors, change.before, derived, tags)
    new = [finding for finding in errors if _identity(finding) not in old]
    if new:
        raise _refusal(new, order, len(given))
    return tuple(_field(finding, order, len(given)) for finding in found if finding.policy in given)[:MAX_REPORTED]


def _old(
    errors: list[Finding], before: Mapping[str, PublishedPolicy], derived: DerivedChange, tags: Collection[str]
) -> frozenset[tuple[str, str, str, str]]:
    """The errors that the stored policies have without this change: the fleet has changed since they were stored."""
    if not errors:
        return frozenset()
    found = check_derived([before[id_].policy for id_ in sorted(before)], derived.before, tags)
    return frozenset(_identity(finding) for finding in found if finding.severity is Severity.ERROR)


def _identity(finding: Finding) -> tuple[str, str, str, str]:
    return finding.code, finding.policy, _within(finding), finding.message


def _within(finding: Finding) -> str:
    """The field within its policy: `topology/hubs/0` of `policies/3/topology/hubs/0`."""
    return "/".join(finding.field.split("/")[2:])


def _field(finding: Finding, order: Sequence[str], given: int) -> InvalidField:
    """The finding for the caller: a policy that the command does not hold is named by its id."""
    parts = finding.field.split("/")
    index = int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else 0
    if index < given:
        return finding.invalid_field()
    return InvalidField(field="/".join(("stored", order[index], *parts[2:])), message=finding.message)


def _refusal(errors: Sequence[Finding], order: Sequence[str], given: int) -> IntentRefusedError:
    fields = tuple(_field(finding, order, given) for finding in errors[:MAX_REPORTED])
    lines = [
        f"policy {finding.policy}: {field.field}: {field.message}"
        for finding, field in zip(errors, fields[:3], strict=False)
    ]
    more = len(errors) - len(lines)
    return IntentRefusedError("; ".join(lines) + (f" (and {more} more)" if more else ""), fields, errors[0].code)
