"""The registry's calls over a database in memory."""

import os
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network

import pytest

from warren_bus.feed import documents
from warren_contracts.commands import (
    AdvanceEpoch,
    CreateJoinToken,
    CreateOperatorToken,
    PeerChange,
    ReadDirectory,
    RevokePeer,
    Role,
)
from warren_contracts.documents import (
    HEADER_SIGNATURE,
    MAX_PAGE_RECORDS,
    DirectoryPageRequest,
    EnrolRequest,
    ReaderDigest,
    SignerRole,
)
from warren_contracts.peers import Announcement, DriverCapabilities, JoinTokenRequest
from warren_contracts.problems import ConflictError, ForbiddenError, InvalidInputError, NotFoundError, UnavailableError
from warren_contracts.scope import ListPeers
from warren_contracts.tokens import JoinTokenRefusedError
from warren_intent.claims import PolicyClaims
from warren_registry.adapters.postgres.database import PostgresDatabase, registry_store
from warren_registry.directory.model import PublishedState, RecordKey
from warren_registry.epoch.trust import Trust
from warren_registry.errors import AnnouncementRateError, PeerRevokedError
from warren_registry.peers.announcement import BURST, MAX_ANNOUNCEMENT, RATE
from warren_registry.peers.model import Peer, record_of
from warren_registry.ports import SignedRecord
from warren_registry.presence.tracker import PresenceTracker
from warren_registry.service import FollowedStreams, Registry
from warren_registry.token_service import TokenService
from warren_service.restore_guard import RestoredFromBackupError, RestoreGuard
from warren_testkit.postgres import PostgresServer
from warren_testkit.registry import FakeDatabase
from warren_trust.keys import KeyKind, KeyPair
from warren_trust.signing import Signer

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NKEY = KeyPair.generate(KeyKind.USER).public


class NoDigests:
    epoch = 0
    newest = 1

    def of(self, reader: str) -> ReaderDigest | None:
        return None


class Desk:
    """A registry over fakes, and its number of reported commits."""

    def __init__(self, database: FakeDatabase | PostgresDatabase | None = None) -> None:
        self.database = database or FakeDatabase()
        self.commits = 0
        self.now = NOW
        self.given = PolicyClaims(())
        self.restore_guard = RestoreGuard("DIRECTORY")
        self.digests = NoDigests()
        self.announced: list[str] = []
        self.restore_guard.compare((), (1, 0))
        root = Signer(KeyPair.generate(KeyKind.SIGNING), SignerRole.ROOT)
        key = KeyPair.generate(KeyKind.SIGNING).public_base64
        board = PresenceTracker(self.database, lambda: NOW, lambda: None)
        trust = Trust(root, key, key)
        self.tokens = TokenService(self.database, trust, self.committed, clock=lambda: self.now, random=os.urandom)
        self.registry = Registry(
            self.database, trust,
            FollowedStreams(self.restore_guard, self.digests, self.digests, lambda: self.given), board, self,
            clock=lambda: self.now,
        )  # fmt: skip

    def committed(self) -> None:
        self.commits += 1

    def epoch_announced(self, actor: str) -> None:
        self.announced.append(actor)

    async def confirm_connections(self, peer: str) -> None:
        """They are as they were reported."""

    async def token(self, *tags: str, uses: int = 1) -> str:
        wish = CreateJoinToken(request=JoinTokenRequest(tags=tags, uses=uses))
        return (await self.tokens.create_join_token(wish)).token

    async def member(self, name: str, *tags: str) -> str:
        nkey = KeyPair.generate(KeyKind.USER).public
        await self.registry.enrol(nkey, EnrolRequest(peer=name, token=await self.token(*tags)))
        return nkey

    async def events(self) -> list[str]:
        async with self.database.transaction() as tables:
            found = await tables.after_commit.pending_events(99)
        return [event.subject.removeprefix("warren.v1.event.registry.") for event in found]


@pytest.fixture
def desk() -> Desk:
    return Desk()


async def test_every_change_adds_its_event_and_a_repeat_adds_none(desk: Desk) -> None:
    token = await desk.token("branch")
    for _ in range(2):
        await desk.registry.enrol(NKEY, EnrolRequest(peer="gw1", token=token))
        await desk.registry.announce("gw1", Announcement(agent_version="1"))
        await desk.registry.retag(PeerChange(peer="gw1", tags=("hub", "hub"), actor="ann"))
    for _ in range(2):
        await desk.registry.revoke(RevokePeer(peer="gw1", actor="ann"))
    assert await desk.events() == ["enrolled.gw1", "announced.gw1", "retagged.gw1", "revoked.gw1"]


