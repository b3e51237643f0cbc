"""Hardening 9: a join token without a peer gave its holder the id of a peer that a policy waits for, and so that peer's tunnels."""

import os
from datetime import UTC, datetime
from typing import Any

import pytest

from warren_contracts.commands import CreateJoinToken
from warren_contracts.documents import EnrolRequest
from warren_contracts.peers import JoinTokenRequest
from warren_contracts.tokens import TrustAnchors
from warren_intent.claims import PolicyClaims
from warren_registry.enrolment.join_tokens import create_join_token
from warren_registry.enrolment.service import enrol_peer
from warren_registry.errors import PeerIdTakenError
from warren_testkit.intent import published
from warren_testkit.registry import FakeDatabase
from warren_trust.keys import KeyKind, KeyPair

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
POLICIES: dict[str, dict[str, Any]] = {
    "an end of a tunnel": {"tunnels": [{"name": "t", "ends": [{"peer": "gw1"}, {"peer": "gw2"}]}]},
    "a hub": {"hubs": ["peer=gw1"], "spokes": ["tag=branch"]},
    "a member of a mesh that is disabled": {"members": ["tag=hub", "peer=gw1"], "enabled": False},
    "a reader": {"sites": ["tag=hub", "tag=branch"], "applies_to": ["peer=gw1"]},
}


async def join(peer: str, claims: PolicyClaims, *, named: str | None = None) -> str:
    """Enrol a new key as `peer`; returns its id."""
    database = FakeDatabase()
    async with database.transaction() as tables:
        command = CreateJoinToken(request=JoinTokenRequest(tags=("branch",), peer=named), actor="ann")
        token = await create_join_token(tables, command, TrustAnchors(bytes(32), None), os.urandom, NOW)
        nkey = KeyPair.generate(KeyKind.USER).public
        request = EnrolRequest(peer=peer, token=token.token)
        return (await enrol_peer(tables, request, nkey, claims, NOW)).peer.id


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
async def test_an_id_that_a_policy_names_requires_a_token_that_names_it(policy: dict[str, Any]) -> None:
    claims = PolicyClaims([published("wan", **policy)])
    with pytest.raises(PeerIdTakenError, match=r"the policy wan names the peer gw1.*warren token create --peer gw1"):
        await join("gw1", claims)
    assert await join("gw1", claims, named="gw1") == "gw1"
    assert await join("gw9", claims) == "gw9"


async def test_tags_reserve_nothing() -> None:
    claims = PolicyClaims([published("wan", hubs=["tag=gw1"], spokes=["tag=branch"])])
    assert await join("gw1", claims) == "gw1"
