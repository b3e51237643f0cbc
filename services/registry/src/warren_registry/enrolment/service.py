"""Enrol a peer in one transaction: verify the token, decide, count a use, and write the peer and its event."""

from datetime import datetime

from warren_contracts.documents import EnrolRequest
from warren_contracts.events import PeerEnrolled
from warren_contracts.peers import Announcement
from warren_contracts.tokens import parse_join_token, verify_join_token
from warren_intent.claims import PolicyClaims
from warren_registry.enrolment.rules import EnrolmentDecision, EnrolmentRows, enrol
from warren_registry.outbox import add_event
from warren_registry.peers.address_claims import check_networks_at_enrolment
from warren_registry.peers.announcement import check_announcement
from warren_registry.peers.membership import address_claims_of
from warren_registry.ports import Tables


async def enrol_peer(
    tables: Tables, request: EnrolRequest, nkey: str, policy_claims: PolicyClaims, now: datetime
) -> EnrolmentDecision:
    """Enrol the key `nkey`, which its connection has proved. Raises the errors of `rules.enrol`.

    The revision is assigned first: it blocks every other change, so the rows stay as they are until the commit.
    """
    shown = parse_join_token(request.token)
    token = verify_join_token(await tables.join_tokens.join_token(shown.id), shown)
    version = await tables.fleet.next_revision()
    known = EnrolmentRows(
        by_nkey=await tables.peers.by_nkey(nkey),
        by_id=await tables.peers.by_id(request.peer),
        identity_holder=await tables.peers.identity_holder(request.peer, request.peer),
        key_revoked=await tables.peers.key_revoked(nkey),
        named_by=policy_claims.naming(request.peer),
    )
    decision = enrol(request, nkey, token, known, version=version, now=now)
    if decision.fresh:
        announcement = Announcement(endpoints=request.endpoints, subnets=request.subnets)
        claims = await address_claims_of(tables, request.peer, announcement, policy_claims)
        check_announcement(decision.peer, announcement, claims)  # before a use of the token is counted
        check_networks_at_enrolment(decision.peer, announcement, claims)
        await tables.join_tokens.spend(token.id)
        await tables.peers.save(decision.peer, now)
        event = PeerEnrolled(peer=decision.peer.id, tags=decision.peer.tags, at=now)
        await add_event(tables, "enrolled", decision.peer.id, event, now)
    return decision
