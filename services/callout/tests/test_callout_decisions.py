"""Decisions of the callout: real tokens and signatures, the registry's rows in memory."""

import base64
import hashlib
import os
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import SystemRandom
from typing import Any

import pytest

from warren_callout.authorizer import Authorizer
from warren_callout.bootstrap import MAX_RETRY_DELAY, ShortRetry
from warren_callout.domain.admission import (
    AGENTS,
    OPS,
    AdmissionRefusedError,
    AuthRequest,
    JoinTokenState,
    KeyStatus,
    OperatorTokenRow,
)
from warren_callout.domain.credential_cache import CredentialCache
from warren_contracts.commands import CreateJoinToken, CreateOperatorToken, Role
from warren_contracts.documents import EnrolRequest
from warren_contracts.peers import JoinTokenRequest
from warren_contracts.tokens import TrustAnchors, join_token_text
from warren_intent.claims import PolicyClaims
from warren_registry.enrolment.join_tokens import create_join_token
from warren_registry.enrolment.service import enrol_peer
from warren_registry.operators.model import OperatorRow
from warren_registry.operators.service import create_operator_token
from warren_registry.peers.membership import retag, revoke
from warren_testkit.registry import FakeDatabase, FakeTables
from warren_trust import jwt
from warren_trust.keys import KeyKind, KeyPair

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NONCE = "nonce-of-the-server"
ROOT = b"r" * 32


class FakeCredentials:
    """`ports.CredentialRows` over a `FakeDatabase` of the registry."""

    def __init__(self, database: FakeDatabase) -> None:
        self._database = database
        self.reads = 0

    async def key_status(self, nkey: str) -> KeyStatus:
        async with self._read() as tables:
            if await tables.peers.key_revoked(nkey):
                return KeyStatus(nkey, version=(await tables.fleet.state()).revision, revoked=True)
            peer = await tables.peers.by_nkey(nkey)
            return KeyStatus(nkey, peer.id, peer.tags, peer.version) if peer is not None else KeyStatus(nkey)

    async def join_token(self, identifier: str) -> JoinTokenState | None:
        async with self._read() as tables:
            row = await tables.join_tokens.join_token(identifier)
        return None if row is None else JoinTokenState(row.id, row.digest, row.uses, row.used, row.expires_at)

    async def operator_token(self, digest: bytes) -> OperatorTokenRow | None:
        async with self._read() as tables:
            row = await tables.operators.operator(digest)
        return None if row is None else operator_token_of(row)

    async def load_all(self) -> tuple[tuple[KeyStatus, ...], tuple[OperatorTokenRow, ...]]:
        async with self._read() as tables:
            peers = await tables.peers.page("", 1_000_000, revoked=True)
            keys = tuple(KeyStatus(p.nkey, p.id, p.tags, p.version, p.revoked) for p in peers)
            return keys, tuple(map(operator_token_of, tables.operators.operators()))

    def _read(self) -> AbstractAsyncContextManager[FakeTables]:
        self.reads += 1
        return self._database.transaction()


def operator_token_of(row: OperatorRow) -> OperatorTokenRow:
    return OperatorTokenRow(row.name, row.role, row.digest, row.expires_at, row.scope is not None)


