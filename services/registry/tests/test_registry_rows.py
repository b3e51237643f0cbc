"""One contract suite for the database in memory and for PostgreSQL: peers, their records, and pending work."""

import asyncio
from datetime import timedelta
from ipaddress import ip_network

import asyncpg
import pytest

from warren_contracts.peers import Announcement, PresenceState
from warren_registry.adapters.postgres.database import PostgresDatabase, registry_store
from warren_registry.directory.model import PublishedState, RecordKey
from warren_registry.peers.address_claims import AddressClaim
from warren_registry.ports import Database, PublishedRecord, SignedRecord, Tables, TrustRow
from warren_registry.presence.model import PeerPresence
from warren_service.outbox import OutboxEvent
from warren_store import Store, load_migrations
from warren_testkit.postgres import PostgresServer
from warren_testkit.registry.rows import NKEY, NOW, OTHER, peer, token
from warren_testkit.waiting import eventually


class TransactionAbortedError(Exception):
    """What a test raises inside a transaction."""


async def test_a_peer_is_read_as_it_was_written(database: Database) -> None:
    written = peer("hub-1", NKEY, 1, "10.1.0.0/16", "fd00:1::/64")
    async with database.transaction() as tables:
        await tables.peers.save(written)
    async with database.transaction() as tables:
        assert await tables.peers.by_id("hub-1") == written
        assert await tables.peers.by_nkey(NKEY) == written
        assert await tables.peers.by_id("nobody") is None
        assert await tables.peers.by_nkey(OTHER) is None


async def test_a_failed_transaction_leaves_nothing(database: Database) -> None:
    with pytest.raises(TransactionAbortedError):
        await save_and_fail(database)
    async with database.transaction() as tables:
        assert await tables.peers.by_id("hub-1") is None
        assert (await tables.fleet.state()).revision == 0
        assert await tables.after_commit.pending_kicks(10) == ()


async def save_and_fail(database: Database) -> None:
    async with database.transaction() as tables:
        await tables.fleet.next_revision()
        await tables.peers.save(peer("hub-1"))
        await tables.after_commit.add_kick("hub-1", NOW)
        raise TransactionAbortedError


async def test_revisions_are_given_in_the_order_of_commits(database: Database) -> None:
    async def take(count: int) -> int:
        async with database.transaction() as tables:
            last = await tables.fleet.next_revision(count)
            await asyncio.sleep(0)
            return last

    taken = await asyncio.gather(*(take(count) for count in (1, 3, 2)))
    assert sorted(taken)[-1] == 6
    assert len(set(taken)) == 3


async def test_overlaps_and_identities_are_those_of_other_members(database: Database) -> None:
    async with database.transaction() as tables:
        await tables.peers.save(peer("hub-1", NKEY, 1, "10.1.0.0/16", "fd00:1::/64"))
        asked = [ip_network("10.1.2.0/24"), ip_network("fd00::/16"), ip_network("192.0.2.0/24")]
        allowed = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))
        assert await tables.peers.overlapping(asked, "spoke-1") == (
            AddressClaim("hub-1", ip_network("10.1.0.0/16"), allowed),
            AddressClaim("hub-1", ip_network("fd00:1::/64"), allowed),
        )
        assert await tables.peers.overlapping(asked, "hub-1") == ()
        assert await tables.peers.identity_holder("hub-1", "spoke-1") == "hub-1"
        assert await tables.peers.identity_holder("hub-1", "hub-1") is None
        await tables.peers.save(peer("hub-1", NKEY, 2, "10.1.0.0/16", revoked_at=NOW))
        assert await tables.peers.overlapping(asked, "spoke-1") == ()
        assert await tables.peers.identity_holder("hub-1", "spoke-1") is None


