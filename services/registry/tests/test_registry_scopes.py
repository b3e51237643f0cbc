"""Scopes: one contract suite for the database in memory and for PostgreSQL, and what a migration of an older fleet does."""

import os
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from warren_contracts.audit import AuditEntry
from warren_contracts.commands import CreateJoinToken, Role
from warren_contracts.documents import EnrolRequest
from warren_contracts.peers import Announcement, JoinTokenRequest
from warren_contracts.scope import ListPeers, ListScopedPeers
from warren_contracts.tokens import TrustAnchors
from warren_intent.claims import PolicyClaims
from warren_process.token_bucket import RateLimiter
from warren_registry.adapters.postgres.database import PostgresDatabase, registry_store
from warren_registry.enrolment.join_tokens import create_join_token
from warren_registry.enrolment.service import enrol_peer
from warren_registry.operators.model import OperatorRow
from warren_registry.peers.membership import announce, retag, revoke, set_priority
from warren_registry.peers.model import Peer
from warren_registry.ports import Database, Tables
from warren_registry.scopes.service import list_scoped_peers
from warren_store import Store, load_migrations
from warren_testkit.postgres import PostgresServer
from warren_testkit.registry.rows import NKEY, NOW

LATER = NOW + timedelta(hours=1)


async def add(tables: Tables, name: str, *tags: str, at: datetime = NOW) -> Peer:
    peer = Peer(name, "U" + name.upper().ljust(55, "A"), tags, 1, "t", at)
    await tables.peers.save(peer, at)
    return peer


async def holders(tables: Tables, *scope: str) -> dict[str, datetime]:
    return dict((await list_scoped_peers(tables, ListScopedPeers(scope=scope))).peers)


async def test_a_token_is_stored_with_its_scope(database: Database) -> None:
    rows = [
        OperatorRow("a", Role.VIEWER, b"1" * 32, NOW, None, "ann", ("branch", "customer-7")),
        OperatorRow("b", Role.VIEWER, b"2" * 32, NOW, None, "ann"),
    ]
    async with database.transaction() as tables:
        for row in rows:
            await tables.operators.add_operator(row)
    async with database.transaction() as tables:
        assert await tables.operators.operator(b"1" * 32) == rows[0]
        assert await tables.operators.operator_page("", 9) == tuple(rows)


async def test_an_empty_scope_cannot_be_stored(database: Database, request: pytest.FixtureRequest) -> None:
    if isinstance(database, PostgresDatabase):
        with pytest.raises(Exception, match="operator_token_scope_check"):
            async with database.transaction() as tables:
                await tables.operators.add_operator(OperatorRow("a", Role.VIEWER, b"1" * 32, NOW, None, "ann", ()))


async def test_the_peers_of_a_scope_and_since_when(database: Database) -> None:
    async with database.transaction() as tables:
        await add(tables, "a", "branch", "x")
        await add(tables, "b", "branch", at=LATER)
        await add(tables, "c", "hub")
        await add(tables, "d")
        assert await holders(tables, "branch") == {"a": NOW, "b": LATER}
        assert await holders(tables, "branch", "hub") == {"a": NOW, "b": LATER, "c": NOW}
        assert await holders(tables, "nosuch") == {}
        page = await list_scoped_peers(tables, ListScopedPeers(scope=("branch", "hub", "x"), limit=2))
        assert (list(page.peers), page.next_after) == (["a", "b"], "b")
        last = await list_scoped_peers(tables, ListScopedPeers(scope=("branch", "hub"), after="b", limit=2))
        assert (list(last.peers), last.next_after) == (["c"], None)


async def test_an_enrolled_peer_belongs_to_the_scopes_of_its_tags_and_what_it_announces_moves_nothing(
    database: Database,
) -> None:
    wish = CreateJoinToken(request=JoinTokenRequest(tags=("branch",)))
    async with database.transaction() as tables:
        made = await create_join_token(tables, wish, TrustAnchors(b"r" * 32, None), os.urandom, NOW)
    async with database.transaction() as tables:
        await enrol_peer(tables, EnrolRequest(peer="gw1", token=made.token), NKEY, PolicyClaims(()), NOW)
        assert await holders(tables, "branch") == {"gw1": NOW}
    async with database.transaction() as tables:
        limit = RateLimiter(9, 9)
        await announce(tables, "gw1", Announcement(agent_version="2"), PolicyClaims(()), LATER, limit)
        await set_priority(tables, "gw1", 7, "ann", LATER)
        assert await holders(tables, "branch") == {"gw1": NOW}


