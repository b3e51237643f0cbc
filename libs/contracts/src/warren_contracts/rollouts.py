"""How far the current revision of each policy has got: which of its gateways have applied it, and which have not."""

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from warren_contracts.base import Document
from warren_contracts.names import PeerId, PolicyId

MAX_WAITING = 50  # gateways that a reply names for each policy


class RolloutState(StrEnum):
    """What a gateway has done with the current revision of a policy. The set is closed, so that it can label a metric."""

    APPLIED = "applied"
    PENDING = "pending"  # online, and it has not reported the revision yet
    FAILED = "failed"  # it has received the revision, and could not apply it completely
    UNREACHABLE = "unreachable"  # offline, and it had not applied the revision


class WaitingGateway(Document):
    """A gateway that has not applied the revision."""

    peer: PeerId
    state: RolloutState


class PolicyRollout(Document):
    """The current revision of one policy at the gateways that it concerns: those that it names, and those with a tunnel of it."""

    policy: PolicyId
    revision: int
    # When the revision was published, or this service was started if that was later; None: every gateway has applied it.
    since: datetime | None = None
    gateways: dict[RolloutState, int] = Field(default_factory=dict)  # their number in each state
    waiting: tuple[WaitingGateway, ...] = ()  # the first MAX_WAITING that have not applied it, failed ones first


class RolloutList(Document):
    """A page in order of policies."""

    rollouts: tuple[PolicyRollout, ...]
    next_after: str | None = None
