"""Findings: what `check` says, as values. Like findings of one policy are told once, with their number."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from warren_contracts.names import PolicyId
from warren_contracts.problems import InvalidField

_NAMED = 3  # examples that a summed-up finding names


class Severity(StrEnum):
    """An error is refused; a warning is told and stored."""

    ERROR = "error"
    WARNING = "warning"


class Code(StrEnum):
    """What is wrong."""

    UNKNOWN_TAG = "unknown-tag"
    UNKNOWN_PEER = "unknown-peer"
    UNKNOWN_PROFILE = "unknown-profile"
    DUPLICATE_POLICY = "duplicate-policy"
    FORBIDDEN_ALGORITHM = "forbidden-algorithm"
    DOUBTFUL_ALGORITHM = "doubtful-algorithm"
    BAD_PROPOSAL = "bad-proposal"
    DOUBTFUL_OPTION = "doubtful-option"
    UNSUPPORTED = "unsupported"
    NO_COMMON_PROPOSAL = "no-common-proposal"
    TIE = "tie"
    NAME_TAKEN = "name-taken"
    TOO_LARGE = "too-large"
    INCOMPLETE_PEER = "incomplete-peer"
    NO_ADDRESS = "no-address"
    SELECTORS = "selectors"
    OVERLAP = "overlap"
    DEFAULT_ROUTE = "default-route"
    DUPLICATE_IDENTITY = "duplicate-identity"
    ONE_MEMBER = "one-member"
    REPEATED = "repeated"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: where (`policies/0/topology/hubs/0`), what, and the remedy."""

    code: Code
    severity: Severity
    policy: PolicyId
    field: str
    message: str

    def invalid_field(self) -> InvalidField:
        """The finding as an entry of a problem."""
        return InvalidField(field=self.field, message=self.message)


def errors(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The findings that refuse."""
    return tuple(finding for finding in findings if finding.severity is Severity.ERROR)


class Collector:
    """Gathers findings; those of the same kind at the same field are summed up."""

    def __init__(self) -> None:
        self._gathered: defaultdict[tuple[Severity, str, Code, PolicyId, str], dict[str, None]] = defaultdict(dict)

    def add(
        self, code: Code, severity: Severity, policy: PolicyId, field: str, message: str, subject: str = ""
    ) -> None:
        """`message` may hold `{}`, where the subjects are named once all are known."""
        self._gathered[severity, field, code, policy, message][subject] = None

    def findings(self) -> tuple[Finding, ...]:
        """All findings, errors first, then in order of fields."""
        return tuple(
            Finding(code, severity, policy, field, message.replace("{}", _enumerated(list(subjects))))
            for (severity, field, code, policy, message), subjects in sorted(self._gathered.items(), key=lambda it: it[0])
        )  # fmt: skip


def _enumerated(subjects: list[str]) -> str:
    more = len(subjects) - _NAMED
    return ", ".join(subjects[:_NAMED]) + (f" and {more} more" if more > 0 else "")
