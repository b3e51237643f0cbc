"""The versions of a policy, and the policies that were deleted: the commands that list them, and what they reply."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from warren_contracts.base import Document, Input, Position
from warren_contracts.names import PolicyId
from warren_contracts.policy import Policy


class ListHistory(Input):
    """The versions of one policy, the newest first: a page of those before a revision."""

    id: PolicyId
    before: Position = 0  # a revision, exclusive; 0: from the newest on
    limit: Annotated[int, Field(ge=1, le=100)] = 20


class PolicyVersion(Document):
    """One version of a policy, as it was stored; `policy` is null where it was deleted."""

    version: int
    revision: int
    action: Literal["created", "updated", "deleted"]
    at: datetime
    actor: str
    policy: Policy | None = None


class PolicyHistory(Document):
    versions: tuple[PolicyVersion, ...]
    next_before: int | None = None


class DeletedPolicy(Document):
    """A policy that is not stored any more: its last version, and who deleted it when. Its history has the content."""

    id: PolicyId
    version: int
    revision: int
    at: datetime
    actor: str


class DeletedPolicies(Document):
    policies: tuple[DeletedPolicy, ...]
    next_after: str | None = None
