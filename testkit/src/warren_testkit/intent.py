"""Small fleets and policies: records, directories, published policies, tunnels."""

import base64
from hashlib import sha256
from ipaddress import ip_address, ip_network
from typing import Any

from warren_contracts.addresses import Endpoint
from warren_contracts.names import PeerId
from warren_contracts.peers import DriverCapabilities, KeyUse, PeerKey, PeerRecord
from warren_contracts.policy import Policy, PublishedPolicy
from warren_contracts.tunnel import Tunnel

STAR: dict[str, Any] = {"id": "star", "topology": {"kind": "hub-spoke", "hubs": ["tag=hub"], "spokes": ["tag=branch"]}}


def star(**changes: object) -> Policy:
    """The policy `star`: a tunnel from each peer with the tag `branch` to each one with the tag `hub`."""
    return Policy.model_validate(STAR | changes)


def public_key(peer: PeerId) -> str:
    """A well-formed key for a peer, without a private key."""
    return base64.b64encode(sha256(peer.encode()).digest()).decode()


key_of = public_key  # `record` has a parameter of that name


def record(
    peer: PeerId,
    number: int,
    *tags: str,
    public_key: str | None = "",
    driver: DriverCapabilities | None = None,
    **changes: Any,
) -> PeerRecord:
    """A peer with an address and a subnet of its own, both counted from `number` (below 65,536).

    `public_key` is its IKE key (None: it has none), `driver` its only driver.
    """
    ike_key = key_of(peer) if public_key == "" else public_key
    fields: dict[str, Any] = {
        "peer": peer, "epoch": 1, "revision": 1, "tags": tags, "identity": peer,
        "endpoints": (Endpoint(ip_address("198.18.0.0") + number),),
        "subnets": (ip_network(f"10.{number // 256}.{number % 256}.0/24"),),
        "keys": (PeerKey(use=KeyUse.IKE, public=ike_key),) if ike_key is not None else (),
        "drivers": (driver,) if driver is not None else (),
    }  # fmt: skip
    return PeerRecord(**(fields | changes))


def ipsec_tunnel(**changes: Any) -> Tunnel:
    """One end of a tunnel between `spoke` (this end) and `hub`; `ike`, `child` and `link` change those levels.

    `children` is a list of changes to the default child, for tunnels with several.
    """
    ike, child, link = (changes.pop(name, {}) for name in ("ike", "child", "link"))
    children = changes.pop("children", [child])
    child_fields = {"local_ts": ["10.1.0.0/16"], "remote_ts": ["10.0.0.0/16"], "proposals": ["aes256gcm16-x25519"]}
    link_fields = {
        "kind": "ipsec",
        "ike": {"proposals": ["aes256gcm16-prfsha384-x25519"], **ike},
        "local_auth": {"kind": "raw-key", "identity": "spoke", "public_key": public_key("spoke")},
        "remote_auth": {"kind": "raw-key", "identity": "hub", "public_key": public_key("hub")},
        "children": [{**child_fields, **it} for it in children],
    }
    fields = {"name": "hub+spoke", "policy": "p1", "priority": 100, "peer": "hub", "initiator": True}
    return resolved(Tunnel.model_validate({**fields, "link": {**link_fields, **link}, **changes}))


def resolved(tunnel: Tunnel) -> Tunnel:
    """A tunnel with derived values instead of unset ones, as `expand` makes it."""
    link = tunnel.link
    children = tuple(child.model_copy(update=vars(child.resolved())) for child in link.children)
    return tunnel.model_copy(
        update={"link": link.model_copy(update={"ike": link.ike.resolved(), "children": children})}
    )


def directory(*records: PeerRecord) -> dict[PeerId, PeerRecord]:
    """Records by peer."""
    return {it.peer: it for it in records}


def published(policy_id: str, revision: int = 1, **fields: Any) -> PublishedPolicy:
    """A published policy; `hubs` and `spokes`, `sites` or `members` make its topology."""
    kinds = {"hubs": "hub-spoke", "sites": "site-to-site", "members": "mesh"}
    for word, kind in kinds.items():
        if word in fields:
            names = (word, "spokes", "transit", "pools")
            topology = {name: fields.pop(name) for name in names if name in fields}
            fields["topology"] = {"kind": kind, **topology}
    return PublishedPolicy(revision=revision, policy=Policy.model_validate({"id": policy_id, **fields}))
