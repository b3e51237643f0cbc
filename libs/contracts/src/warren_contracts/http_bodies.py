"""Bodies of HTTP requests that are no command or document of their own.

The API server validates them. A client that lets it name what is wrong with a value builds them by `model_construct`.
"""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from warren_contracts.base import STRICT_INT, Input, StrictBool, Whole
from warren_contracts.commands import Role
from warren_contracts.names import NAME_PATTERN, PolicyId, Tag
from warren_contracts.peers import Priority
from warren_contracts.plan_mark import PlanMark
from warren_contracts.policy import Policy


class ApplyRequest(Input):
    """Several policies in one revision: all or none."""

    policies: Annotated[tuple[Policy, ...], Field(min_length=1, max_length=1_000)]
    mode: Literal["upsert", "create", "update"] = "upsert"
    dry_run: StrictBool = False
    expected_versions: dict[PolicyId, Whole] = Field(default_factory=dict)
    plan: PlanMark | None = None


class RollbackRequest(Input):
    """The version of a policy whose content is stored again; `version` is the one that is replaced (409 for another, 0: whatever is)."""

    to: Annotated[int, Field(ge=1), STRICT_INT]
    version: Annotated[int, Field(ge=0), STRICT_INT] = 0
    dry_run: StrictBool = False


class DeleteRequest(Input):
    """Several policies withdrawn in one revision: all or none. `expected_versions` refuses (409) another version."""

    ids: Annotated[tuple[PolicyId, ...], Field(min_length=1, max_length=1_000)]
    dry_run: StrictBool = False
    expected_versions: dict[PolicyId, Whole] = Field(default_factory=dict)


class Tags(Input):
    """All tags of a peer."""

    tags: Annotated[tuple[Tag, ...], Field(max_length=64)]


class PeerPriority(Input):
    """A peer's precedence among gateways of the same networks: the highest is used first. null: no redundant gateway."""

    priority: Priority | None


class OperatorTokenRequest(Input):
    """A new bearer token; `lifetime` in seconds, none: until it is removed."""

    name: Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
    role: Role
    lifetime: Annotated[int, Field(ge=60), STRICT_INT] | None = None


class NewEpoch(Input):
    """Which epoch; none: the next after all that are known. Give one where even the streams are of the backup."""

    to: Annotated[int, Field(ge=2, le=1_000_000), STRICT_INT] | None = None