async def test_since_when_counts_from_the_last_time_that_a_tag_was_given(database: Database) -> None:
    async with database.transaction() as tables:
        peer = await add(tables, "a", "branch")
    async with database.transaction() as tables:
        await retag(tables, "a", ("branch", "more"), "ann", LATER)
        assert await holders(tables, "branch") == {"a": NOW}, "it has carried this one all the time"
        assert await holders(tables, "more") == {"a": LATER}
        assert await holders(tables, "branch", "more") == {"a": NOW}
    async with database.transaction() as tables:
        await retag(tables, "a", ("more",), "ann", LATER)
        assert await holders(tables, "branch") == {}
    async with database.transaction() as tables:
        again = LATER + timedelta(hours=1)
        await retag(tables, "a", ("branch", "more"), "ann", again)
        assert await holders(tables, "branch") == {"a": again}
    async with database.transaction() as tables:
        await tables.peers.save(replace(peer, tags=("branch", "more"), hostname="renamed"))
        assert await holders(tables, "branch") == {"a": again}, "a change of something else moves nothing"
        await revoke(tables, "a", "ann", again)
        assert await holders(tables, "branch") == {"a": again}, "revoked peers are listed, too"


async def test_a_page_of_peers_is_limited_to_a_scope(database: Database) -> None:
    async with database.transaction() as tables:
        for name, tag in (("a", "x"), ("b", "y"), ("c", "x"), ("d", "z")):
            await add(tables, name, tag)
        for scope, expected in ((None, "abcd"), (("x",), "ac"), (("y", "z"), "bd"), (("nosuch",), "")):
            found = await tables.peers.page("", 9, revoked=True, scope=scope)
            assert "".join(it.id for it in found) == expected
        assert [it.id for it in await tables.peers.page("a", 1, revoked=True, scope=("x",))] == ["c"]
        assert ListPeers(limit=2).scope is None


def entry(action: str, subject: str, detail: str = "{}", at: datetime = NOW) -> AuditEntry:
    return AuditEntry(seq=1, at=at, actor="ann", client="", action=action, subject=subject, detail=detail)


async def test_the_audit_log_of_a_scope(database: Database) -> None:
    async with database.transaction() as tables:
        await add(tables, "a", "x")
        await add(tables, "b", "y")
        for it in (
            entry("retag", "a", '{"peer":"a","tags":["x"]}'),
            entry("retag", "b", '{"peer":"b","tags":["y"]}'),
            entry("rekey_tunnel", "b+hub", '{"peer":"hub","tunnel":"b+hub"}'),
            entry("rekey_tunnel", "a+hub", '{"peer":"hub","tunnel":"a+hub"}'),
            entry("restart_tunnel", "explicit", '{"peer":"a","tunnel":"explicit"}'),
            entry("restart_tunnel", "a", '{"peer":"b","tunnel":"a"}'),  # an explicit tunnel that is called as the peer
            entry("create_operator_token", "a", '{"name":"a"}'),
            entry("create_join_token", "a", '{"request":{"peer":"a"}}'),
            entry("revoke", "a", '{"peer":"a"}', NOW - timedelta(seconds=1)),  # of the peer that had this id before
        ):
            await tables.audit.add(it)
    async with database.transaction() as tables:
        found = await tables.audit.page(0, 99, ("x",))
        assert [(it.seq, it.action) for it in found] == [(1, "retag"), (4, "rekey_tunnel"), (5, "restart_tunnel")]
        assert [it.seq for it in await tables.audit.page(1, 1, ("x", "y"))] == [2]
        assert [it.seq for it in await tables.audit.page(4, 9, ("x",))] == [5]
        assert len(await tables.audit.page(0, 99)) == 9


async def test_tags_from_before_the_upgrade_count_from_it_on(postgres: PostgresServer) -> None:
    postgres.sql("SET client_min_messages = error; DROP SCHEMA IF EXISTS registry CASCADE")
    older = [it for it in load_migrations("warren_registry") if it.number < 11]
    async with Store(postgres.dsn(), schema="registry", migrations=older) as store, store.transaction() as connection:
        await connection.execute(
            "INSERT INTO peer (id, nkey, tags, version, join_token, hostname, allowed, identity, enrolled_at)"
            " VALUES ('a', $1, '{x,x}', 1, 't', '', '{}', 'a', $2)", "U" + "A" * 55, NOW,
        )  # fmt: skip
        await connection.execute(
            "INSERT INTO operator_token (digest, name, role, created_by, created_at) VALUES ($1, 'ann', 'admin', '', $2)",
            b"d" * 32, NOW,
        )  # fmt: skip
    async with registry_store(postgres.dsn()) as store, PostgresDatabase(store).transaction() as tables:
        since = await holders(tables, "x")
        assert since["a"] > NOW
        token = await tables.operators.operator(b"d" * 32)
        assert token is not None
        assert token.scope is None


async def test_tags_that_an_older_process_removed_do_not_count(postgres: PostgresServer) -> None:
    postgres.sql("SET client_min_messages = error; DROP SCHEMA IF EXISTS registry CASCADE")
    async with registry_store(postgres.dsn()) as store:
        database = PostgresDatabase(store)
        async with database.transaction() as tables:
            await add(tables, "a", "x")
        async with store.transaction() as connection:
            await connection.execute("UPDATE peer SET tags = '{y}'")
        async with database.transaction() as tables:
            assert await holders(tables, "x") == {}
