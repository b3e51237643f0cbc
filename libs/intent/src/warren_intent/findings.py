"""Findings of `check`. Equal findings of one policy are merged into one that names the first subjects."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from warren_contracts.names import PolicyId
from warren_contracts.problems import InvalidField

_NAMED = 3  # subjects that a merged finding names


class Severity(StrEnum):
    """An error refuses the policy; a warning is reported and the policy is stored."""

    ERROR = "error"
    WARNING = "warning"


class Code(StrEnum):
    """Kind of finding."""

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
    PRECEDENCE = "precedence"
    DEFAULT_ROUTE = "default-route"
    DUPLICATE_IDENTITY = "duplicate-identity"
    ONE_MEMBER = "one-member"
    NO_TUNNEL = "no-tunnel"
    REPEATED = "repeated"
    PROTECT = "protect"
    BYPASS = "bypass"


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding: the field (`policies/0/topology/hubs/0`), and the reason with the remedy."""

    code: Code
    severity: Severity
    policy: PolicyId
    field: str
    message: str

    def invalid_field(self) -> InvalidField:
        """The finding as an entry of a problem."""
        return InvalidField(field=self.field, message=self.message)


def errors(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The findings that refuse a policy."""
    return tuple(finding for finding in findings if finding.severity is Severity.ERROR)


class Collector:
    """Collect findings; those with the same message at the same field are merged."""

    def __init__(self) -> None:
        self._gathered: defaultdict[tuple[Severity, str, Code, PolicyId, str], dict[str, None]] = defaultdict(dict)

    def add(
        self, code: Code, severity: Severity, policy: PolicyId, field: str, message: str, subject: str = ""
    ) -> None:
        """Add a finding; `{}` in `message` is replaced by the subjects."""
        self._gathered[severity, field, code, policy, message][subject] = None

    def findings(self) -> tuple[Finding, ...]:
        """All findings, errors first, then in order of fields."""
        return tuple(
            Finding(code, severity, policy, field, message.replace("{}", _enumerated(sorted(subjects))))
            for (severity, field, code, policy, message), subjects in sorted(self._gathered.items(), key=lambda it: it[0])
        )  # fmt: skip


def _enumerated(subjects: list[str]) -> str:
    more = len(subjects) - _NAMED
    return ", ".join(subjects[:_NAMED]) + (f" and {more} more" if more > 0 else "")
