"""Bodies of HTTP requests that are not a command or document of their own.

The API server validates them. A client that lets it name what is wrong with a value builds them by `model_construct`.
"""

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from warren_contracts.base import STRICT_INT, Document, Input, StrictBool, Whole
from warren_contracts.commands import Role
from warren_contracts.names import NAME_PATTERN, PolicyId, Scope, Tag
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
    """The version of a policy whose content is stored again; `version` is the one that is replaced (409 for another, 0: whatever is).

    `mode`: as of `policies:apply`. `create`: only a policy that was deleted (409 otherwise); `update`: only one that is stored (404
    otherwise).
    """

    to: Annotated[int, Field(ge=1), STRICT_INT]
    mode: Literal["upsert", "create", "update"] = "upsert"
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
    """A new bearer token; `lifetime` in seconds, none: until it is removed.

    `scope`: it is for the peers that carry at least one of these tags, and their tunnels; none: for the whole fleet. An empty list is
    refused.
    """

    name: Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
    role: Role
    lifetime: Annotated[int, Field(ge=60), STRICT_INT] | None = None
    scope: Scope | None = None


class NewEpoch(Input):
    """Which epoch; none: the next after all that are known. Give one where even the streams are of the backup."""

    to: Annotated[int, Field(ge=2, le=1_000_000), STRICT_INT] | None = None


class SignIn(Input):
    """Opens a session of a browser: by a bearer token, or by the code of a sign-in link."""

    token: Annotated[str, StringConstraints(min_length=1, max_length=512)] | None = Field(default=None, repr=False)
    code: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = Field(default=None, repr=False)

    @model_validator(mode="after")
    def _has_one(self) -> Self:
        if (self.token is None) == (self.code is None):
            raise ValueError("give a token or a code")
        return self


class SignedIn(Document):
    """Who is signed in. `expires_at`: the end of the session; null for a bearer token. `scope`: null for the whole fleet."""

    name: str
    role: Role
    scope: Scope | None = None
    expires_at: datetime | None = None


class SignedOut(Document):
    """The session has ended."""

    signed_out: bool = True


class SignInCode(Document):
    """A code that opens one session, once. `path` is the page's address with it, which a server is never sent (RFC 3986, 3.5)."""

    code: str = Field(repr=False)
    path: str = Field(repr=False)
    expires_at: datetime