@pytest.mark.parametrize(
    ("identity", "spellings"),
    [
        (None, ("GOOD", "@good", "fqdn:good", "DNS:Good", "good.", "@GOOD.")),
        ("GW.Example.org", ("gw.example.org", "@gw.example.ORG.", "fqdn:gw.example.org")),
        ("a@Example.org", ("email:A@example.org", "@@a@example.org", "rfc822:a@example.org", "userfqdn:a@EXAMPLE.org")),
        ("2001:db8::1", ("2001:DB8:0:0::1", "ipv6:2001:db8::1")),
        ("192.0.2.1", ("::ffff:192.0.2.1", "::FFFF:c000:201", "ipv4:192.0.2.1", "fqdn:192.0.2.1")),
        ("keyid:x", ("KEYID:x",)),
    ],
)
async def test_an_identity_has_one_holder_however_it_is_spelled(
    database: Database, identity: str | None, spellings: tuple[str, ...]
) -> None:
    async with database.transaction() as tables:
        await tables.peers.save(peer("good", announcement=Announcement(identity=identity)))
        for spelling in spellings:
            assert await tables.peers.identity_holder(spelling, "evil") == "good"
        assert await tables.peers.identity_holder("keyid:good", "evil") is None


async def test_no_two_rows_hold_one_identity(postgres: PostgresServer) -> None:
    postgres.sql("SET client_min_messages = error; DROP SCHEMA IF EXISTS registry CASCADE")
    async with registry_store(postgres.dsn()) as store, PostgresDatabase(store).transaction() as tables:
        await tables.peers.save(peer("good"))
        with pytest.raises(asyncpg.UniqueViolationError, match="peer_identity"):
            await tables.peers.save(peer("evil", OTHER, announcement=Announcement(identity="@GOOD.")))


async def test_endpoints_are_found_within_networks(database: Database) -> None:
    called = ("198.51.100.7", "2001:db8::7", "gw.example.org")
    async with database.transaction() as tables:
        await tables.peers.save(peer("hub-1", announcement=Announcement.model_validate({"endpoints": called})))
        asked = [ip_network("198.51.100.0/24"), ip_network("2001:db8::/64"), ip_network("10.0.0.0/8")]
        assert await tables.peers.endpoints_within(asked, "spoke-1") == (
            AddressClaim("hub-1", ip_network("198.51.100.7/32")), AddressClaim("hub-1", ip_network("2001:db8::7/128")),
        )  # fmt: skip
        assert await tables.peers.endpoints_within(asked, "hub-1") == ()
        await tables.peers.save(peer("hub-1", revoked_at=NOW))
        assert await tables.peers.endpoints_within(asked, "spoke-1") == ()


async def test_announcements_of_before_the_limits_are_requested_again(postgres: PostgresServer) -> None:
    postgres.sql("SET client_min_messages = error; DROP SCHEMA IF EXISTS registry CASCADE")
    said = {
        "plain": '{"endpoints": ["192.0.2.7", "2001:db8::7", "gw.example.org"]}',
        "large": '{"drivers": [{"kind": "%s"}]}' % ("x" * 40_000),
        "named": '{"identity": "@Plain"}',
    }
    migrations = load_migrations("warren_registry")
    async with (
        Store(postgres.dsn(), schema="registry", migrations=migrations[:1]) as store,
        store.transaction() as connection,
    ):
        for number, (name, announcement) in enumerate(said.items()):
            await connection.execute(
                "INSERT INTO peer VALUES ($1, $2, '{}', 1, 't', '', '{}', $3, $4, now(), now())",
                name, "U" + "ABC"[number] * 55, "@Plain" if name == "named" else name, announcement,
            )  # fmt: skip
            await connection.execute("INSERT INTO peer_subnet VALUES ($1, '10.0.0.0/24')", name)
    async with registry_store(postgres.dsn()) as store, PostgresDatabase(store).transaction() as tables:
        kept = {found.id: found.announcement is not None for found in await tables.peers.page("", 9, revoked=True)}
        assert kept == {"plain": True, "large": False, "named": False}
        assert [kick.user for kick in await tables.after_commit.pending_kicks(9)] == ["large", "named"]
        assert [claim.peer for claim in await tables.peers.overlapping([ip_network("10.0.0.0/8")], "")] == ["plain"]
        assert await tables.peers.identity_holder("@Plain", "") == "plain"
        everywhere = [ip_network("0.0.0.0/0"), ip_network("::/0")]
        assert [str(it.subnet) for it in await tables.peers.endpoints_within(everywhere, "")] == [
            "192.0.2.7/32", "2001:db8::7/128",
        ]  # fmt: skip


