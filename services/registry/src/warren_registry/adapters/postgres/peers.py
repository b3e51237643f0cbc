"""Peers in PostgreSQL."""

from collections.abc import Sequence
from datetime import datetime
from ipaddress import ip_network
from typing import Any

from warren_contracts.addresses import IPNetwork
from warren_contracts.identities import canonical
from warren_contracts.names import PeerId, Scope
from warren_contracts.peers import Announcement, TunnelOrder
from warren_registry.adapters.postgres.scopes import SQL as SCOPES
from warren_registry.peers.address_claims import AddressClaim
from warren_registry.peers.model import Peer
from warren_store import Connection, load_queries

SQL = load_queries("warren_registry.peers", "peers.sql")


class PostgresPeers:
    """`ports.PeerRows`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def by_id(self, peer: PeerId) -> Peer | None:
        return _peer(await self._connection.fetchrow(SQL["peer_by_id"], peer))

    async def by_nkey(self, nkey: str) -> Peer | None:
        return _peer(await self._connection.fetchrow(SQL["peer_by_nkey"], nkey))

    async def key_revoked(self, nkey: str) -> bool:
        return bool(await self._connection.fetchval(SQL["key_revoked"], nkey))

    async def identity_holder(self, identity: str, other_than: PeerId) -> PeerId | None:
        holder: PeerId | None = await self._connection.fetchval(SQL["identity_holder"], canonical(identity), other_than)
        return holder

    async def overlapping(self, subnets: Sequence[IPNetwork], other_than: PeerId) -> tuple[AddressClaim, ...]:
        rows = await self._connection.fetch(SQL["overlapping"], list(subnets), other_than)
        return tuple(AddressClaim(row["peer"], row["subnet"], tuple(row["allowed"]), row["priority"]) for row in rows)

    async def endpoints_within(self, subnets: Sequence[IPNetwork], other_than: PeerId) -> tuple[AddressClaim, ...]:
        rows = await self._connection.fetch(SQL["endpoints_within"], list(subnets), other_than)
        return tuple(AddressClaim(row["peer"], ip_network(row["address"])) for row in rows)

    async def save(self, peer: Peer, tagged_at: datetime | None = None) -> None:
        announced = peer.announcement.model_dump_json() if peer.announcement is not None else None
        await self._connection.execute(
            SQL["save_peer"], peer.id, peer.nkey, list(peer.tags), peer.version, peer.join_token, peer.hostname,
            list(peer.allowed), peer.canonical_identity, announced, peer.enrolled_at, peer.announced_at, peer.revoked_at,
            peer.priority, peer.tunnel_order.model_dump_json() if peer.tunnel_order is not None else None,
        )  # fmt: skip
        if tagged_at is not None:
            await self._connection.execute(SCOPES["save_tags"], peer.id, list(peer.tags), tagged_at)
        await self._connection.execute(SQL["clear_subnets"], peer.id)
        await self._connection.execute(SQL["clear_endpoints"], peer.id)
        if peer.revoked_at is not None:
            await self._connection.execute(SQL["add_revoked_key"], peer.nkey, peer.id, peer.version, peer.revoked_at)
        elif peer.announcement is not None:
            await self._connection.execute(SQL["add_subnets"], peer.id, list(peer.announcement.subnets))
            hosts = dict.fromkeys(it.host for it in peer.announcement.endpoints if not isinstance(it.host, str))
            await self._connection.execute(SQL["add_endpoints"], peer.id, list(hosts))

    async def page(self, after: str, limit: int, *, revoked: bool, scope: Scope | None = None) -> tuple[Peer, ...]:
        if scope is not None:
            return _peers(await self._connection.fetch(SQL["peer_page_of_scope"], after, limit, revoked, list(scope)))
        return _peers(await self._connection.fetch(SQL["peer_page"], after, limit, revoked))

    async def changed_since(self, version: int) -> tuple[Peer, ...]:
        return _peers(await self._connection.fetch(SQL["peers_changed_since"], version))


def _peers(rows: Sequence[Any]) -> tuple[Peer, ...]:
    return tuple(peer for row in rows if (peer := _peer(row)) is not None)


def _peer(row: Any) -> Peer | None:
    if row is None:
        return None
    announced, ordered = row["announcement"], row["tunnel_order"]
    return Peer(
        id=row["id"], nkey=row["nkey"], tags=tuple(row["tags"]), version=row["version"], join_token=row["join_token"],
        enrolled_at=row["enrolled_at"], allowed=tuple(row["allowed"]), hostname=row["hostname"],
        announcement=Announcement.model_validate_json(announced) if announced is not None else None,
        announced_at=row["announced_at"], revoked_at=row["revoked_at"], priority=row["priority"],
        tunnel_order=TunnelOrder.model_validate_json(ordered) if ordered is not None else None,
    )  # fmt: skip
