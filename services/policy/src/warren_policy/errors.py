"""The errors of the policy service next to those of the contracts."""

from warren_contracts.problems import ConflictError, InvalidField, InvalidInputError, Problem, UnavailableError


class IntentRefusedError(InvalidInputError):
    """The policies contradict the fleet or each other: correct the named fields.

    The problem's type is the code of the first finding, such as `unknown-tag`.
    """

    title = "Policies refused"

    def __init__(self, detail: str, errors: tuple[InvalidField, ...], finding: str) -> None:
        super().__init__(detail, errors)
        self.finding = finding

    def problem(self, instance: str = "") -> Problem:
        return super().problem(instance).model_copy(update={"type": Problem.PREFIX + self.finding})


class PolicySetTooLargeError(InvalidInputError):
    """The set of one reader is too large to travel: split it over several tags."""

    code = "policy-set-too-large"


class RevisionMovedError(ConflictError):
    """Another change was stored meanwhile: read the policies again and repeat."""


class PlanMovedError(ConflictError):
    """The plan no longer holds: plan again, and apply the new plan."""

    code = "plan-moved"


class RegistryUnavailableError(UnavailableError):
    """The registry is unavailable, and policies are checked against its directory: repeat the call when it has returned."""


class OutboxBusyError(Exception):
    """Another relay holds the outbox: look again in a moment."""


class NotPublishedError(Exception):
    """The bus did not take the messages, or did not say so: publish again."""


class AuditChainBrokenError(Exception):
    """The audit chain does not verify: a row was changed, removed or added outside the service."""

    def __init__(self, seq: int, why: str) -> None:
        super().__init__(f"audit row {seq}: {why}")
        self.seq = seq
        self.why = why


class StoreBehindStreamError(Exception):
    """POLICY holds a newer document than this database: was it restored from a backup? Announce a new epoch."""
