"""What changes a member of the fleet: its own announcements, and an operator's tags and revocation.

A change of rights is committed first and the peer's connections are ended afterwards; the wish to end them is a row of
the same transaction, so a crash in between forgets nothing.
"""

from dataclasses import replace
from datetime import datetime

from warren_contracts.events import PeerAnnounced, PeerRetagged, PeerRevoked
from warren_contracts.names import PeerId
from warren_contracts.peers import Announcement
from warren_contracts.problems import ConflictError, InvalidField, InvalidInputError, NotFoundError
from warren_intent.claims import PolicyClaims
from warren_registry.errors import AnnouncementRateError, PeerRevokedError
from warren_registry.outbox import leave_event
from warren_registry.peers.address_claims import AddressClaims
from warren_registry.peers.announcement import check_announcement
from warren_registry.peers.model import Peer
from warren_registry.ports import Tables
from warren_service.permissions import MAX_TAGS
from warren_service.token_bucket import RateLimiter


async def find(tables: Tables, peer: PeerId) -> Peer:
    """The peer, revoked or not; NotFoundError."""
    found = await tables.peers.by_id(peer)
    if found is None:
        raise NotFoundError(f"there is no peer {peer}: list the peers")
    return found


async def find_member(tables: Tables, peer: PeerId) -> Peer:
    """The peer that calls; PeerRevokedError when it is no member any more (its connection is about to be ended)."""
    found = await tables.peers.by_id(peer)
    if found is None or found.revoked:
        raise PeerRevokedError
    return found


async def surroundings(tables: Tables, peer: PeerId, said: Announcement, given: PolicyClaims) -> AddressClaims:
    """What is known of others beside what a peer says."""
    return AddressClaims(
        await tables.peers.overlapping(said.subnets, peer), await tables.peers.endpoints_within(said.subnets, peer),
        await tables.peers.identity_holder(said.identity or peer, peer), given,
    )  # fmt: skip


async def announce(
    tables: Tables, peer: PeerId, said: Announcement, given: PolicyClaims, now: datetime, pace: RateLimiter
) -> tuple[Peer, bool]:
    """Take what a peer says of itself; returns the row, and whether it changed. What is refused counts as well."""
    held = await find_member(tables, peer)
    if held.announcement == said:
        return held, False
    if not pace.take(peer, now.timestamp()):  # before the fleet's row is held, which everybody else waits for
        raise AnnouncementRateError
    version = await tables.fleet.next_revision()
    held = await find_member(tables, peer)  # again, now that nobody else can change it
    changed = replace(held, announcement=said, announced_at=now, version=version)
    around = await surroundings(tables, peer, said, given)
    check_announcement(held, said, around)
    await tables.peers.save(changed)
    await leave_event(tables, "announced", peer, PeerAnnounced(peer=peer, revision=version, at=now), now)
    return changed, True


def checked_tags(tags: tuple[str, ...]) -> tuple[str, ...]:
    """The tags, sorted and once each; InvalidInputError when a connection could not carry them all."""
    result = tuple(sorted(set(tags)))
    if len(result) > MAX_TAGS:
        message = f"{len(result)} tags: a peer has at most {MAX_TAGS}"
        raise InvalidInputError(message, (InvalidField(field="tags", message=message),))
    return result


async def retag(tables: Tables, peer: PeerId, tags: tuple[str, ...], actor: str, now: datetime) -> Peer:
    """Give a peer other tags. Its connections are ended after the commit, since permissions are set at connect."""
    wanted = checked_tags(tags)
    version = await tables.fleet.next_revision()
    held = await find(tables, peer)
    if held.revoked:
        raise ConflictError(f"the peer {peer} is revoked: enrol it again first")
    if held.tags == wanted:
        return held
    changed = replace(held, tags=wanted, version=version)
    await tables.peers.save(changed)
    await tables.after.add_kick(peer, now)
    await leave_event(tables, "retagged", peer, PeerRetagged(peer=peer, tags=wanted, actor=actor, at=now), now)
    return changed


async def revoke(tables: Tables, peer: PeerId, actor: str, now: datetime) -> Peer:
    """Remove a peer from the fleet for good. Repeating it changes nothing."""
    version = await tables.fleet.next_revision()
    held = await find(tables, peer)
    if held.revoked:
        return held
    changed = replace(held, revoked_at=now, version=version)
    await tables.peers.save(changed)
    for user in (peer, held.nkey):  # the nkey: a connection that is still enrolling
        await tables.after.add_kick(user, now)
    await leave_event(tables, "revoked", peer, PeerRevoked(peer=peer, actor=actor, at=now), now)
    return changed