class Fleet:
    """A registry in memory with its callout."""

    def __init__(self) -> None:
        self.database = FakeDatabase()
        self.rows = FakeCredentials(self.database)
        self.cache = CredentialCache()
        self.now = 0.0
        self.authorizer = Authorizer(self.rows, self.cache, lambda: self.now)

    async def join_token(self, uses: int = 1, **wish: Any) -> str:
        command = CreateJoinToken(request=JoinTokenRequest(tags=("branch",), uses=uses, **wish))
        async with self.database.transaction() as tables:
            return (await create_join_token(tables, command, TrustAnchors(ROOT, None), os.urandom, NOW)).token

    async def operator_token(
        self,
        role: Role = Role.OPERATOR,
        lifetime: int | None = None,
        name: str = "ann",
        scope: tuple[str, ...] | None = None,
    ) -> str:
        command = CreateOperatorToken(name=name, role=role, lifetime=lifetime, scope=scope)
        async with self.database.transaction() as tables:
            return (await create_operator_token(tables, command, os.urandom, NOW)).token

    async def enrol(self, key: KeyPair, peer: str = "spoke-1") -> str:
        token = await self.join_token(peer=peer)
        async with self.database.transaction() as tables:
            await enrol_peer(tables, EnrolRequest(peer=peer, token=token), key.public, PolicyClaims(()), NOW)
        return token

    async def revoke(self, peer: str = "spoke-1") -> None:
        async with self.database.transaction() as tables:
            await revoke(tables, peer, "ann", NOW)

    async def granted(self, request: AuthRequest, now: datetime = NOW) -> tuple[str, str]:
        grant = await self.authorizer.decide(request, now)
        return grant.account, grant.name

    async def refused(self, request: AuthRequest, reason: str, now: datetime = NOW) -> None:
        with pytest.raises(AdmissionRefusedError, match=reason):
            await self.authorizer.decide(request, now)


@pytest.fixture
def fleet() -> Fleet:
    return Fleet()


@pytest.fixture
def key() -> KeyPair:
    return KeyPair.generate(KeyKind.USER)


def request_of(key: KeyPair, token: str = "", *, url_safe: bool = False) -> AuthRequest:
    raw = key.sign(NONCE.encode())
    text = base64.urlsafe_b64encode(raw).decode().rstrip("=") if url_safe else base64.b64encode(raw).decode()
    return AuthRequest("N", "U", nkey=key.public, signature=text, nonce=NONCE, token=token)


@pytest.mark.parametrize("url_safe", [False, True])
async def test_an_enrolled_key_is_its_peer(fleet: Fleet, key: KeyPair, url_safe: bool) -> None:
    await fleet.enrol(key)
    grant = await fleet.authorizer.decide(request_of(key, url_safe=url_safe), NOW)
    assert (grant.account, grant.name) == (AGENTS, "spoke-1")
    assert "$JS.ACK.live.warren.v1.policy.tag=branch" in grant.permissions.subscribe
    assert "warren.v1.telemetry.spoke-1.report" in grant.permissions.publish
    assert not any("hub" in subject for subject in (*grant.permissions.publish, *grant.permissions.subscribe))


async def test_a_key_is_verified_by_its_signature(fleet: Fleet, key: KeyPair) -> None:
    await fleet.enrol(key)
    good = request_of(key)
    other = KeyPair.generate(KeyKind.USER)
    await fleet.refused(replace(good, signature=""), "no signature")
    await fleet.refused(replace(good, nonce=""), "no signature")
    await fleet.refused(replace(good, signature=request_of(other).signature), "invalid signature over the nonce")
    await fleet.refused(replace(good, nonce="another nonce"), "invalid signature over the nonce")
    await fleet.refused(replace(good, signature="no base64 !"), "invalid signature over the nonce")
    await fleet.refused(replace(good, nkey="U" + "A" * 55), "invalid signature over the nonce")
    await fleet.refused(AuthRequest("N", "U"), "neither a key nor")
    assert fleet.rows.reads == 0  # no row is read for an unverified key


async def test_an_unknown_key_is_refused(fleet: Fleet, key: KeyPair) -> None:
    await fleet.refused(request_of(key), "not enrolled")


async def test_a_join_token_lets_a_verified_key_only_enrol(fleet: Fleet, key: KeyPair) -> None:
    token = await fleet.join_token()
    grant = await fleet.authorizer.decide(request_of(key, token), NOW)
    assert (grant.account, grant.name) == (AGENTS, key.public)
    assert grant.permissions.publish == (f"warren.v1.rpc.enrol.{key.public}",)
    assert grant.permissions.subscribe == (f"_INBOX.{key.public}.>",)
    await fleet.refused(replace(request_of(key, token), signature=""), "not verified")