async def test_a_refused_enrolment_counts_no_use_of_the_token(desk: Desk) -> None:
    token = await desk.token("branch", uses=1)
    await desk.member("gw1", "branch")
    with pytest.raises(ConflictError):
        await desk.registry.enrol(NKEY, EnrolRequest(peer="gw1", token=token))
    await desk.registry.enrol(NKEY, EnrolRequest(peer="gw2", token=token))
    with pytest.raises(JoinTokenRefusedError, match="used up"):
        await desk.registry.enrol(KeyPair.generate(KeyKind.USER).public, EnrolRequest(peer="gw3", token=token))


async def test_a_revoked_member_may_not_call(desk: Desk) -> None:
    await desk.member("gw1", "branch")
    await desk.registry.revoke(RevokePeer(peer="gw1"))
    for call in (
        desk.registry.whoami("gw1"),
        desk.registry.announce("gw1", Announcement()),
        desk.registry.directory_page("gw1", DirectoryPageRequest(reader="all")),
    ):
        with pytest.raises(PeerRevokedError):
            await call
    with pytest.raises(ConflictError, match="is revoked"):
        await desk.registry.retag(PeerChange(peer="gw1", tags=()))
    with pytest.raises(NotFoundError, match="unknown peer gw2"):
        await desk.registry.peer("gw2")


async def test_more_tags_than_a_connection_carries_are_refused(desk: Desk) -> None:
    await desk.member("gw1", "branch")
    many = tuple(f"t{number}" for number in range(65))
    with pytest.raises(InvalidInputError, match="at most 64"):
        await desk.registry.retag(PeerChange(peer="gw1", tags=many))
    with pytest.raises(InvalidInputError, match="at most 64"):
        await desk.token(*many)


async def test_a_directory_is_paged_and_only_for_its_readers(desk: Desk) -> None:
    await desk.member("gw1", "branch")
    names = [f"p{number:03}" for number in range(MAX_PAGE_RECORDS + 1)]
    async with desk.database.transaction() as tables:
        said = [
            SignedRecord(RecordKey("tag=branch", name), PublishedState(1, index, 1, False, "k"), "{}", "A" * 86 + "==")
            for index, name in enumerate(names, start=1)
        ]
        await tables.directory.save(said, NOW)
    first = await desk.registry.directory_page("gw1", DirectoryPageRequest(reader="tag=branch"))
    assert (first.after, first.next_after, len(first.records)) == ("", names[-2], MAX_PAGE_RECORDS)
    request = DirectoryPageRequest(reader="tag=branch", after=names[-2])
    second = await desk.registry.directory_page("gw1", request)
    assert (second.after, second.next_after) == (names[-2], None)
    assert [record.subject.rsplit(".", 1)[-1] for record in (*first.records, *second.records)] == names
    with pytest.raises(ForbiddenError, match="does not read tag=hub"):
        await desk.registry.directory_page("gw1", DirectoryPageRequest(reader="tag=hub"))


async def test_a_page_of_the_largest_records_is_cut_by_its_bytes(desk: Desk) -> None:
    await desk.member("gw1", "branch")
    names = [f"p{number:03}" for number in range(MAX_PAGE_RECORDS)]
    words = tuple(f"{number:064}" for number in range(230))
    said = Announcement(drivers=(DriverCapabilities(ike=words),))
    assert MAX_ANNOUNCEMENT - 1_000 < len(said.model_dump_json()) <= MAX_ANNOUNCEMENT
    signer = Signer(KeyPair.generate(KeyKind.SIGNING), SignerRole.REGISTRY)
    statements = []
    for revision, name in enumerate(names, start=1):
        peer = Peer(name, NKEY, tuple(f"{tag:063}" for tag in range(64)), 1, "t", NOW, announcement=said)
        payload = record_of(peer, 1, revision).model_dump_json()
        assert len(payload) < documents.MAX_RECORD
        signature = signer.headers(f"warren.v1.directory.tag=branch.{name}", 1, revision, payload.encode())[
            HEADER_SIGNATURE
        ]
        statements.append(
            SignedRecord(RecordKey("tag=branch", name), PublishedState(1, revision, 1, False, "k"), payload, signature)
        )
    async with desk.database.transaction() as tables:
        await tables.directory.save(statements, NOW)
    read: list[str] = []
    after: str | None = ""
    while after is not None:
        page = await desk.registry.directory_page("gw1", DirectoryPageRequest(reader="tag=branch", after=after))
        assert len(page.model_dump_json().encode()) < documents.MAX_PAGE
        read += [record.subject.rsplit(".", 1)[-1] for record in page.records]
        assert page.next_after in (None, read[-1])
        after = page.next_after
    assert read == names