async def test_a_revoked_key_stays_revoked_when_its_id_has_a_new_one(database: Database) -> None:
    async with database.transaction() as tables:
        await tables.peers.save(peer("hub-1", NKEY, 1))
        assert not await tables.peers.key_revoked(NKEY)
        await tables.peers.save(peer("hub-1", NKEY, 2, revoked_at=NOW))
        assert await tables.peers.by_nkey(NKEY) is None
        await tables.peers.save(peer("hub-1", OTHER, 3))
        assert await tables.peers.key_revoked(NKEY)
        assert not await tables.peers.key_revoked(OTHER)


async def test_peers_are_listed_in_order_and_by_change(database: Database) -> None:
    async with database.transaction() as tables:
        for version, name in enumerate(("c", "a", "b"), start=1):
            await tables.peers.save(
                peer(name, "U" + name.upper() * 55, version, revoked_at=NOW if name == "b" else None)
            )
        assert [p.id for p in await tables.peers.page("", 2, revoked=True)] == ["a", "b"]
        assert [p.id for p in await tables.peers.page("a", 2, revoked=False)] == ["c"]
        assert [p.id for p in await tables.peers.changed_since(1)] == ["a", "b"]


async def test_pages_are_in_the_order_of_code_points(database: Database) -> None:
    names = ("a-b", "a_b", "ab", "a0", "a-", "a", "z-a", "za")
    async with database.transaction() as tables:
        for version, name in enumerate(names, start=1):
            await tables.peers.save(peer(name, "U" + "ABCDEFGH"[version - 1] * 55, version))
            await tables.directory.save(
                [
                    SignedRecord(
                        RecordKey("all", name),
                        PublishedState(1, version, version, False, "key"),
                        "payload",
                        "A" * 86 + "==",
                    )
                ],
                NOW,
            )
        listed: list[str] = []
        while page := await tables.peers.page(listed[-1] if listed else "", 3, revoked=True):
            listed += [found.id for found in page]
        paged: list[str] = []
        while documents := await tables.directory.page("all", paged[-1] if paged else "", 3):
            paged += [document.subject.rsplit(".", 1)[1] for document in documents]
    assert listed == paged == sorted(names)


async def test_the_order_of_pages_does_not_depend_on_the_databases_locale(postgres: PostgresServer) -> None:
    async with registry_store(postgres.dsn()) as store, PostgresDatabase(store).transaction():
        collations = postgres.sql(
            "SELECT DISTINCT collname FROM pg_attribute JOIN pg_collation ON pg_collation.oid = attcollation WHERE "
            "(attrelid, attname) IN (('registry.peer'::regclass, 'id'), ('registry.directory_record'::regclass, 'peer'))"
        )
    assert collations == "C"


async def test_known_tags_are_those_of_peers_and_tokens(database: Database) -> None:
    async with database.transaction() as tables:
        await tables.peers.save(peer("hub-1", tags=("hub",)))
        await tables.peers.save(peer("gone", OTHER, tags=("lost",), revoked_at=NOW))
        await tables.join_tokens.add_join_token(token("t1", tags=("branch",)))
        await tables.join_tokens.add_join_token(token("t2", tags=("old",), expires_at=NOW))
        assert await tables.join_tokens.known_tags(NOW) == ("branch", "hub")


def statement(reader: str, name: str, revision: int, *, withdrawn: bool = False) -> SignedRecord:
    return SignedRecord(
        RecordKey(reader, name),
        PublishedState(1, revision, revision, withdrawn, "key"),
        f"payload {revision}",
        "A" * 86 + "==",
    )


async def test_the_directory_is_saved_published_and_paged(database: Database) -> None:
    async with database.transaction() as tables:
        said = (statement("all", "b", 1, withdrawn=True), statement("all", "c", 3), statement("all", "a", 2))
        await tables.directory.save(said, NOW)
        assert await tables.directory.published_states() == {item.place: item.state for item in said}
        pending = await tables.directory.pending(10)
        assert [(row.place.peer, row.withdrawn, row.sequence) for row in pending] == [
            ("a", False, 0), ("c", False, 0), ("b", True, 0),
        ]  # fmt: skip
        assert [document.subject for document in await tables.directory.page("all", "", 5)] == [
            "warren.v1.directory.all.a", "warren.v1.directory.all.c",
        ]  # fmt: skip
        assert [document.payload for document in await tables.directory.page("all", "a", 1)] == ["payload 3"]
        assert await tables.directory.page("tag=a", "", 5) == ()


