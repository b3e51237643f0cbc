"""Small fleets for tests of this package and of those above it."""

import base64
from hashlib import sha256
from ipaddress import ip_address, ip_network
from typing import Any

from warren_contracts.names import PeerId
from warren_contracts.peers import PeerRecord
from warren_contracts.policy import Policy, PublishedPolicy


def public_key(peer: PeerId) -> str:
    """A well-formed key for a peer, without a private key."""
    return base64.b64encode(sha256(peer.encode()).digest()).decode()


def record(peer: PeerId, number: int, *tags: str, **changes: Any) -> PeerRecord:
    """A peer with an address and a subnet of its own, both counted from `number` (below 65,536)."""
    fields: dict[str, Any] = {
        "peer": peer, "epoch": 1, "revision": 1, "tags": tags, "identity": peer, "public_key": public_key(peer),
        "endpoints": (ip_address("198.18.0.0") + number,),
        "subnets": (ip_network(f"10.{number // 256}.{number % 256}.0/24"),),
    }  # fmt: skip
    return PeerRecord(**(fields | changes))


def directory(*records: PeerRecord) -> dict[PeerId, PeerRecord]:
    """Records by peer."""
    return {it.peer: it for it in records}


def published(policy_id: str, revision: int = 1, **fields: Any) -> PublishedPolicy:
    """A published policy; `hubs` and `spokes`, `sites` or `members` make its topology."""
    kinds = {"hubs": "hub-spoke", "sites": "site-to-site", "members": "mesh"}
    for word, kind in kinds.items():
        if word in fields:
            names = (word, "spokes", "transit")
            topology = {name: fields.pop(name) for name in names if name in fields}
            fields["topology"] = {"kind": kind, **topology}
    return PublishedPolicy(revision=revision, policy=Policy.model_validate({"id": policy_id, **fields}))
