"""What is known of a tunnel, read from the services that know it: reports, policies, peers."""

import asyncio
from datetime import UTC, datetime

from warren_api.ports import Bus
from warren_api.scope.lookups import read_tunnel
from warren_api.scope.view import ScopeView
from warren_contracts.commands import GetPeer, GetPolicy, StoredPolicy
from warren_contracts.explanation import Explanation
from warren_contracts.names import PeerId, PolicyId, TunnelName
from warren_contracts.peers import PeerSummary
from warren_contracts.policy import PublishedPolicy
from warren_contracts.problems import NotFoundError
from warren_intent.diagnosis import explain, situation_of


async def explanation(bus: Bus, seen: ScopeView | None, name: TunnelName) -> Explanation:
    """Why a tunnel is in its state. NotFoundError if no peer reports it."""
    tunnel = await read_tunnel(bus, seen, name)
    named = sorted({end.policy for end in tunnel.ends.values() if end.policy is not None})
    policies, peers = await asyncio.gather(
        asyncio.gather(*(_policy(bus, it) for it in named)), asyncio.gather(*(_peer(bus, it) for it in tunnel.peers))
    )
    published = [PublishedPolicy(revision=it.revision, policy=it.policy) for it in policies if it is not None]
    known = {it.peer: it if seen is None else seen.far_peer(it) for it in peers if it is not None}
    return explain(situation_of(tunnel, published, known, datetime.now(UTC)))


async def _policy(bus: Bus, policy: PolicyId) -> StoredPolicy | None:
    """None: it was deleted, and its tunnel is about to go."""
    try:
        return await bus.call("policy", "get", GetPolicy(id=policy), StoredPolicy)
    except NotFoundError:
        return None


async def _peer(bus: Bus, peer: PeerId) -> PeerSummary | None:
    try:
        return await bus.call("registry", "peer", GetPeer(peer=peer), PeerSummary)
    except NotFoundError:
        return None
