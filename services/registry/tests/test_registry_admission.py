"""The callout's decisions: real tokens and signatures, rows in memory."""

import base64
import hashlib
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import SystemRandom
from typing import Any

import pytest

from warren_contracts.commands import CreateJoinToken, CreateOperatorToken, Role
from warren_contracts.documents import EnrolRequest
from warren_contracts.peers import JoinTokenRequest
from warren_intent.claims import PolicyClaims
from warren_registry.callout import RETRY_LIMIT, Eager
from warren_registry.deciding import Authorizer
from warren_registry.domain.admission import AGENTS, OPS, AdmissionRefusedError, AuthRequest, KeyRight, parse_ask
from warren_registry.domain.memory import CredentialCache
from warren_registry.enrolment import enrol_peer
from warren_registry.membership import retag, revoke
from warren_registry.testing import FakeAdmission, FakeDatabase
from warren_registry.tokens import create_join_token, create_operator_token
from warren_trust import jwt
from warren_trust.keys import KeyKind, KeyPair

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NONCE = "nonce-of-the-server"
ROOT = b"r" * 32


class Fleet:
    """A registry in memory with its callout, and keys that ask."""

    def __init__(self) -> None:
        self.database = FakeDatabase()
        self.rows = FakeAdmission(self.database)
        self.memory = CredentialCache()
        self.now = 0.0
        self.decider = Authorizer(self.rows, self.memory, lambda: self.now)

    async def join_token(self, uses: int = 1, **wish: Any) -> str:
        command = CreateJoinToken(request=JoinTokenRequest(tags=("branch",), uses=uses, **wish))
        async with self.database.transaction() as tables:
            return (await create_join_token(tables, command, ROOT, os.urandom, NOW)).token

    async def operator_token(self, role: Role = Role.OPERATOR, lifetime: int | None = None, name: str = "ann") -> str:
        command = CreateOperatorToken(name=name, role=role, lifetime=lifetime)
        async with self.database.transaction() as tables:
            return (await create_operator_token(tables, command, os.urandom, NOW)).token

    async def enrol(self, key: KeyPair, peer: str = "spoke-1") -> str:
        token = await self.join_token()
        async with self.database.transaction() as tables:
            await enrol_peer(tables, EnrolRequest(peer=peer, token=token), key.public, PolicyClaims(()), NOW)
        return token

    async def revoke(self, peer: str = "spoke-1") -> None:
        async with self.database.transaction() as tables:
            await revoke(tables, peer, "ann", NOW)

    async def granted(self, ask: AuthRequest, now: datetime = NOW) -> tuple[str, str]:
        grant = await self.decider.decide(ask, now)
        return grant.account, grant.name

    async def refused(self, ask: AuthRequest, reason: str, now: datetime = NOW) -> None:
        with pytest.raises(AdmissionRefusedError, match=reason):
            await self.decider.decide(ask, now)


@pytest.fixture
def fleet() -> Fleet:
    return Fleet()


@pytest.fixture
def key() -> KeyPair:
    return KeyPair.generate(KeyKind.USER)


def ask_of(key: KeyPair, token: str = "", *, url_safe: bool = False) -> AuthRequest:
    raw = key.sign(NONCE.encode())
    text = base64.urlsafe_b64encode(raw).decode().rstrip("=") if url_safe else base64.b64encode(raw).decode()
    return AuthRequest("N", "U", nkey=key.public, signature=text, nonce=NONCE, token=token)


@pytest.mark.parametrize("url_safe", [False, True])
async def test_an_enrolled_key_is_its_peer(fleet: Fleet, key: KeyPair, url_safe: bool) -> None:
    await fleet.enrol(key)
    grant = await fleet.decider.decide(ask_of(key, url_safe=url_safe), NOW)
    assert (grant.account, grant.name) == (AGENTS, "spoke-1")
    assert "live.warren.v1.policy.tag=branch" in grant.permissions.subscribe
    assert "warren.v1.telemetry.spoke-1.report" in grant.permissions.publish
    assert not any("hub" in subject for subject in (*grant.permissions.publish, *grant.permissions.subscribe))


async def test_a_key_must_be_proved(fleet: Fleet, key: KeyPair) -> None:
    await fleet.enrol(key)
    good = ask_of(key)
    stranger = KeyPair.generate(KeyKind.USER)
    await fleet.refused(replace(good, signature=""), "no signature")
    await fleet.refused(replace(good, nonce=""), "no signature")
    await fleet.refused(replace(good, signature=ask_of(stranger).signature), "signature over the nonce is wrong")
    await fleet.refused(replace(good, nonce="another nonce"), "signature over the nonce is wrong")
    await fleet.refused(replace(good, signature="no base64 !"), "signature over the nonce is wrong")
    await fleet.refused(replace(good, nkey="U" + "A" * 55), "signature over the nonce is wrong")
    await fleet.refused(AuthRequest("N", "U"), "neither a key nor")
    assert fleet.rows.reads == 0  # nobody unproved costs a row


