"""Commands and queries by RPC, with their replies; `verbs.COMMANDS` is the list of the verbs.

`actor` is the caller as the API server authenticated it; a call from the account OPS carries its name in `Nats-Request-Info` and
`actor` is ignored.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from warren_contracts.addresses import IPNetwork
from warren_contracts.base import BIGINT, STRICT_INT, Document, Input, StrictBool, Whole
from warren_contracts.documents import SignedDocument
from warren_contracts.names import PeerId, PolicyId, SaReference, Scope, Tag, TunnelName
from warren_contracts.peers import JoinTokenRequest, PeerRecord, PeerSummary, Priority
from warren_contracts.plan_mark import PlanMark
from warren_contracts.policy import Policy
from warren_contracts.problems import InvalidField
from warren_contracts.status import FleetTunnel, TunnelState
from warren_contracts.subjects import Audience

MAX_ENDS = 10_000  # peers of one question: 64 bytes each at most, of a message of 1 MB

Actor = Annotated[str, StringConstraints(max_length=256)]
ClientAddress = Annotated[str, StringConstraints(pattern=r"^[ -~]{0,64}$")]


class Role(StrEnum):
    """What a bearer token permits at the API server: read, change policies, or also enrol, revoke and create tokens."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"


class Empty(Input):
    """No arguments."""


class OperatorCommand(Input):
    """A command of an operator that the registry writes to its audit log; `client` is the address that the request came from."""

    actor: Actor = ""
    client: ClientAddress = ""


class ApplyPolicies(Input):
    """Store these policies in one revision: all or none."""

    policies: Annotated[tuple[Policy, ...], Field(min_length=1, max_length=1_000)]
    mode: Literal["upsert", "create", "update"] = "upsert"
    dry_run: StrictBool = False
    # 409 if a policy is at another version
    expected_versions: dict[PolicyId, Whole] = Field(default_factory=dict)
    plan: PlanMark | None = None  # 409 unless a plan of the same policies is still exactly this one
    actor: Actor = ""


class DeletePolicies(Input):
    """Withdraw these policies in one revision: all or none."""

    ids: Annotated[tuple[PolicyId, ...], Field(min_length=1, max_length=1_000)]
    dry_run: StrictBool = False
    # 409 if a policy is at another version
    expected_versions: dict[PolicyId, Whole] = Field(default_factory=dict)
    actor: Actor = ""


class GetPolicy(Input):
    """One policy by id."""

    id: PolicyId


class Page(Input):
    """A page of a listing, in order of names."""

    after: str = ""
    limit: Annotated[int, Field(ge=1, le=500)] = 200


class StoredPolicy(Document):
    """A policy as the service stores it."""

    policy: Policy
    revision: int
    updated_at: datetime
    actor: str


class PolicyList(Document):
    policies: tuple[StoredPolicy, ...]
    next_after: str | None = None


class TunnelEffects(Document):
    """What a change does to the tunnels of the fleet: the number of each effect, and the first affected tunnels by name.

    `child`: a new CHILD_SA inside the same IKE_SA; `ike`: a new IKE_SA, authenticated again, next to the old one.
    """

    untouched: Annotated[int, Field(ge=0)] = 0
    child: Annotated[int, Field(ge=0)] = 0
    ike: Annotated[int, Field(ge=0)] = 0
    new: Annotated[int, Field(ge=0)] = 0
    removed: Annotated[int, Field(ge=0)] = 0
    touched: dict[TunnelName, Literal["child", "ike", "new", "removed"]] = Field(default_factory=dict)


class ApplyReply(Document):
    """What was stored, or with `dry_run` what would be. `stored_at` is the moment of the commit; the outbox publishes it later."""

    epoch: int
    revision: int
    stored_at: datetime
    readers: tuple[Audience, ...]  # whose sets change
    created: tuple[PolicyId, ...] = ()
    updated: tuple[PolicyId, ...] = ()
    unchanged: tuple[PolicyId, ...] = ()
    deleted: tuple[PolicyId, ...] = ()
    versions: dict[PolicyId, int] = Field(
        default_factory=dict
    )  # of the policies that were given, as they are stored now
    dry_run: bool = False  # nothing was stored
    effects: TunnelEffects | None = None  # of a dry run only
    warnings: tuple[InvalidField, ...] = ()  # stored nevertheless: weak algorithms, peers that are not ready yet


class GetPeer(Input):
    peer: PeerId


class PeerChange(OperatorCommand):
    """Change the attributes of a peer that an operator sets."""

    peer: PeerId
    tags: tuple[Tag, ...]


class SetPriority(OperatorCommand):
    """Set a peer's precedence among gateways of the same networks: the highest is used first. None: no redundant gateway."""

    peer: PeerId
    priority: Priority | None


class RevokePeer(OperatorCommand):
    peer: PeerId


class TunnelAction(StrEnum):
    """What an operator asks of a running tunnel."""

    REKEY = "rekey"  # new keys, without an interruption
    RESTART = "restart"  # its SAs are closed, then negotiated again


class OrderTunnel(OperatorCommand):
    """Have the agent of a peer rekey or restart one of its tunnels, or one of its SAs. One order of a peer in five seconds.

    `sa`: `ike` or `child=<name>`. To restart the IKE_SA is to restart the tunnel: its CHILD_SAs end with it (RFC 7296, 1.4.1).
    """

    peer: PeerId
    tunnel: TunnelName
    action: TunnelAction
    sa: SaReference | None = None