async def test_a_record_that_changes_while_it_is_published_stays_pending(database: Database) -> None:
    async with database.transaction() as tables:
        await tables.directory.save([statement("all", "a", 1)], NOW)
    async with database.transaction() as tables:
        await tables.directory.save([statement("all", "a", 2)], NOW)
        await tables.directory.mark_published([PublishedRecord(RecordKey("all", "a"), 1, 41)])
    async with database.transaction() as tables:
        (row,) = await tables.directory.pending(10)
        assert (row.revision, row.sequence) == (2, 41)
        await tables.directory.mark_published([PublishedRecord(RecordKey("all", "a"), 2, 42)])
        assert await tables.directory.pending(10) == ()
        assert await tables.directory.last_sequence() == 42
        await tables.directory.publish_all_again()
        (row,) = await tables.directory.pending(10)
        assert (row.revision, row.sequence) == (2, 0)


async def test_old_published_withdrawals_are_reclaimed(database: Database) -> None:
    async with database.transaction() as tables:
        said = (
            statement("all", "a", 1),
            statement("all", "b", 2, withdrawn=True),
            statement("all", "c", 3, withdrawn=True),
        )
        await tables.directory.save(said, NOW)
        await tables.directory.mark_published(
            [PublishedRecord(RecordKey("all", "a"), 1, 1), PublishedRecord(RecordKey("all", "b"), 2, 2)]
        )
        assert await tables.directory.reclaim(NOW) == 0
        assert await tables.directory.reclaim(NOW + timedelta(seconds=1)) == 2
        assert {place.peer for place in await tables.directory.published_states()} == {"a", "c"}


async def test_events_and_kicks_wait_until_they_are_done(database: Database) -> None:
    async with database.transaction() as tables:
        for number in range(3):
            await tables.after_commit.add_event(OutboxEvent(f"id{number}", "s", "t", "{}", "", NOW))
        await tables.after_commit.add_kick("hub-1", NOW)
        await tables.after_commit.add_kick("hub-2", NOW)
    async with database.transaction() as tables:
        events = await tables.after_commit.pending_events(2)
        assert [event.event_id for event in events] == ["id0", "id1"]
        await tables.after_commit.events_done(event.id for event in events)
        assert [event.event_id for event in await tables.after_commit.pending_events(5)] == ["id2"]
        kicks = await tables.after_commit.pending_kicks(5)
        assert [kick.user for kick in kicks] == ["hub-1", "hub-2"]
        await tables.after_commit.kicks_done([kicks[0].id])
        assert [kick.user for kick in await tables.after_commit.pending_kicks(5)] == ["hub-2"]


async def test_trust_presence_and_the_streams_incarnation_are_stored(database: Database) -> None:
    online = PeerPresence(PresenceState.ONLINE, NOW, NOW, "")
    async with database.transaction() as tables:
        assert await tables.fleet.last_trust() is None
        await tables.fleet.add_trust(TrustRow(1, 1, "p", "r"))
        newer = TrustRow(1, 2, "p", "s", ("tls://192.0.2.10:4222",), ("a CA",))
        await tables.fleet.add_trust(newer)
        assert await tables.fleet.last_trust() == newer
        await tables.presence.save({"hub-1": PeerPresence(), "hub-2": PeerPresence()})
        await tables.presence.save({"hub-1": online})
        assert await tables.presence.all() == {"hub-1": online, "hub-2": PeerPresence()}
        await tables.fleet.set_stream_incarnation("2026")
        await tables.fleet.set_tombstones_reclaimed(7)
        await tables.fleet.set_tombstones_reclaimed(5)
        state = await tables.fleet.state()
        assert (state.epoch, state.tombstones_reclaimed, state.stream_incarnation) == (1, 7, "2026")


async def test_tables_of_both_kinds_are_the_ports(database: Database) -> None:
    async with database.transaction() as tables:
        whole: Tables = tables
        await eventually(database.ready)
        assert whole.fleet is not None