async def test_an_unknown_key_is_refused(fleet: Fleet, key: KeyPair) -> None:
    await fleet.refused(ask_of(key), "not enrolled")


async def test_a_join_token_lets_a_proved_key_enrol_and_nothing_else(fleet: Fleet, key: KeyPair) -> None:
    token = await fleet.join_token()
    grant = await fleet.decider.decide(ask_of(key, token), NOW)
    assert (grant.account, grant.name) == (AGENTS, key.public)
    assert grant.permissions.publish == (f"warren.v1.rpc.enrol.{key.public}",)
    assert grant.permissions.subscribe == (f"_INBOX.{key.public}.>",)
    await fleet.refused(replace(ask_of(key, token), signature=""), "not proved")


async def test_a_join_token_that_is_spent_expired_or_unknown_is_refused(fleet: Fleet, key: KeyPair) -> None:
    spent = await fleet.enrol(KeyPair.generate(KeyKind.USER))
    await fleet.refused(ask_of(key, spent), "used up")
    token = await fleet.join_token()
    await fleet.refused(ask_of(key, token), "expired", NOW + timedelta(days=1))
    head, secret, root = token[:21], token[21:73], token[73:]
    await fleet.refused(ask_of(key, head + secret[::-1] + root), "unknown")
    await fleet.refused(ask_of(key, "wj1_short"), "malformed")
    await fleet.refused(ask_of(key, "something else"), "of no kind")


async def test_an_enrolled_key_may_ask_again_by_its_spent_token(fleet: Fleet, key: KeyPair) -> None:
    token = await fleet.enrol(key)
    assert await fleet.granted(ask_of(key, token)) == (AGENTS, key.public)


async def test_a_revoked_key_is_refused_with_and_without_a_token(fleet: Fleet, key: KeyPair) -> None:
    await fleet.enrol(key)
    assert await fleet.granted(ask_of(key)) == (AGENTS, "spoke-1")
    await fleet.revoke()
    await fleet.refused(ask_of(key), "revoked")
    await fleet.refused(ask_of(key, await fleet.join_token()), "revoked")
    await fleet.enrol(KeyPair.generate(KeyKind.USER))  # the id goes to a new key
    await fleet.refused(ask_of(key), "revoked")


@pytest.mark.parametrize("name", ["a.b", ">", "*", "UPPER", "", "a" * 64, "a\n"])
async def test_a_peer_with_an_odd_name_or_tag_is_refused(name: str) -> None:
    odd = Fleet()
    key = KeyPair.generate(KeyKind.USER)
    rows = OddRows(KeyRight(key.public, name or "x.y", (), 1))
    with pytest.raises(AdmissionRefusedError, match="no name"):
        await Authorizer(rows, odd.memory).decide(ask_of(key), NOW)
    rows = OddRows(KeyRight(key.public, "spoke-1", (name,), 1))
    with pytest.raises(AdmissionRefusedError, match="no name"):
        await Authorizer(rows, CredentialCache()).decide(ask_of(key), NOW)


class OddRows(FakeAdmission):
    """Rows that no door of ours would let in."""

    def __init__(self, odd: KeyRight) -> None:
        super().__init__(FakeDatabase())
        self._odd = odd

    async def right(self, nkey: str) -> KeyRight:
        return self._odd


async def test_an_operators_token_places_its_owner_in_ops(fleet: Fleet) -> None:
    ask = AuthRequest("N", "U", token=await fleet.operator_token())
    assert await fleet.granted(ask) == (OPS, "op.ann")
    viewer = await fleet.decider.decide(
        AuthRequest("N", "U", token=await fleet.operator_token(Role.VIEWER, name="bob")), NOW
    )
    assert "warren.v1.rpc.policy.apply" not in viewer.permissions.publish
    await fleet.refused(AuthRequest("N", "U", token="wo1_" + "a" * 52), "unknown or has expired")
    brief = AuthRequest("N", "U", token=await fleet.operator_token(lifetime=60, name="cid"))
    assert (await fleet.decider.decide(ask, NOW)).expires_at is None
    assert (await fleet.decider.decide(brief, NOW)).expires_at == NOW + timedelta(minutes=1)
    await fleet.refused(brief, "unknown or has expired", NOW + timedelta(minutes=1))


async def test_a_removed_operator_is_forgotten_also_while_postgres_is_away(fleet: Fleet) -> None:
    heard, missed, kept = [
        AuthRequest("N", "U", token=await fleet.operator_token(name=name)) for name in ("heard", "missed", "kept")
    ]
    await fleet.decider.reload()
    async with fleet.database.transaction() as tables:
        row = await tables.tokens.remove_operator("heard")
    assert row is not None
    await fleet.decider.told(f"operator_token {row.digest.hex()}")
    assert fleet.memory.learn_operator(row) is None  # an answer that was read before the removal
    async with fleet.database.transaction() as tables:
        await tables.tokens.remove_operator("missed")
    await fleet.decider.reload()
    fleet.database.away = True
    assert await fleet.granted(kept) == (OPS, "op.kept")
    for removed in (heard, missed):
        await fleet.refused(removed, "unknown or has expired")


