"""Policy: which tunnels an operator wants. Strict (an unknown field is an error), and no field holds a secret."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from warren_contracts.addresses import EndpointText, IPAddress, IPNetwork
from warren_contracts.auth import AuthPolicy, RawKeyPolicy
from warren_contracts.base import NOT_EMPTY, OMIT_EMPTY, STRICT_INT, Document, Input, NonEmptyTuple, StrictBool
from warren_contracts.crypto import CryptoProposal
from warren_contracts.identities import ExactIdentity
from warren_contracts.ipsec import MAX_CHILDREN, ChildOptions, IkeOptions, Xfrm
from warren_contracts.names import ChildName, PeerId, PolicyId, PublicKey, TunnelName
from warren_contracts.protection import AfterDelete, LocalBypass, Protect
from warren_contracts.selectors import ANY_PORTS, PortRange, Protocol, Selector, check_ports
from warren_contracts.subjects import Audience

MAX_POLICY_SET = 900_000  # bytes of JSON of one reader's set: max_payload of 1 MB less headers and margin

Text = Annotated[str, StringConstraints(max_length=1_024)]


class SiteToSite(Input, defer_build=True):
    """Every peer of the first site to every peer of the second."""

    kind: Literal["site-to-site"]
    sites: tuple[Audience, Audience]


class HubSpoke(Input, defer_build=True):
    """Every spoke to every hub.

    With `transit` spokes reach each other through the hub: its selectors then hold the other spokes' subnets as well, and
    a spoke that joins or leaves changes the selectors of every tunnel of that hub. Two hubs cannot both carry the transit
    of one spoke: they would claim the same traffic.

    A spoke without subnets requests a virtual address of each family in `pools`, and its hub assigns it.
    """

    kind: Literal["hub-spoke"]
    hubs: Annotated[tuple[Audience, ...], Field(min_length=1)]
    spokes: Annotated[tuple[Audience, ...], Field(min_length=1)]
    transit: StrictBool = False
    pools: NonEmptyTuple[IPNetwork] = ()  # virtual addresses for spokes without subnets


class Mesh(Input, defer_build=True):
    """Every member to every other."""

    kind: Literal["mesh"]
    members: Annotated[tuple[Audience, ...], Field(min_length=1)]


Topology = Annotated[SiteToSite | HubSpoke | Mesh, Field(discriminator="kind")]


class Crypto(Input, defer_build=True):
    """A profile by name, or explicit proposals; proposals take precedence over the profile's."""

    profile: Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,63}$")] | None = None
    ike: NonEmptyTuple[CryptoProposal] = ()
    esp: NonEmptyTuple[CryptoProposal] = ()


class TunnelOptions(Input, defer_build=True):
    """Options that both ends of a tunnel share, of the IKE_SA and of its CHILD_SAs."""

    ike: IkeOptions = IkeOptions()
    child: ChildOptions = ChildOptions()


class ChildSpec(Input, defer_build=True):
    """One CHILD_SA of a tunnel, for part of the traffic between its ends.

    `ts` are the selectors of the two ends, in their order; omitted, or an empty list: the end's subnets. `protocol` and `ports`
    (of each end) restrict subnets, and selectors that state none of their own.
    """

    name: ChildName
    ts: tuple[tuple[Selector, ...], tuple[Selector, ...]] = ((), ())
    protocol: Protocol = 0
    ports: tuple[PortRange, PortRange] = Field(
        default=(ANY_PORTS, ANY_PORTS), json_schema_extra={"default": ["any", "any"]}
    )
    esp: NonEmptyTuple[CryptoProposal] = ()  # omitted: those of the tunnel
    options: ChildOptions | None = None  # omitted: `options.child` of the tunnel

    @model_validator(mode="after")
    def _protocol_has_ports(self) -> "ChildSpec":
        for ports in self.ports:
            check_ports(self.protocol, ports)
        return self


Children = Annotated[tuple[ChildSpec, ...], Field(max_length=MAX_CHILDREN), NOT_EMPTY, OMIT_EMPTY]


def _refuse_repeated(what: str, names: list[str]) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if repeated:
        raise ValueError(f"duplicate {what} names: {', '.join(repeated)}")


