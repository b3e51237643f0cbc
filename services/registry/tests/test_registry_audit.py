"""The audit log: each command of an operator, with the address that it came from, in the command's own transaction."""

import json
import os
from datetime import UTC, datetime

import pytest

from warren_contracts.commands import (
    CreateJoinToken,
    CreateOperatorToken,
    PeerChange,
    RemoveJoinToken,
    RemoveOperatorToken,
    RevokePeer,
    Role,
    SetPriority,
)
from warren_contracts.documents import EnrolRequest, ReaderDigest, SignerRole
from warren_contracts.peers import JoinTokenRequest
from warren_contracts.problems import InvalidInputError, NotFoundError
from warren_contracts.scope import ListAudit
from warren_intent.claims import PolicyClaims
from warren_registry.epoch.trust import Trust
from warren_registry.ports import Database
from warren_registry.presence.tracker import PresenceTracker
from warren_registry.service import FollowedStreams, Registry
from warren_registry.token_service import TokenService
from warren_service.restore_guard import RestoreGuard
from warren_trust.keys import KeyKind, KeyPair
from warren_trust.signing import Signer

NOW = datetime(2026, 11, 29, tzinfo=UTC)
BY = {"actor": "ann", "client": "192.0.2.7"}


class NoDigests:
    """Nothing is published yet."""

    epoch = 0
    newest = 1

    def of(self, reader: str) -> ReaderDigest | None:
        return None


class NoWork:
    """Nothing is done between the calls."""

    def committed(self) -> None: ...

    def epoch_announced(self, actor: str) -> None: ...

    async def confirm_connections(self, peer: str) -> None: ...


@pytest.fixture
def trust() -> Trust:
    key = KeyPair.generate(KeyKind.SIGNING).public_base64
    return Trust(Signer(KeyPair.generate(KeyKind.SIGNING), SignerRole.ROOT), key, key)


@pytest.fixture
def registry(database: Database, trust: Trust) -> Registry:
    digests, guard = NoDigests(), RestoreGuard("DIRECTORY")
    guard.compare((), (1, 0))
    return Registry(
        database, trust, FollowedStreams(guard, digests, digests, lambda: PolicyClaims(())),
        PresenceTracker(database, lambda: NOW, lambda: None), NoWork(), clock=lambda: NOW,
    )  # fmt: skip


@pytest.fixture
def tokens(database: Database, trust: Trust) -> TokenService:
    return TokenService(database, trust, lambda: None, clock=lambda: NOW, random=os.urandom)


async def test_each_command_is_an_entry_with_its_client(registry: Registry, tokens: TokenService) -> None:
    token = await tokens.create_join_token(CreateJoinToken(request=JoinTokenRequest(tags=("branch",), uses=2), **BY))
    await registry.enrol(KeyPair.generate(KeyKind.USER).public, EnrolRequest(peer="gw1", token=token.token))
    await registry.retag(PeerChange(peer="gw1", tags=("hub",), **BY))
    await registry.set_priority(SetPriority(peer="gw1", priority=200, **BY))
    await registry.revoke(RevokePeer(peer="gw1", **BY))
    await tokens.remove_join_token(RemoveJoinToken(id=token.id, **BY))
    made = await tokens.create_operator_token(CreateOperatorToken(name="bob", role=Role.VIEWER, **BY))
    await tokens.remove_operator_token(RemoveOperatorToken(name="bob", **BY))
    log = (await registry.audit(ListAudit())).entries
    assert [(it.action, it.subject) for it in log] == [
        ("create_join_token", token.id), ("retag", "gw1"), ("set_priority", "gw1"), ("revoke", "gw1"),
        ("remove_join_token", token.id), ("create_operator_token", "bob"), ("remove_operator_token", "bob"),
    ]  # fmt: skip
    assert {(it.actor, it.client) for it in log} == {("ann", "192.0.2.7")}
    assert json.loads(log[1].detail) == {"peer": "gw1", "tags": ["hub"]}
    assert not any(secret in it.detail for it in log for secret in (token.token, made.token))


async def test_a_command_that_fails_leaves_no_entry(registry: Registry) -> None:
    with pytest.raises(NotFoundError):
        await registry.revoke(RevokePeer(peer="nobody", **BY))
    assert (await registry.audit(ListAudit())).entries == ()


async def test_the_log_is_read_by_pages(registry: Registry, tokens: TokenService) -> None:
    for number in range(5):
        await tokens.create_operator_token(CreateOperatorToken(name=f"op{number}", role=Role.VIEWER, **BY))
    first = await registry.audit(ListAudit(limit=3))
    rest = await registry.audit(ListAudit(after=first.next_after or "", limit=3))
    assert [it.subject for it in (*first.entries, *rest.entries)] == [f"op{number}" for number in range(5)]
    assert rest.next_after is None
    with pytest.raises(InvalidInputError, match="number of an entry"):
        await registry.audit(ListAudit(after="x"))
