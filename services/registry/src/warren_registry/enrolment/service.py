"""Enrolment: one transaction that recognises the token, decides, spends a use, and writes the peer and its event."""

from datetime import datetime

from warren_contracts.documents import EnrolRequest
from warren_contracts.events import PeerEnrolled
from warren_contracts.peers import Announcement
from warren_contracts.tokens import parse_join_token, verify_join_token
from warren_intent.claims import PolicyClaims
from warren_registry.enrolment.rules import Enrolment, Known, enrol
from warren_registry.outbox import leave_event
from warren_registry.peers.announcement import check_announcement
from warren_registry.peers.membership import surroundings
from warren_registry.ports import Tables


async def enrol_peer(tables: Tables, request: EnrolRequest, nkey: str, given: PolicyClaims, now: datetime) -> Enrolment:
    """Enrol the key `nkey`, which its connection has proved. Raises what `domain.enrolment.enrol` names.

    The revision is taken first: it holds off every other change, so what the rows say stays true until the commit.
    """
    shown = parse_join_token(request.token)
    token = verify_join_token(await tables.join_tokens.join_token(shown.id), shown)
    version = await tables.fleet.next_revision()
    known = Known(
        by_nkey=await tables.peers.by_nkey(nkey),
        by_id=await tables.peers.by_id(request.peer),
        identity_holder=await tables.peers.identity_holder(request.peer, request.peer),
        key_revoked=await tables.peers.key_revoked(nkey),
    )
    decision = enrol(request, nkey, token, known, version=version, now=now)
    if decision.fresh:
        said = Announcement(endpoints=request.endpoints, subnets=request.subnets)
        around = await surroundings(tables, request.peer, said, given)
        check_announcement(decision.peer, said, around)  # now, and not when the token is spent
        await tables.join_tokens.spend(token.id)
        await tables.peers.save(decision.peer)
        event = PeerEnrolled(peer=decision.peer.id, tags=decision.peer.tags, at=now)
        await leave_event(tables, "enrolled", decision.peer.id, event, now)
    return decision
