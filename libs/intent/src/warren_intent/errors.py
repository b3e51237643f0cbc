"""Errors of policies that are found before derivation."""

from typing import ClassVar

from warren_contracts.problems import WarrenError


class UnknownProfileError(WarrenError):
    """Unknown crypto profile: use one of `warren_intent.profiles.PROFILES`."""

    code: ClassVar[str] = "unknown-profile"
    title: ClassVar[str] = "Unknown crypto profile"
    status: ClassVar[int] = 422