class TunnelOrdered(Document):
    """An order is on its way to the agent, signed, in the peer's record. An agent that receives it after two minutes ignores it."""

    peer: PeerId
    tunnel: TunnelName
    action: TunnelAction
    sa: SaReference | None = None  # the one SA that is meant
    at: datetime


class PeerList(Document):
    peers: tuple[PeerSummary, ...]
    next_after: str | None = None


class ReadDirectory(Page):
    """A page of the directory; or, of a caller that has all of it at `since` in `epoch`, what has changed after that."""

    epoch: Annotated[int, BIGINT] = 0
    since: Annotated[int, Field(ge=0), BIGINT] = (
        0  # revision of the first page, or of the last changes, that the caller has
    )


class FleetDirectory(Document):
    """Input of a policy check: all records, and the tags that a peer or a join token has.

    With `since`, `peers` and `removed` are only what has changed after that revision, up to `revision`; with `more`, not all of it.
    """

    epoch: int
    revision: int
    peers: tuple[PeerRecord, ...]
    tags: tuple[Tag, ...]
    next_after: str | None = None
    since: int = 0  # 0: a page of all records
    removed: tuple[PeerId, ...] = ()
    more: bool = False


class CreateJoinToken(OperatorCommand):
    request: JoinTokenRequest


class CreateOperatorToken(OperatorCommand):
    """Create a bearer token for the API server; the registry stores its hash only."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]{1,63}$")]
    role: Role
    lifetime: Annotated[int, Field(ge=60), STRICT_INT] | None = None  # s; None: does not expire
    scope: Scope | None = None  # None: the whole fleet


class OperatorToken(Document):
    name: str
    role: Role
    scope: Scope | None = None
    token: Annotated[str, Field(repr=False)]


class JoinTokenSummary(Document):
    """A join token as shown to operators, without the secret."""

    id: str
    tags: tuple[Tag, ...]
    uses: int
    used: int
    peer: PeerId | None = None
    subnets: tuple[IPNetwork, ...] = ()
    note: str = ""
    created_by: str = ""
    created_at: datetime
    expires_at: datetime


class JoinTokenList(Document):
    tokens: tuple[JoinTokenSummary, ...]
    next_after: str | None = None


class RemoveJoinToken(OperatorCommand):
    """Remove a join token: no further peer can join with it; peers that joined with it stay."""

    id: Annotated[str, StringConstraints(pattern=r"^[a-z2-7]{16}$")]


class OperatorTokenSummary(Document):
    """A bearer token as shown to operators, without the secret. `expires_at` None: it does not expire.

    `sha256_prefix`, 8 hexadecimal digits of the token's SHA-256, identifies it where several are at hand (`sha256sum`).
    """

    name: str
    role: Role
    created_by: str = ""
    created_at: datetime
    expires_at: datetime | None = None
    sha256_prefix: str = ""
    scope: Scope | None = None  # the tags whose peers it is for; None: the whole fleet


class OperatorTokenList(Document):
    tokens: tuple[OperatorTokenSummary, ...]
    next_after: str | None = None


class RemoveOperatorToken(OperatorCommand):
    """Remove a bearer token: it is no longer accepted, and its connections to the bus are closed."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]{1,63}$")]


class AdvanceEpoch(OperatorCommand):
    """Announce a new epoch after a restore from a backup: all state is published again and supersedes older messages."""

    to: Annotated[int, Field(ge=2, le=1_000_000), STRICT_INT] | None = None  # None: one more than the highest known


class EpochReply(Document):
    """The epoch that was announced, and the highest that was known before. Publication follows."""

    epoch: int
    before: int
    at: datetime


class FollowEpoch(Input):
    """Notify the policy service of a new epoch. It is accepted by the signature of the trust root."""

    trust: SignedDocument
    actor: Actor = ""


class EpochFollowed(Document):
    """The epoch and revision of the policy service after the change."""

    epoch: int
    revision: int


class ListTunnels(Input):
    """A page of the tunnels, by name. `lean`: without SAs, counters and evidence, a fifth of the size.

    `peer`: only tunnels of which it is an end, whether it reports them or only the other end does.
    `ends`: only tunnels with at least one of these ends. Then `next_after` is the name of a tunnel with one, too.
    """

    after: str = ""
    limit: Annotated[int, Field(ge=1, le=500)] = 200
    peer: PeerId | None = None
    state: TunnelState | None = None
    lean: bool = False
    ends: Annotated[tuple[PeerId, ...], Field(max_length=MAX_ENDS)] | None = None


class TunnelList(Document):
    tunnels: tuple[FleetTunnel, ...]
    next_after: str | None = None


class GetTunnel(Input):
    name: TunnelName


class Health(Document):
    """Health of a service and of each dependency; `ready` is false if any of them is unavailable."""

    service: str
    live: bool = True
    ready: bool
    dependencies: dict[str, bool]
    detail: dict[str, str] = Field(default_factory=dict)
    remarks: dict[str, str] = Field(
        default_factory=dict
    )  # what needs an operator, and is not a dependency of the service
