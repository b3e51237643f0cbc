"""What can be wrong with the words of a policy before anything is derived from it."""

from typing import ClassVar

from warren_contracts.problems import WarrenError


class UnknownProfileError(WarrenError):
    """There is no crypto profile of this name: use one of `warren_intent.profiles.PROFILES`."""

    code: ClassVar[str] = "unknown-profile"
    title: ClassVar[str] = "Unknown crypto profile"
    status: ClassVar[int] = 422