async def test_a_join_token_that_is_spent_expired_or_unknown_is_refused(fleet: Fleet, key: KeyPair) -> None:
    spent = await fleet.enrol(KeyPair.generate(KeyKind.USER))
    await fleet.refused(request_of(key, spent), "used up")
    token = await fleet.join_token()
    await fleet.refused(request_of(key, token), "expired", NOW + timedelta(days=1))
    await fleet.refused(request_of(key, join_token_text(token.split("_")[1], "a" * 52, ROOT)), "unknown")
    await fleet.refused(request_of(key, "wj1_short"), "malformed")
    await fleet.refused(request_of(key, "something else"), "unknown kind")


async def test_an_enrolled_key_may_repeat_its_request_with_its_spent_token(fleet: Fleet, key: KeyPair) -> None:
    token = await fleet.enrol(key)
    assert await fleet.granted(request_of(key, token)) == (AGENTS, key.public)


async def test_a_revoked_key_is_refused_with_and_without_a_token(fleet: Fleet, key: KeyPair) -> None:
    await fleet.enrol(key)
    assert await fleet.granted(request_of(key)) == (AGENTS, "spoke-1")
    await fleet.revoke()
    await fleet.refused(request_of(key), "revoked")
    await fleet.refused(request_of(key, await fleet.join_token()), "revoked")
    await fleet.enrol(KeyPair.generate(KeyKind.USER))  # the id goes to a new key
    await fleet.refused(request_of(key), "revoked")


@pytest.mark.parametrize("role", list(Role))
async def test_a_token_with_a_scope_does_not_open_the_bus(fleet: Fleet, role: Role) -> None:
    """What the bus republishes is the whole fleet."""
    request = AuthRequest("N", "U", token=await fleet.operator_token(role, scope=("branch",)))
    await fleet.refused(request, "has a scope")
    await fleet.authorizer.reload()
    fleet.database.unavailable = True
    await fleet.refused(request, "has a scope")


@pytest.mark.parametrize("name", ["a.b", ">", "*", "UPPER", "", "a" * 64, "a\n"])
async def test_a_peer_with_an_odd_name_or_tag_is_refused(name: str) -> None:
    odd = Fleet()
    key = KeyPair.generate(KeyKind.USER)
    rows = OddRows(KeyStatus(key.public, name or "x.y", (), 1))
    with pytest.raises(AdmissionRefusedError, match="invalid"):
        await Authorizer(rows, odd.cache).decide(request_of(key), NOW)
    rows = OddRows(KeyStatus(key.public, "spoke-1", (name,), 1))
    with pytest.raises(AdmissionRefusedError, match="invalid"):
        await Authorizer(rows, CredentialCache()).decide(request_of(key), NOW)


class OddRows(FakeCredentials):
    """Rows that the registry would not have written."""

    def __init__(self, odd: KeyStatus) -> None:
        super().__init__(FakeDatabase())
        self._odd = odd

    async def key_status(self, nkey: str) -> KeyStatus:
        return self._odd


async def test_an_operators_token_admits_its_owner_to_ops(fleet: Fleet) -> None:
    request = AuthRequest("N", "U", token=await fleet.operator_token())
    assert await fleet.granted(request) == (OPS, "op.ann")
    viewer = await fleet.authorizer.decide(
        AuthRequest("N", "U", token=await fleet.operator_token(Role.VIEWER, name="bob")), NOW
    )
    assert "warren.v1.rpc.policy.apply" not in viewer.permissions.publish
    await fleet.refused(AuthRequest("N", "U", token="wo1_" + "a" * 52), "unknown or has expired")
    brief = AuthRequest("N", "U", token=await fleet.operator_token(lifetime=60, name="cid"))
    assert (await fleet.authorizer.decide(request, NOW)).expires_at is None
    assert (await fleet.authorizer.decide(brief, NOW)).expires_at == NOW + timedelta(minutes=1)
    await fleet.refused(brief, "unknown or has expired", NOW + timedelta(minutes=1))


