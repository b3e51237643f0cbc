"""Requests to the guard, the one process of a gateway with CAP_NET_ADMIN, and its replies.

One JSON object a line over a Unix stream socket, each way; a request is answered by one reply in order. After `watch` the guard
also sends a `GuardEvent` line for each event. A line is at most `MAX_LINE` bytes; a longer one closes the connection.
The requests of `warren_contracts.leftovers` and `warren_contracts.tunnel_routes` belong to the same protocol; most agents never
need them.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from warren_contracts.addresses import IPAddress, IPNetwork
from warren_contracts.base import STRICT_INT, Document, Input, StrictBool
from warren_contracts.names import PeerId, PolicyId, TunnelName
from warren_contracts.protection import DeviceName, Protect, ProtectedTraffic

MAX_LINE = 8 * 1024 * 1024  # bytes: 10,000 tunnels of a hub
MAX_TRAFFIC = 20_000  # tunnels at one gateway

Key = tuple[PolicyId, TunnelName]
Detail = Annotated[str, StringConstraints(max_length=1_024)]


class Bypass(Input, defer_build=True):
    """A service that the host itself may reach in clear although a tunnel's selectors cover it: a NATS server, which the
    corrected policy comes from. `protocol` is an IP protocol number; `routed`: routes lead it into a tunnel."""

    address: IPAddress
    protocol: Literal[6, 17] = 6
    port: Annotated[int, Field(ge=1, le=65_535), STRICT_INT]
    routed: StrictBool = False


class LocalNetwork(Input, defer_build=True):
    """A network of the host's own links that a tunnel's selectors cover: packets within it pass in clear.

    `behind`: it is behind the gateway, so that packets that the gateway forwards into it stay out of the tunnel too.
    """

    network: IPNetwork
    behind: StrictBool = False


class ProtectRequest(Input, defer_build=True):
    """The complete protected traffic of this gateway.

    `retained` names what the agent no longer derives and still wants protected (a revoked peer, a disabled policy). Anything
    else that the guard holds is deleted: it stays protected for its `after_delete`. `devices` are the interfaces that carry
    tunnel traffic only (kernel-libipsec's `ipsec0`, TUN drivers, XFRM interfaces).
    """

    request: Literal["protect"] = "protect"
    traffic: Annotated[tuple[ProtectedTraffic, ...], Field(max_length=MAX_TRAFFIC)] = ()
    retained: Annotated[tuple[Key, ...], Field(max_length=MAX_TRAFFIC)] = ()
    devices: Annotated[tuple[DeviceName, ...], Field(max_length=256)] = ()
    bypass: Annotated[tuple[Bypass, ...], Field(max_length=64)] = ()
    networks: Annotated[tuple[LocalNetwork, ...], Field(max_length=256)] = ()

    @model_validator(mode="after")
    def _keys_are_distinct(self) -> "ProtectRequest":
        keys = [entry.key for entry in self.traffic]
        if len(set(keys)) < len(keys):
            raise ValueError("`traffic` has two entries of one policy and tunnel")
        return self


class HeldRequest(Input, defer_build=True):
    """What does the guard protect?"""

    request: Literal["held"] = "held"


class ReleaseRequest(Input, defer_build=True):
    """Stop protecting what was deleted, of one policy or of all. What a policy still wants stays protected."""

    request: Literal["release"] = "release"
    policy: PolicyId | None = None


class InspectRequest(Input, defer_build=True):
    """Look for what in this host's network contradicts its tunnels."""

    request: Literal["inspect"] = "inspect"


class WatchRequest(Input, defer_build=True):
    """Send events on this connection from now on."""

    request: Literal["watch"] = "watch"


Request = Annotated[
    ProtectRequest | HeldRequest | ReleaseRequest | InspectRequest | WatchRequest,
    Field(discriminator="request"),
]


class HeldState(StrEnum):
    """Why the guard protects something."""

    WANTED = "wanted"  # an agent derived it
    RETAINED = "retained"  # its peer was revoked or its policy disabled
    EXPIRING = "expiring"  # deleted; protected until `until`
    KEPT = "kept"  # deleted; protected until it is released


class Held(Document, defer_build=True):
    """One tunnel's traffic as the guard protects it."""

    policy: PolicyId
    tunnel: TunnelName
    peer: PeerId | None = None
    protect: Protect = Protect.ALWAYS
    state: HeldState
    until: datetime | None = None


class FindingCode(StrEnum):
    """What in a host's network contradicts its tunnels."""

    MASQUERADE = "masquerade"
    FORWARDING_OFF = "forwarding-off"
    FORWARD_DROP = "forward-drop"
    RP_FILTER = "rp-filter"


class HostFinding(Document, defer_build=True):
    """One finding, with the remedy in its detail."""

    code: FindingCode
    detail: Detail
    fixed: bool = False  # a rule of the guard makes it harmless


class InterfaceError(Document, defer_build=True):
    """An XFRM interface that cannot be made."""

    if_id: Annotated[int, Field(ge=1, le=0xFFFF_FFFF)]
    detail: Detail


class GuardReply(Document, defer_build=True):
    """The reply to any request. `error` is empty if it was done; the fields are those that the request asks for."""

    error: Detail = ""
    changed: bool = False
    held: tuple[Held, ...] = ()
    findings: tuple[HostFinding, ...] = ()
    released: int = 0
    interface_errors: tuple[InterfaceError, ...] = ()  # of `protect`
    restored_at: datetime | None = None  # when the table was last restored
    bypass_error: Detail = ""  # of `protect`: why routes still lead the bypass into a tunnel


class EventKind(StrEnum):
    """Kinds of events of `watch`."""

    TABLE_RESTORED = "table-restored"  # another program had removed or changed the guard's table
    ADDRESSES_CHANGED = "addresses-changed"
    ROUTES_CHANGED = "routes-changed"
    TUNNEL_ROUTES_CHANGED = "tunnel-routes-changed"  # routes into tunnels were removed, by whomever
    FINDINGS_CHANGED = "findings-changed"


class GuardEvent(Document, defer_build=True):
    """Something happened that an agent may want to act on."""

    event: EventKind
    at: datetime | None = None  # of TABLE_RESTORED
    failed: bool = False  # of TABLE_RESTORED: nft refuses the table, and the guard retries
    detail: Detail = ""
    findings: tuple[HostFinding, ...] = ()
