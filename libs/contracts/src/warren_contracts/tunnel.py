"""Tunnel: one end of one tunnel, as a driver applies it. Derived from policies, never written by hand.

Addresses and networks are `ipaddress` objects in Python and strings in JSON. No field holds a secret.
"""

from warren_contracts.addresses import EndpointText
from warren_contracts.base import Document
from warren_contracts.ipsec import IpsecLink
from warren_contracts.names import PeerId, PolicyId, TunnelName
from warren_contracts.protection import AfterDelete, LocalBypass, Protect

Link = IpsecLink  # a union by `kind` as soon as there is a second kind; a driver serves one or more kinds


class Tunnel(Document, defer_build=True):
    """One end's view of one tunnel: `local_*` is this host.

    What a change affects (the IKE_SA, or only CHILD_SAs) is decided by `warren_intent.plan`.
    """

    name: TunnelName
    policy: PolicyId
    priority: int
    peer: PeerId | None  # None: a foreign gateway without an agent
    initiator: bool
    auto_start: bool = True  # False: this end never starts it
    # Tunnels of this end that carry the same traffic and have precedence: this one is started only while none of them works.
    standby_of: tuple[TunnelName, ...] = ()
    local_endpoints: tuple[EndpointText, ...] = ()  # empty: any
    remote_endpoints: tuple[EndpointText, ...] = ()  # empty: any; this end can only respond
    link: Link
    protect: Protect = Protect.ALWAYS
    protect_after_delete: AfterDelete = 0
    bypass: LocalBypass = LocalBypass.ALLOW