async def test_a_removed_operator_is_refused_while_postgres_is_unavailable(fleet: Fleet) -> None:
    notified, missed, valid = [
        AuthRequest("N", "U", token=await fleet.operator_token(name=name)) for name in ("notified", "missed", "valid")
    ]
    await fleet.authorizer.reload()
    async with fleet.database.transaction() as tables:
        row = await tables.operators.remove_operator("notified")
    assert row is not None
    await fleet.authorizer.refresh(f"operator_token {row.digest.hex()}")
    assert fleet.cache.update_operator(operator_token_of(row)) is None  # an answer that was read before the removal
    async with fleet.database.transaction() as tables:
        await tables.operators.remove_operator("missed")
    await fleet.authorizer.reload()
    fleet.database.unavailable = True
    assert await fleet.granted(valid) == (OPS, "op.valid")
    for removed in (notified, missed):
        await fleet.refused(removed, "unknown or has expired")


async def test_a_new_operator_is_cached_on_notification(fleet: Fleet) -> None:
    token = await fleet.operator_token()
    digest = hashlib.sha256(token.encode()).hexdigest()
    await fleet.authorizer.refresh(f"operator_token {digest}")
    fleet.database.unavailable = True
    assert await fleet.granted(AuthRequest("N", "U", token=token)) == (OPS, "op.ann")


async def test_without_postgres_the_cached_rows_decide(fleet: Fleet, key: KeyPair) -> None:
    other, gone = (KeyPair.generate(KeyKind.USER) for _ in range(2))
    await fleet.enrol(key)
    await fleet.enrol(gone, "spoke-2")
    await fleet.revoke("spoke-2")
    bearer = AuthRequest("N", "U", token=await fleet.operator_token())
    token = await fleet.join_token()
    await fleet.authorizer.reload()
    fleet.database.unavailable = True
    assert await fleet.granted(request_of(key)) == (AGENTS, "spoke-1")
    assert await fleet.granted(bearer) == (OPS, "op.ann")
    await fleet.refused(request_of(gone), "revoked")
    await fleet.refused(request_of(other), "not cached")
    await fleet.refused(request_of(other, token), "no host can enrol")


async def test_after_a_failed_read_the_next_decisions_do_not_wait(fleet: Fleet, key: KeyPair) -> None:
    await fleet.enrol(key)
    await fleet.authorizer.reload()
    fleet.database.unavailable = True
    before = fleet.rows.reads
    for _ in range(5):
        await fleet.granted(request_of(key))
    assert fleet.rows.reads == before + 1
    fleet.database.unavailable, fleet.now = False, 2.0
    await fleet.granted(request_of(key))
    assert fleet.rows.reads == before + 2


async def test_a_revocation_is_never_undone(fleet: Fleet, key: KeyPair) -> None:
    await fleet.enrol(key)
    await fleet.authorizer.reload()
    await fleet.revoke()
    await fleet.authorizer.refresh(f"revoked_key {key.public}")
    stale = KeyStatus(key.public, "spoke-1", ("branch",), version=1)
    assert fleet.cache.update_key(stale).revoked
    assert fleet.cache.update_key(stale._replace(version=999)).revoked
    fleet.database.unavailable = True
    await fleet.refused(request_of(key), "revoked")


async def test_a_newer_row_is_not_replaced_by_an_older_one(fleet: Fleet, key: KeyPair) -> None:
    await fleet.enrol(key)
    older = await fleet.rows.key_status(key.public)
    async with fleet.database.transaction() as tables:
        await retag(tables, "spoke-1", ("hub",), "ann", NOW)
    await fleet.authorizer.refresh(f"peer {key.public}")
    assert fleet.cache.update_key(older).tags == ("hub",)


def test_the_libraries_agree_on_the_token_format() -> None:
    key = KeyPair.generate(KeyKind.ACCOUNT)
    text = jwt.encode(key, {"sub": "x"}, 7)
    assert jwt.decode(text.encode(), "A")["iat"] == 7


def test_the_callout_never_waits_long_for_the_bus() -> None:
    delays = ShortRetry(SystemRandom())
    assert all(
        0 < delays.uniform(low, 4 * low) <= MAX_RETRY_DELAY for low in (0.05, 0.5, 2.5, 30.0) for _ in range(100)
    )
