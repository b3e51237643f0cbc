"""The plan of a change of policies: what would be stored, field by field, and the effect on each tunnel.

A plan is bound to what it was made from. `PlanMark` names that; a change that states it is refused as soon as anything that the plan
depends on has moved.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from warren_contracts.base import STRICT_INT, Document, Input
from warren_contracts.commands import TunnelEffects
from warren_contracts.names import PeerId, PolicyId, TunnelName
from warren_contracts.plan_mark import PlanMark
from warren_contracts.policy import Policy
from warren_contracts.problems import InvalidField
from warren_contracts.status import ReasonCode, TunnelState

MAX_STATES = 1_000  # tunnels of one question
ABSENT = "(not stated)"


class PlanPolicies(Input):
    """Plan to store these policies in one revision, and store nothing. `after`: the page of touched tunnels after this one."""

    policies: Annotated[tuple[Policy, ...], Field(min_length=1, max_length=1_000)]
    after: Annotated[str, StringConstraints(max_length=127)] = ""
    limit: Annotated[int, Field(ge=1, le=MAX_STATES), STRICT_INT] = 500


class Interruption(StrEnum):
    """What a change does to the traffic of a tunnel, as the drivers of its ends apply it.

    `none`: nothing is sent to the daemons. `rekey`: a new CHILD_SA in the same IKE_SA replaces the old one. `re-established`: a new
    IKE_SA, authenticated again, next to the old one, which is closed when the new one is up. `new` and `removed`: the tunnel exists on
    one side of the change only.
    """

    NONE = "none"
    REKEY = "rekey"
    RE_ESTABLISHED = "re-established"
    NEW = "new"
    REMOVED = "removed"


class FieldChange(Document):
    """One field of a policy that differs, such as `topology/hubs/0`; values are JSON, None: not stated there."""

    field: str
    before: str | None
    after: str | None

    def __str__(self) -> str:
        return f"{self.field}: {self.before or ABSENT} -> {self.after or ABSENT}"


class PlannedPolicy(Document):
    """One policy of a plan. `version` is the stored one, 0 where there is none yet; `more_changes` are not listed."""

    id: PolicyId
    action: Literal["created", "updated", "unchanged"]
    version: int
    changes: tuple[FieldChange, ...] = ()
    more_changes: int = 0


class PlannedTunnel(Document):
    """A tunnel that the change touches. `state`: as its ends report it now; None: nobody reports it, or it is not known."""

    name: TunnelName
    peers: tuple[PeerId, ...]
    policy: PolicyId  # that defines it after the change; before it, if removed
    effect: Literal["child", "ike", "new", "removed"]
    interruption: Interruption
    state: TunnelState | None = None


class PolicyPlan(Document):
    """What a change would do. `mark` is what applies exactly this plan; `tunnels` is a page of the touched ones, in order of names."""

    mark: PlanMark
    policies: tuple[PlannedPolicy, ...]
    effects: TunnelEffects  # numbers of all tunnels; `touched` is empty: see `tunnels`
    interruptions: dict[Interruption, int]  # numbers of all tunnels
    tunnels: tuple[PlannedTunnel, ...]
    next_after: str | None = None
    warnings: tuple[InvalidField, ...] = ()
    states_known: bool = False  # whether the present states of the tunnels could be read

    @property
    def is_empty(self) -> bool:
        """Whether nothing would be stored."""
        return all(it.action == "unchanged" for it in self.policies)


class TunnelStatesQuery(Input):
    """The present states of these tunnels."""

    names: Annotated[tuple[TunnelName, ...], Field(max_length=MAX_STATES)]


class ObservedState(Document):
    """The present state of one tunnel; `since` and `reason` are of the end that is in it."""

    state: TunnelState
    reason: ReasonCode = ReasonCode.NONE
    since: datetime | None = None


class TunnelStates(Document):
    """The tunnels of the question that are reported."""

    states: dict[TunnelName, ObservedState] = Field(default_factory=dict)


class DiffPolicy(Input):
    """Compare two versions of a policy; 0 for `to`: the last one, 0 for `from_version`: the one before it."""

    id: PolicyId
    from_version: Annotated[int, Field(ge=0), STRICT_INT] = 0
    to_version: Annotated[int, Field(ge=0), STRICT_INT] = 0


class PolicyDiff(Document):
    """What differs between two versions of a policy, field by field. `from_version` 0: there is none before."""

    id: PolicyId
    from_version: int
    to_version: int
    changes: tuple[FieldChange, ...]