async def test_listings_are_paged(desk: Desk) -> None:
    for name in ("a", "b", "c"):
        await desk.member(name, "branch")
    await desk.registry.revoke(RevokePeer(peer="b"))
    page = await desk.registry.peers(ListPeers(limit=2))
    assert ([peer.peer for peer in page.peers], page.next_after) == (["a", "b"], "b")
    assert page.peers[1].revoked
    assert page.peers[1].record.withdrawn
    fleet = await desk.registry.fleet_directory(ReadDirectory(limit=2))
    assert ([record.peer for record in fleet.peers], fleet.next_after, fleet.tags) == (["a", "c"], "c", ("branch",))
    rest = await desk.registry.fleet_directory(ReadDirectory(limit=2, after="c"))
    assert (rest.peers, rest.next_after) == ((), None)


async def test_the_workers_are_woken_by_commits_only(desk: Desk) -> None:
    await desk.member("gw1", "branch")
    before = desk.commits
    await desk.registry.whoami("gw1")
    await desk.registry.announce("gw1", Announcement())
    assert desk.commits == before + 1
    await desk.registry.announce("gw1", Announcement())
    assert desk.commits == before + 1
    assert isinstance(desk.database, FakeDatabase)
    desk.database.unavailable = True
    with pytest.raises(UnavailableError):
        await desk.registry.announce("gw1", Announcement(agent_version="2"))
    assert desk.commits == before + 1


async def test_what_a_token_does_not_allow_is_refused_before_a_use_is_counted(desk: Desk) -> None:
    wish = CreateJoinToken(request=JoinTokenRequest(tags=("branch",), subnets=(ip_network("10.1.0.0/16"),)))
    token = (await desk.tokens.create_join_token(wish)).token
    asked = EnrolRequest(peer="gw1", token=token, subnets=(ip_network("10.9.0.0/24"),))
    with pytest.raises(
        InvalidInputError,
        match=r"subnets/0: 10.9.0.0/24 is not within the networks that the join token allows: 10.1.0.0/16",
    ):
        await desk.registry.enrol(NKEY, asked)
    corrected = asked.model_copy(update={"subnets": (ip_network("10.1.9.0/24"),)})
    assert (await desk.registry.enrol(NKEY, corrected)).peer == "gw1"  # its one use was left


async def test_a_network_of_another_peer_is_refused_at_enrolment(desk: Desk) -> None:
    await desk.member("gw1")
    await desk.registry.announce("gw1", Announcement(subnets=(ip_network("10.1.0.0/16"),)))
    asked = EnrolRequest(peer="gw2", token=await desk.token(), subnets=(ip_network("10.1.9.0/24"),))
    with pytest.raises(ConflictError, match=r"overlaps 10.1.0.0/16 of the peer gw1"):
        await desk.registry.enrol(NKEY, asked)


async def test_a_refused_announcement_is_shown_to_operators_until_it_is_accepted(desk: Desk) -> None:
    await desk.member("gw1")
    with pytest.raises(InvalidInputError):
        await desk.registry.announce("gw1", Announcement(subnets=(ip_network("0.0.0.0/0"),)))
    assert "must not be a default route" in (await desk.registry.peer("gw1")).refused
    await desk.registry.announce("gw1", Announcement(agent_version="2"))
    assert (await desk.registry.peer("gw1")).refused == ""


