"""What names a plan in the change that applies it."""

from typing import Annotated

from pydantic import Field, StringConstraints

from warren_contracts.base import STRICT_INT, Input


class PlanMark(Input):
    """The epoch and revision of the policies that a plan was made from, and the SHA-256 of all that it says."""

    epoch: Annotated[int, Field(ge=0), STRICT_INT]
    revision: Annotated[int, Field(ge=0), STRICT_INT]
    digest: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
