"""What has changed of the directory, for a caller that has read it before. On the fake and on PostgreSQL."""

from dataclasses import replace
from datetime import UTC, datetime

from warren_contracts.commands import FleetDirectory, ReadDirectory
from warren_registry.peers import membership
from warren_registry.peers.model import Peer
from warren_registry.peers.queries import fleet_directory
from warren_registry.ports import Database

NOW = datetime(2026, 1, 1, tzinfo=UTC)


async def change(database: Database, peer: str, tag: str) -> None:
    async with database.transaction() as tables:
        version = await tables.fleet.next_revision()
        held = await tables.peers.by_id(peer)
        new = Peer(peer, f"U{peer.upper():A<55}", (tag,), version, "t", NOW)
        await tables.peers.save(new if held is None else replace(held, tags=(tag,), version=version))


async def read(database: Database, **request: int) -> FleetDirectory:
    async with database.transaction() as tables:
        return await fleet_directory(tables, ReadDirectory(**request), NOW)


async def test_a_caller_that_has_the_directory_gets_what_has_changed(database: Database) -> None:
    for name in ("a", "b", "c"):
        await change(database, name, "branch")
    everything = await read(database)
    assert ([it.peer for it in everything.peers], everything.since) == (["a", "b", "c"], 0)
    known = {"epoch": everything.epoch, "since": everything.revision}
    quiet = await read(database, **known)
    assert (quiet.peers, quiet.removed, quiet.since, quiet.tags) == ((), (), everything.revision, ("branch",))
    await change(database, "c", "lab")
    async with database.transaction() as tables:
        await membership.revoke(tables, "b", "ann", NOW)
    await change(database, "a", "lab")
    first = await read(database, limit=2, **known)
    assert ([it.peer for it in first.peers], first.removed, first.more) == (["c"], ("b",), True)
    rest = await read(database, epoch=first.epoch, since=first.revision)
    assert ([it.peer for it in rest.peers], rest.removed, rest.more) == (["a"], (), False)
    for other in ({"epoch": everything.epoch + 1}, {"since": rest.revision + 1}):  # another epoch, or an older database
        full = await read(database, **(known | other))
        assert (full.since, [it.peer for it in full.peers]) == (0, ["a", "c"])
