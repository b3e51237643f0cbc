"""What a request or a session is authenticated by."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from warren_contracts.authentication import Authenticated


class Method(StrEnum):
    """How a credential is checked."""

    TOKEN = "token"  # noqa: S105 - a word: the subject is the SHA-256 of a bearer token


@dataclass(frozen=True, slots=True)
class Credential:
    """A credential that can be checked again at any time, and is not a secret by itself; it is not shown nevertheless."""

    method: Method
    subject: str = field(repr=False)


class CredentialCheck(Protocol):
    """Whose a credential is now."""

    async def __call__(self, subject: str, address: str, /) -> Authenticated:
        """Raises UnauthorizedError when it is no longer valid, UnavailableError when that cannot be found out."""
        ...
