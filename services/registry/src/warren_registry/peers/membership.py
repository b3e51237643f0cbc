"""Changes of a member: its own announcements, and an operator's tags and revocation.

A change of rights is committed first and the peer's connections are closed afterwards; the request to close them is a row of the
same transaction, so a crash in between does not lose it.
"""

from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

from warren_contracts.events import PeerAnnounced, PeerPriorityChanged, PeerRetagged, PeerRevoked
from warren_contracts.names import PeerId
from warren_contracts.peers import Announcement
from warren_contracts.problems import ConflictError, InvalidField, InvalidInputError, NotFoundError
from warren_intent.claims import PolicyClaims
from warren_process.token_bucket import RateLimiter
from warren_registry.errors import AnnouncementRateError, PeerRevokedError
from warren_registry.outbox import add_event
from warren_registry.peers.address_claims import (
    AddressClaims,
    check_priority,
    conflicting_networks,
    without_networks,
)
from warren_registry.peers.announcement import check_announcement
from warren_registry.peers.model import Peer
from warren_registry.ports import Tables
from warren_service.permissions import MAX_TAGS


async def find(tables: Tables, peer: PeerId) -> Peer:
    """The peer, revoked or not; NotFoundError."""
    found = await tables.peers.by_id(peer)
    if found is None:
        raise NotFoundError(f"unknown peer {peer}: list the peers")
    return found


async def find_member(tables: Tables, peer: PeerId) -> Peer:
    """The calling peer; PeerRevokedError when it is not a member any more (its connection is about to be closed)."""
    found = await tables.peers.by_id(peer)
    if found is None or found.revoked:
        raise PeerRevokedError
    return found


async def address_claims_of(
    tables: Tables, peer: PeerId, announcement: Announcement, policy_claims: PolicyClaims
) -> AddressClaims:
    """The claims of other peers and of policies that concern an announcement."""
    return AddressClaims(
        await tables.peers.overlapping(announcement.subnets, peer), await tables.peers.endpoints_within(announcement.subnets, peer),
        await tables.peers.identity_holder(announcement.identity or peer, peer), policy_claims,
    )  # fmt: skip


class Announced(NamedTuple):
    """An accepted announcement: the row, whether it changed, and the networks that were omitted."""

    peer: Peer
    changed: bool
    refused: tuple[InvalidField, ...] = ()


async def announce(
    tables: Tables,
    peer: PeerId,
    announcement: Announcement,
    policy_claims: PolicyClaims,
    now: datetime,
    rate_limiter: RateLimiter,
) -> Announced:
    """Accept an announcement without the networks that conflict. Refused ones count in the rate, too."""
    held = await find_member(tables, peer)
    if held.announcement == announcement:
        return Announced(held, changed=False)
    if not rate_limiter.take(
        peer, now.timestamp()
    ):  # before the fleet's row is locked, for which all other changes wait
        raise AnnouncementRateError
    claims = await address_claims_of(tables, peer, announcement, policy_claims)
    conflicts = conflicting_networks(held, announcement, claims)
    if conflicts and held.announcement == without_networks(announcement, conflicts):
        return Announced(held, changed=False, refused=conflicts)  # repeated, in case that the other peer has left
    version = await tables.fleet.next_revision()
    held = await find_member(tables, peer)  # read again under the lock
    claims = await address_claims_of(tables, peer, announcement, policy_claims)
    check_announcement(held, announcement, claims)
    conflicts = conflicting_networks(held, announcement, claims)
    accepted = without_networks(announcement, conflicts)
    changed = replace(held, announcement=accepted, announced_at=now, version=version)
    await tables.peers.save(changed)
    await add_event(tables, "announced", peer, PeerAnnounced(peer=peer, revision=version, at=now), now)
    return Announced(changed, changed=True, refused=conflicts)


def checked_tags(tags: tuple[str, ...]) -> tuple[str, ...]:
    """The tags, sorted and unique; InvalidInputError for more than MAX_TAGS."""
    result = tuple(sorted(set(tags)))
    if len(result) > MAX_TAGS:
        message = f"{len(result)} tags: a peer has at most {MAX_TAGS}"
        raise InvalidInputError(message, (InvalidField(field="tags", message=message),))
    return result


async def retag(tables: Tables, peer: PeerId, tags: tuple[str, ...], actor: str, now: datetime) -> Peer:
    """Replace a peer's tags. Its connections are closed after the commit, since permissions are set at connect."""
    wanted = checked_tags(tags)
    version = await tables.fleet.next_revision()
    held = await find(tables, peer)
    if held.revoked:
        raise ConflictError(f"the peer {peer} is revoked: enrol it again first")
    if held.tags == wanted:
        return held
    changed = replace(held, tags=wanted, version=version)
    await tables.peers.save(changed, now)
    await tables.after_commit.add_kick(peer, now)
    await add_event(tables, "retagged", peer, PeerRetagged(peer=peer, tags=wanted, actor=actor, at=now), now)
    return changed


async def set_priority(tables: Tables, peer: PeerId, priority: int | None, actor: str, now: datetime) -> Peer:
    """Set or remove a peer's priority among redundant gateways.

    Raises:
        SubnetConflictError: another gateway of the same networks has this priority, or would have the only one.
    """
    version = await tables.fleet.next_revision()
    held = await find(tables, peer)
    if held.revoked:
        raise ConflictError(f"the peer {peer} is revoked: enrol it again first")
    if held.priority == priority:
        return held
    subnets = held.announcement.subnets if held.announcement is not None else ()
    check_priority(held, priority, await tables.peers.overlapping(subnets, peer))
    changed = replace(held, priority=priority, version=version)
    await tables.peers.save(changed)
    event = PeerPriorityChanged(peer=peer, priority=priority, actor=actor, at=now)
    await add_event(tables, "priority", peer, event, now)
    return changed


async def revoke(tables: Tables, peer: PeerId, actor: str, now: datetime) -> Peer:
    """Remove a peer from the fleet for good. A repeat changes nothing."""
    version = await tables.fleet.next_revision()
    held = await find(tables, peer)
    if held.revoked:
        return held
    changed = replace(held, revoked_at=now, version=version)
    await tables.peers.save(changed)
    for user in (peer, held.nkey):  # the nkey: a connection that is still enrolling
        await tables.after_commit.add_kick(user, now)
    await add_event(tables, "revoked", peer, PeerRevoked(peer=peer, actor=actor, at=now), now)
    return changed
