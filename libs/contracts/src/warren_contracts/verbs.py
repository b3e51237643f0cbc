"""Every verb of the RPC: who serves it, its models, and which operators may call it on the bus.

The subject names service and verb (`warren.v1.rpc.policy.apply`). The reply to a failure is a `Problem` instead.
"""

from collections.abc import Iterator
from typing import NamedTuple

from pydantic import BaseModel

from warren_contracts.audit import AuditLog, AuditVerification, PolicyAuditLog
from warren_contracts.authentication import Authenticate, Authenticated
from warren_contracts.bus_queries import EventPage, FleetTrust, GetPublishedSet, ReadEvents
from warren_contracts.commands import (
    AdvanceEpoch,
    ApplyPolicies,
    ApplyReply,
    CreateJoinToken,
    CreateOperatorToken,
    DeletePolicies,
    Empty,
    EpochFollowed,
    EpochReply,
    FleetDirectory,
    FollowEpoch,
    GetPeer,
    GetPolicy,
    GetTunnel,
    Health,
    JoinTokenList,
    JoinTokenSummary,
    ListTunnels,
    OperatorToken,
    OperatorTokenList,
    OperatorTokenSummary,
    OrderTunnel,
    Page,
    PeerChange,
    PeerList,
    PolicyList,
    ReadDirectory,
    RemoveJoinToken,
    RemoveOperatorToken,
    RevokePeer,
    Role,
    SetPriority,
    StoredPolicy,
    TunnelList,
    TunnelOrdered,
)
from warren_contracts.documents import (
    AnnounceReply,
    DirectoryPage,
    DirectoryPageRequest,
    EnrolReply,
    EnrolRequest,
    SignedDocument,
    Whoami,
)
from warren_contracts.peers import (
    Announcement,
    JoinToken,
    PeerSummary,
)
from warren_contracts.plans import DiffPolicy, PlanPolicies, PolicyDiff, PolicyPlan, TunnelStates, TunnelStatesQuery
from warren_contracts.policy_history import (
    DeletedPolicies,
    ListHistory,
    PolicyHistory,
)
from warren_contracts.rollouts import RolloutList
from warren_contracts.scope import ListAudit, ListPeers, ListScopedPeers, ScopedPeers
from warren_contracts.status import FleetTunnel
from warren_contracts.tunnel_history import (
    FleetAtQuery,
    FleetObserved,
    PoliciesAtQuery,
    PoliciesDesired,
    TunnelCounters,
    TunnelCountersQuery,
    TunnelHistory,
    TunnelHistoryQuery,
)


class Command(NamedTuple):
    """One verb: the service, the request model and the reply model."""

    service: str  # policy, registry, metrics, agent (served by the registry) or enrol (served by the registry)
    verb: str
    request: type[BaseModel]
    reply: type[BaseModel]
    # The least role of operators and other systems that may call it on the bus. None: only services, or whom `service` names.
    least_role: Role | None = None


COMMANDS: tuple[Command, ...] = (
    Command("policy", "apply", ApplyPolicies, ApplyReply, Role.OPERATOR),
    Command("policy", "delete", DeletePolicies, ApplyReply, Role.OPERATOR),
    Command("policy", "get", GetPolicy, StoredPolicy, Role.VIEWER),
    Command("policy", "list", Page, PolicyList, Role.VIEWER),
    Command("policy", "history", ListHistory, PolicyHistory, Role.VIEWER),
    Command("policy", "deleted", Page, DeletedPolicies, Role.VIEWER),
    Command("policy", "plan", PlanPolicies, PolicyPlan, Role.OPERATOR),
    Command("policy", "diff", DiffPolicy, PolicyDiff, Role.VIEWER),
    Command("policy", "policies_at", PoliciesAtQuery, PoliciesDesired, Role.VIEWER),
    Command("policy", "audit", Page, PolicyAuditLog),
    Command("policy", "verify_audit", Empty, AuditVerification),
    Command("policy", "published_set", GetPublishedSet, SignedDocument, Role.VIEWER),
    Command("policy", "events", ReadEvents, EventPage, Role.VIEWER),
    Command("policy", "follow_epoch", FollowEpoch, EpochFollowed),
    Command("policy", "health", Empty, Health, Role.VIEWER),
    Command("registry", "peers", ListPeers, PeerList, Role.VIEWER),
    Command("registry", "peer", GetPeer, PeerSummary, Role.VIEWER),
    Command("registry", "trust", Empty, FleetTrust, Role.VIEWER),
    Command("registry", "records", DirectoryPageRequest, DirectoryPage, Role.VIEWER),
    Command("registry", "retag", PeerChange, PeerSummary),
    Command("registry", "set_priority", SetPriority, PeerSummary),
    Command("registry", "revoke", RevokePeer, PeerSummary),
    Command("registry", "order_tunnel", OrderTunnel, TunnelOrdered),
    Command("registry", "directory", ReadDirectory, FleetDirectory),
    Command("registry", "create_join_token", CreateJoinToken, JoinToken),
    Command("registry", "create_operator_token", CreateOperatorToken, OperatorToken),
    Command("registry", "join_tokens", Page, JoinTokenList),
    Command("registry", "remove_join_token", RemoveJoinToken, JoinTokenSummary),
    Command("registry", "operator_tokens", Page, OperatorTokenList),
    Command("registry", "remove_operator_token", RemoveOperatorToken, OperatorTokenSummary),
    Command("registry", "advance_epoch", AdvanceEpoch, EpochReply),
    Command("registry", "scoped_peers", ListScopedPeers, ScopedPeers),
    Command("registry", "audit", ListAudit, AuditLog),
    Command("registry", "authenticate", Authenticate, Authenticated),
    Command("registry", "health", Empty, Health),
    Command("metrics", "tunnels", ListTunnels, TunnelList, Role.VIEWER),
    Command("metrics", "tunnel", GetTunnel, FleetTunnel, Role.VIEWER),
    Command("metrics", "states", TunnelStatesQuery, TunnelStates, Role.VIEWER),
    Command("metrics", "tunnel_history", TunnelHistoryQuery, TunnelHistory, Role.VIEWER),
    Command("metrics", "tunnel_counters", TunnelCountersQuery, TunnelCounters, Role.VIEWER),
    Command("metrics", "rollouts", Page, RolloutList, Role.VIEWER),
    Command("metrics", "fleet_at", FleetAtQuery, FleetObserved, Role.VIEWER),
    Command("metrics", "health", Empty, Health),
    Command("agent", "whoami", Empty, Whoami),
    Command("agent", "announce", Announcement, AnnounceReply),
    Command("agent", "directory", DirectoryPageRequest, DirectoryPage),
    Command("enrol", "enrol", EnrolRequest, EnrolReply),
)
_RANK = {role: rank for rank, role in enumerate((Role.VIEWER, Role.OPERATOR, Role.ADMIN))}


def includes(role: Role, least: Role) -> bool:
    """Whether a role has the rights of another one."""
    return _RANK[role] >= _RANK[least]


def of_operators(role: Role = Role.ADMIN) -> Iterator[Command]:
    """The verbs that a role may call on the bus; by default all that any of them may."""
    return (it for it in COMMANDS if it.least_role is not None and includes(role, it.least_role))
