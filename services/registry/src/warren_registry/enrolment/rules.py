"""Decide an enrolment: whether a key may join, and as which peer."""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from warren_contracts.documents import EnrolRequest
from warren_contracts.names import PolicyId
from warren_contracts.tokens import JoinTokenRefusedError, require_usable
from warren_registry.enrolment.model import JoinTokenRow
from warren_registry.errors import (
    AlreadyEnrolledError,
    IdentityConflictError,
    PeerIdTakenError,
    PeerRevokedError,
)
from warren_registry.peers.model import Peer


@dataclass(frozen=True, slots=True)
class EnrolmentRows:
    """The stored rows that concern an enrolment."""

    by_nkey: Peer | None = None  # the peer of this key
    by_id: Peer | None = None  # the peer that has the requested id, revoked or not
    identity_holder: str | None = None  # another peer that announced the requested id as its IKE identity
    key_revoked: bool = False  # this key was once revoked
    named_by: PolicyId | None = None  # a policy that names the requested id


class EnrolmentDecision(NamedTuple):
    """The decision: the peer, and whether it is new (then a use of the token is counted)."""

    peer: Peer
    fresh: bool


def enrol(
    request: EnrolRequest, nkey: str, token: JoinTokenRow, known: EnrolmentRows, *, version: int, now: datetime
) -> EnrolmentDecision:
    """Decide an enrolment; the secret of `token` was verified already. Raises the errors named here.

    A repeat is harmless: the same key under the same id gets the same reply, also with a token that has expired or is used up
    meanwhile, because the first reply may have been lost.
    """
    if known.key_revoked:
        raise PeerRevokedError
    if known.by_nkey is not None:
        if known.by_nkey.id != request.peer:
            raise AlreadyEnrolledError(f"this key is enrolled as {known.by_nkey.id}: create a new key, or use that id")
        return EnrolmentDecision(known.by_nkey, fresh=False)
    require_usable(token, now)
    if token.peer is not None and token.peer != request.peer:
        raise JoinTokenRefusedError(f"the join token {token.id} is for the peer {token.peer} only")
    if known.by_id is not None and not known.by_id.revoked:
        raise PeerIdTakenError(
            f"the peer id {request.peer} belongs to another key: choose another id, or revoke that peer"
        )
    if known.by_id is not None and token.peer is None:  # its policies and the directory still name it
        raise PeerIdTakenError(
            f"the peer {request.peer} was revoked, and its id is reserved: join by a token that names it, as of "
            f"`warren token create --peer {request.peer}`"
        )
    if known.named_by is not None and token.peer is None:  # else any holder of a token gets the tunnels of that policy
        raise PeerIdTakenError(
            f"the policy {known.named_by} names the peer {request.peer}, so its id is reserved: join by a token that names it, as of "
            f"`warren token create --peer {request.peer}`"
        )
    if known.identity_holder is not None:
        raise IdentityConflictError(f"{request.peer} is the IKE identity of the peer {known.identity_holder}")
    peer = Peer(
        id=request.peer, nkey=nkey, tags=tuple(sorted(set(token.tags))), version=version, join_token=token.id,
        enrolled_at=now, allowed=token.subnets, hostname=request.hostname,
    )  # fmt: skip
    return EnrolmentDecision(peer, fresh=True)
