"""Listings for operators and other services."""

from datetime import datetime

from warren_contracts.commands import FleetDirectory, PeerList, ReadDirectory
from warren_contracts.pages import fit_page
from warren_contracts.peers import PeerSummary
from warren_contracts.scope import ListPeers
from warren_registry.peers.model import Peer, record_of
from warren_registry.ports import FleetState, Tables
from warren_registry.presence.tracker import PresenceTracker


def summary_of(peer: Peer, epoch: int, presence_tracker: PresenceTracker) -> PeerSummary:
    """A peer's summary for operators."""
    presence = presence_tracker.of(peer.id)
    record = record_of(peer, epoch, peer.version)
    return PeerSummary(
        peer=peer.id, nkey=peer.nkey, tags=peer.tags, presence=presence.state, last_seen=presence.last_seen,
        record=record.model_copy(update={"withdrawn": peer.revoked}), enrolled_at=peer.enrolled_at,
        connections=presence_tracker.connections.count(peer.id), hosts=presence_tracker.hosts(peer.id), revoked=peer.revoked,
        drivers=presence.drivers,
        host=presence.host, clock_skew_s=presence.clock_skew_s, refused=presence_tracker.refusal(peer.id),
        agent_version=peer.announcement.agent_version if peer.announcement is not None else "",
    )  # fmt: skip


async def list_peers(tables: Tables, page: ListPeers, presence_tracker: PresenceTracker) -> PeerList:
    """A page of all peers, or of those of a scope, revoked ones too."""
    epoch = (await tables.fleet.state()).epoch
    found = await tables.peers.page(page.after, page.limit, revoked=True, scope=page.scope)
    shown = fit_page([summary_of(peer, epoch, presence_tracker) for peer in found])
    return PeerList(peers=shown, next_after=_next(found, len(shown), page.limit))


async def fleet_directory(tables: Tables, page: ReadDirectory, now: datetime) -> FleetDirectory:
    """A page of all members' records, or what has changed of them, and every tag of a member or of a usable token."""
    state = await tables.fleet.state()
    if page.epoch == state.epoch and 0 < page.since <= state.revision:
        return await _changes(tables, page, state, now)
    found = await tables.peers.page(page.after, page.limit, revoked=False)
    shown = fit_page([record_of(peer, state.epoch, peer.version) for peer in found])
    return FleetDirectory(
        epoch=state.epoch, revision=state.revision, tags=await tables.join_tokens.known_tags(now), peers=shown,
        next_after=_next(found, len(shown), page.limit),
    )  # fmt: skip


async def _changes(tables: Tables, page: ReadDirectory, state: FleetState, now: datetime) -> FleetDirectory:
    """What has changed after a revision. Revisions are assigned one after another (`next_revision`), so none before it is missing."""
    changed = await tables.peers.changed_since(page.since)
    records = [record_of(peer, state.epoch, peer.version) for peer in changed[: page.limit] if not peer.revoked]
    shown = fit_page(records)
    more = len(shown) < len(records) or len(changed) > page.limit
    last = state.revision
    if more:
        last = shown[-1].revision if len(shown) < len(records) else changed[page.limit - 1].version
    removed = tuple(peer.id for peer in changed if peer.revoked and peer.version <= last)
    return FleetDirectory(
        epoch=state.epoch, revision=last, tags=await tables.join_tokens.known_tags(now), peers=shown, since=page.since,
        removed=removed, more=more,
    )  # fmt: skip


def _next(found: tuple[Peer, ...], shown: int, limit: int) -> str | None:
    return found[shown - 1].id if shown < len(found) or shown == limit else None
