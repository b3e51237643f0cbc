"""Whose a bearer token is, what it permits, and for which part of the fleet."""

from typing import Annotated

from pydantic import StringConstraints

from warren_contracts.base import Document, Input
from warren_contracts.commands import Role
from warren_contracts.names import Scope


class Authenticate(Input):
    """Look up the owner of a bearer token, by the token's SHA-256 (hexadecimal), never by the token."""

    token_sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Authenticated(Document):
    """The owner of a bearer token. `scope`: the tags whose peers it is for; None: the whole fleet."""

    name: str
    role: Role
    scope: Scope | None = None