async def test_a_peer_that_announces_without_end_is_limited_and_no_other(desk: Desk) -> None:
    for name in ("evil", "good"):
        await desk.member(name, "branch")
    taken = 0
    for number in range(100):
        with suppress(AnnouncementRateError):
            # refused ones count too: they hold the fleet's row as long
            wrong = {"identity": "*"} if number % 2 else {}
            said = Announcement.model_validate({"agent_version": str(number), **wrong})
            with suppress(InvalidInputError):
                await desk.registry.announce("evil", said)
            taken += 1
    assert taken == BURST
    await desk.registry.announce("good", Announcement(agent_version="1"))
    last = Announcement(agent_version="18")
    assert not (await desk.registry.announce("evil", last)).changed  # what changes nothing is always answered
    with pytest.raises(AnnouncementRateError):
        await desk.registry.announce("evil", Announcement(agent_version="new"))
    desk.now += timedelta(seconds=1 / RATE)
    await desk.registry.announce("evil", Announcement(agent_version="new"))
    with pytest.raises(AnnouncementRateError):
        await desk.registry.announce("evil", Announcement(agent_version="newer"))


async def test_an_operators_token_of_more_than_ten_years_is_refused(desk: Desk) -> None:
    for lifetime in (10**15, 315_360_001):
        with pytest.raises(InvalidInputError, match="ten years"):
            await desk.tokens.create_operator_token(
                CreateOperatorToken(name="ann", role=Role.VIEWER, lifetime=lifetime)
            )
    await desk.tokens.create_operator_token(CreateOperatorToken(name="ann", role=Role.VIEWER, lifetime=315_360_000))


@pytest.mark.parametrize("text", ["\x00", "a\x00"])
async def test_a_nul_is_the_callers_error(postgres: PostgresServer, text: str) -> None:
    postgres.sql("SET client_min_messages = error; DROP SCHEMA IF EXISTS registry CASCADE")
    async with registry_store(postgres.dsn()) as store:
        desk = Desk(PostgresDatabase(store))
        nkey = await desk.member("gw1", "branch")
        wish = CreateJoinToken(request=JoinTokenRequest(tags=("branch",), note=text))
        joining = EnrolRequest(peer="gw2", hostname=text, token=await desk.token("branch"))
        for call in (
            desk.registry.peers(ListPeers(after=text)), desk.registry.fleet_directory(ReadDirectory(after=text)),
            desk.registry.directory_page("gw1", DirectoryPageRequest(reader="tag=branch", after=text)),
            desk.tokens.create_join_token(wish), desk.registry.announce("gw1", Announcement(agent_version=text)),
            desk.registry.enrol(KeyPair.generate(KeyKind.USER).public, joining),
        ):  # fmt: skip
            with pytest.raises(InvalidInputError):
                await call
        assert (await desk.registry.peer("gw1")).nkey == nkey


async def test_a_restored_registry_refuses_changes_and_pages(desk: Desk) -> None:
    await desk.member("gw1", "branch")
    desk.restore_guard.compare([(1, 900)], (1, 5))
    calls = (
        desk.registry.announce("gw1", Announcement(agent_version="2")),
        desk.registry.directory_page("gw1", DirectoryPageRequest(reader="tag=branch")),
        desk.registry.retag(PeerChange(peer="gw1", tags=("hub",))),
        desk.registry.revoke(RevokePeer(peer="gw1")),
        desk.registry.enrol(NKEY, EnrolRequest(peer="gw2", token=await desk.token("branch"))),
    )
    for asked in calls:
        with pytest.raises(RestoredFromBackupError, match="warren epoch advance"):
            await asked
    assert (await desk.registry.peer("gw1")).tags == ("branch",)
    reply = await desk.registry.advance_epoch(AdvanceEpoch(actor="ann"))
    assert (reply.epoch, reply.before, desk.announced) == (2, 1, ["ann"])
    assert (await desk.registry.retag(PeerChange(peer="gw1", tags=("hub",)))).tags == ("hub",)


async def test_whoami_waits_until_everything_is_published_in_the_new_epoch(desk: Desk) -> None:
    await desk.member("gw1", "branch")
    before = await desk.registry.whoami("gw1")
    await desk.registry.advance_epoch(AdvanceEpoch(to=5))
    with pytest.raises(UnavailableError, match="epoch 5 is being published"):
        await desk.registry.whoami("gw1")
    desk.digests.epoch = 5
    after = await desk.registry.whoami("gw1")
    assert (before.epoch, before.trust.epoch, after.epoch, after.trust.epoch) == (1, 1, 5, 5)
    with pytest.raises(InvalidInputError, match="higher than epoch 5, which was published already"):
        await desk.registry.advance_epoch(AdvanceEpoch(to=5))
