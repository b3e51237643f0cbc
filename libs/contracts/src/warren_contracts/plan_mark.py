"""What names a plan in the change that applies it."""

from typing import Annotated

from pydantic import StringConstraints

from warren_contracts.base import Input, Position


class PlanMark(Input):
    """The epoch and revision of the policies that a plan was made from, and the SHA-256 of all that it says."""

    epoch: Position
    revision: Position
    digest: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
