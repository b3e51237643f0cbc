"""The part of a fleet that a token with a scope is for, as the registry knows it: peers, and since when they belong to it."""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from warren_contracts.base import STRICT_INT, Document, Input
from warren_contracts.commands import Page
from warren_contracts.names import PeerId, Scope


class ListScopedPeers(Input):
    """A page of the peers of a scope, in order of ids."""

    scope: Scope
    after: str = ""
    limit: Annotated[int, Field(ge=1, le=5_000), STRICT_INT] = 5_000


class ScopedPeers(Document):
    """Peers that carry a tag of the scope, revoked ones too, and since when each has carried one without an interruption.

    What happened to a peer before that belongs to those who had it then.
    """

    peers: dict[PeerId, datetime]
    next_after: str | None = None


class ListPeers(Page):
    """A page of the peers; with a scope, of those that carry at least one of its tags."""

    scope: Scope | None = None


class ListAudit(Page):
    """A page of the audit log; with a scope, what was done to its peers and their tunnels since they have belonged to it."""

    scope: Scope | None = None