async def test_a_new_operator_is_remembered_when_it_is_told(fleet: Fleet) -> None:
    token = await fleet.operator_token()
    digest = hashlib.sha256(token.encode()).hexdigest()
    await fleet.decider.told(f"operator_token {digest}")
    fleet.database.away = True
    assert await fleet.granted(AuthRequest("N", "U", token=token)) == (OPS, "op.ann")


async def test_without_postgres_the_last_known_rows_decide(fleet: Fleet, key: KeyPair) -> None:
    stranger, gone = (KeyPair.generate(KeyKind.USER) for _ in range(2))
    await fleet.enrol(key)
    await fleet.enrol(gone, "spoke-2")
    await fleet.revoke("spoke-2")
    bearer = AuthRequest("N", "U", token=await fleet.operator_token())
    token = await fleet.join_token()
    await fleet.decider.reload()
    fleet.database.away = True
    assert await fleet.granted(ask_of(key)) == (AGENTS, "spoke-1")
    assert await fleet.granted(bearer) == (OPS, "op.ann")
    await fleet.refused(ask_of(gone), "revoked")
    await fleet.refused(ask_of(stranger), "not among those remembered")
    await fleet.refused(ask_of(stranger, token), "nobody can enrol")


async def test_after_one_failed_read_nobody_else_waits_for_a_while(fleet: Fleet, key: KeyPair) -> None:
    await fleet.enrol(key)
    await fleet.decider.reload()
    fleet.database.away = True
    before = fleet.rows.reads
    for _ in range(5):
        await fleet.granted(ask_of(key))
    assert fleet.rows.reads == before + 1
    fleet.database.away, fleet.now = False, 2.0
    await fleet.granted(ask_of(key))
    assert fleet.rows.reads == before + 2


async def test_a_revocation_is_never_forgotten(fleet: Fleet, key: KeyPair) -> None:
    await fleet.enrol(key)
    await fleet.decider.reload()
    await fleet.revoke()
    await fleet.decider.told(f"revoked_key {key.public}")
    stale = KeyRight(key.public, "spoke-1", ("branch",), version=1)
    assert fleet.memory.learn(stale).revoked
    assert fleet.memory.learn(stale._replace(version=999)).revoked
    fleet.database.away = True
    await fleet.refused(ask_of(key), "revoked")


async def test_a_newer_row_is_not_replaced_by_an_older_answer(fleet: Fleet, key: KeyPair) -> None:
    await fleet.enrol(key)
    older = await fleet.rows.right(key.public)
    async with fleet.database.transaction() as tables:
        await retag(tables, "spoke-1", ("hub",), "ann", NOW)
    await fleet.decider.told(f"peer {key.public}")
    assert fleet.memory.learn(older).tags == ("hub",)


def claims(**changes: Any) -> dict[str, Any]:
    nats = {
        "server_id": {"id": "NSERVER"}, "user_nkey": "UONETIME", "client_info": {"nonce": NONCE},
        "connect_opts": {"nkey": "UKEY", "sig": "SIG", "auth_token": "TOKEN"},
    }  # fmt: skip
    return {"iss": "NSERVER", "aud": "nats-authorization-request", "exp": 100, "nats": nats, **changes}


def test_a_request_of_the_server_is_parsed() -> None:
    assert parse_ask(claims(), 99) == AuthRequest("NSERVER", "UONETIME", "UKEY", "SIG", NONCE, "TOKEN")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"exp": 99}, "expired"),
        ({"exp": "soon"}, "malformed"),
        ({"aud": "something"}, "not the server's own"),
        ({"iss": "NOTHER"}, "not the server's own"),
        ({"nats": {}}, "malformed"),
        ({"nats": []}, "malformed"),
    ],
)
def test_a_request_that_is_none_is_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(AdmissionRefusedError, match=reason):
        parse_ask(claims(**changes), 99)


def test_a_field_that_is_too_long_or_no_text_is_refused() -> None:
    for odd in ("x" * 513, 5, None, ["x"]):
        request = claims()
        request["nats"]["connect_opts"]["nkey"] = odd
        with pytest.raises(AdmissionRefusedError, match="the field nkey is malformed"):
            parse_ask(request, 99)


def test_no_token_shows_in_a_repr() -> None:
    assert "TOKEN" not in repr(parse_ask(claims(), 99))


def test_the_libraries_agree_on_the_token_format() -> None:
    key = KeyPair.generate(KeyKind.ACCOUNT)
    text = jwt.encode(key, {"sub": "x"}, 7)
    assert jwt.decode(text.encode(), "A")["iat"] == 7


def test_the_callout_never_waits_long_for_the_bus() -> None:
    eager = Eager(SystemRandom())
    assert all(0 < eager.uniform(low, 4 * low) <= RETRY_LIMIT for low in (0.05, 0.5, 2.5, 30.0) for _ in range(100))