class TunnelEnd(Input, defer_build=True):
    """One end of an explicit tunnel: a managed peer by id, or a foreign gateway by address, identity and public key.

    Values given here override what a managed peer announced (addresses, subnets, key, identity). An end with `pools` assigns
    a virtual address to the other, which requests it with `vips`.
    """

    peer: PeerId | None = None
    addresses: NonEmptyTuple[EndpointText] = ()
    identity: ExactIdentity | None = None
    public_key: PublicKey | None = None
    subnets: NonEmptyTuple[IPNetwork] = ()
    vips: NonEmptyTuple[IPAddress] = ()  # virtual addresses that this end requests; 0.0.0.0 and :: request any
    pools: NonEmptyTuple[IPNetwork] = ()  # virtual addresses that this end assigns
    xfrm: Xfrm | None = None  # kernel settings of this end only

    @model_validator(mode="after")
    def _foreign_is_complete(self) -> "TunnelEnd":
        if self.peer is None:
            required = ("identity", "public_key") if self.vips else ("identity", "public_key", "subnets")
            missing = [name for name in required if not getattr(self, name)]
            if missing:
                raise ValueError(f"an end without `peer` is a foreign gateway and requires {', '.join(missing)}")
            if self.xfrm is not None:
                raise ValueError(
                    "`xfrm` configures the kernel of a managed peer and is not allowed at a foreign gateway: set it at the other end"
                )
        return self


class TunnelSpec(Input, defer_build=True):
    """An explicit tunnel between two ends."""

    name: Annotated[TunnelName, StringConstraints(pattern=r"^[a-z0-9_-]{1,63}$")]
    ends: tuple[TunnelEnd, TunnelEnd]
    crypto: Crypto | None = None
    options: TunnelOptions | None = None
    children: Children = ()  # omitted: those of the policy
    auto_start: StrictBool = True

    @model_validator(mode="after")
    def _two_ends_of_which_one_is_ours(self) -> "TunnelSpec":
        first, second = self.ends
        if first.peer is None and second.peer is None:
            raise ValueError("at least one end must be a peer of this fleet")
        if first.peer is not None and first.peer == second.peer:
            raise ValueError("both ends are the same peer")
        for own, other in ((first, second), (second, first)):
            if own.vips and not other.pools and other.peer is not None:
                raise ValueError("an end with `vips` requires `pools` at the other end")
            if own.vips and own.pools:
                raise ValueError("one end either requests `vips` or assigns from `pools`")
        _refuse_repeated("child", [child.name for child in self.children])
        return self


class Policy(Input):
    """A statement of intent: which peers have tunnels with each other, and their parameters.

    The first end of a tunnel, to which the first entry of a child's `ts` and `ports` belongs, is the first of `ends` or
    `sites`, a hub, and in a mesh the lower peer id.
    """

    id: PolicyId
    name: Text = ""
    description: Text = ""
    # Counted by the service. In a change: the version that was edited (409 if another is stored); 0: replace whatever is stored.
    version: Annotated[int, Field(ge=0), STRICT_INT] = 0
    enabled: StrictBool = True
    priority: Annotated[int, Field(ge=-1_000_000, le=1_000_000), STRICT_INT] = 100  # the higher one wins a conflict
    applies_to: NonEmptyTuple[
        Audience
    ] = ()  # additional readers; omitted: those that the tunnels and the topology name
    topology: Topology | None = None
    tunnels: Annotated[tuple[TunnelSpec, ...], Field(max_length=10_000), NOT_EMPTY, OMIT_EMPTY] = ()
    crypto: Crypto = Crypto()
    auth: AuthPolicy = RawKeyPolicy()
    options: TunnelOptions = TunnelOptions()
    children: Children = ()  # omitted: one CHILD_SA for all traffic between the subnets
    protect: Protect = Protect.ALWAYS  # whether packets of the tunnels' traffic may leave in clear
    protect_after_delete: AfterDelete = 0  # s after the policy was deleted, or `keep`
    bypass: LocalBypass = LocalBypass.ALLOW  # whether a gateway keeps its own networks and the bus out of the tunnels

    @model_validator(mode="after")
    def _says_something(self) -> "Policy":
        if self.topology is None and not self.tunnels:
            raise ValueError("a policy requires `topology` or at least one entry in `tunnels`")
        _refuse_repeated("tunnel", [tunnel.name for tunnel in self.tunnels])
        _refuse_repeated("child", [child.name for child in self.children])
        if self.topology is not None and any(any(child.ts) for child in self.children):
            raise ValueError(
                "`ts` of a child is for `tunnels` only, since a topology has many ends: use protocol and ports"
            )
        return self


class PublishedPolicy(Document, defer_build=True):
    """A policy as published, with the revision at which it last changed."""

    revision: int
    policy: Policy


class PolicySet(Document):
    """The complete intent for one reader: the newest message on `warren.v1.policy.<reader>`.

    Ordered by (epoch, revision) only. `batch` names every reader whose set changed in this revision: a peer
    that reads several of them waits until it has all of its own at this revision or a later one.
    """

    reader: Audience
    epoch: int
    revision: int
    batch: tuple[Audience, ...]
    policies: tuple[PublishedPolicy, ...]
