"""Changes of a member: its own announcements, and an operator's tags and revocation.

A change of rights is committed first and the peer's connections are closed afterwards; the request to close them is a row of the
same transaction, so a crash in between does not lose it.
"""

from dataclasses import replace
from datetime import datetime

from warren_contracts.events import PeerAnnounced, PeerRetagged, PeerRevoked
from warren_contracts.names import PeerId
from warren_contracts.peers import Announcement
from warren_contracts.problems import ConflictError, InvalidField, InvalidInputError, NotFoundError
from warren_intent.claims import PolicyClaims
from warren_registry.errors import AnnouncementRateError, PeerRevokedError
from warren_registry.outbox import add_event
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


async def announce(
    tables: Tables,
    peer: PeerId,
    announcement: Announcement,
    policy_claims: PolicyClaims,
    now: datetime,
    rate_limiter: RateLimiter,
) -> tuple[Peer, bool]:
    """Accept an announcement; returns the row, and whether it changed. Refused ones count in the rate, too."""
    held = await find_member(tables, peer)
    if held.announcement == announcement:
        return held, False
    if not rate_limiter.take(
        peer, now.timestamp()
    ):  # before the fleet's row is locked, for which all other changes wait
        raise AnnouncementRateError
    version = await tables.fleet.next_revision()
    held = await find_member(tables, peer)  # read again under the lock
    changed = replace(held, announcement=announcement, announced_at=now, version=version)
    claims = await address_claims_of(tables, peer, announcement, policy_claims)
    check_announcement(held, announcement, claims)
    await tables.peers.save(changed)
    await add_event(tables, "announced", peer, PeerAnnounced(peer=peer, revision=version, at=now), now)
    return changed, True


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
    await tables.peers.save(changed)
    await tables.after_commit.add_kick(peer, now)
    await add_event(tables, "retagged", peer, PeerRetagged(peer=peer, tags=wanted, actor=actor, at=now), now)
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
