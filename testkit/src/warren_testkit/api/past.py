"""Plans, differences, audit and history of a fleet in memory, as the services reply."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from warren_api.ports import StoredEvent
from warren_contracts.audit import AuditVerification, PolicyAuditEntry, PolicyAuditLog
from warren_contracts.bus_queries import EventPage, ReadEvents
from warren_contracts.commands import ApplyPolicies, Empty, GetTunnel, Page, StoredPolicy, TunnelEffects
from warren_contracts.peers import PeerSummary, PresenceState
from warren_contracts.plan_mark import PlanMark
from warren_contracts.plans import (
    DiffPolicy,
    Interruption,
    ObservedState,
    PlannedPolicy,
    PlannedTunnel,
    PlanPolicies,
    PolicyDiff,
    PolicyPlan,
    TunnelStates,
    TunnelStatesQuery,
)
from warren_contracts.policy import Policy
from warren_contracts.policy_history import DeletedPolicies, DeletedPolicy, PolicyVersion
from warren_contracts.problems import InvalidField, InvalidInputError, NotFoundError
from warren_contracts.rollouts import PolicyRollout, RolloutList
from warren_contracts.status import FleetTunnel, TunnelState
from warren_contracts.tunnel_history import (
    FleetAtQuery,
    FleetObserved,
    HistoryStrip,
    PeerAt,
    PoliciesAtQuery,
    PoliciesDesired,
    PolicyAt,
    StateEntry,
    TunnelCounters,
    TunnelCountersQuery,
    TunnelHistory,
    TunnelHistoryQuery,
)
from warren_intent.policy_diff import changes
from warren_policy.errors import PlanMovedError
from warren_testkit.api.entries import page_of
from warren_testkit.api.orders import FakeOrders
from warren_testkit.api.scopes import has_end


class FakePast(FakeOrders):
    """The verbs; `FakeBus` has the state."""

    policies: dict[str, StoredPolicy]
    tunnels: dict[str, FleetTunnel]
    peers: dict[str, PeerSummary]
    rollouts: list[PolicyRollout]
    history: list[PolicyVersion]
    deleted: dict[str, DeletedPolicy]  # also those that were created again
    stored: list[StoredEvent]
    revision: int
    now: datetime

    def _policy_plan(self, command: PlanPolicies) -> PolicyPlan:
        planned = tuple(self._planned(policy) for policy in sorted(command.policies, key=lambda it: it.id))
        touched = (
            {} if all(it.action == "unchanged" for it in planned) else {"hub+spoke-1": Interruption.RE_ESTABLISHED}
        )
        tunnels = tuple(
            PlannedTunnel(name=name, peers=("hub", "spoke-1"), policy=planned[0].id, effect="ike", interruption=it)
            for name, it in touched.items() if name > command.after
        )  # fmt: skip
        return PolicyPlan(
            mark=PlanMark(epoch=1, revision=self.revision, digest=self._digest(command.policies)), policies=planned,
            effects=TunnelEffects(untouched=3, ike=len(touched)), interruptions=dict.fromkeys(touched.values(), 1),
            tunnels=tunnels,
        )  # fmt: skip

    def require_plan(self, command: ApplyPolicies) -> None:
        """Refuse a plan that was made from other policies, or is of other ones."""
        mark = command.plan
        if mark is not None and (mark.revision, mark.digest) != (self.revision, self._digest(command.policies)):
            raise PlanMovedError

    def _planned(self, policy: Policy) -> PlannedPolicy:
        held = self.policies.get(policy.id)
        if held is None:
            return PlannedPolicy(id=policy.id, action="created", version=0)
        found = tuple(changes(held.policy, policy))
        action = "updated" if found else "unchanged"
        return PlannedPolicy.model_validate(
            {"id": policy.id, "action": action, "version": held.policy.version, "changes": found}
        )

    def _digest(self, policies: Sequence[Policy]) -> str:
        text = "\n".join(it.model_dump_json(exclude={"version"}) for it in sorted(policies, key=lambda it: it.id))
        return hashlib.sha256(f"{self.revision}\n{text}".encode()).hexdigest()

    def versions_of(self, policy_id: str) -> list[PolicyVersion]:
        """Every version of a policy, the oldest first. Of several deletions it has the last."""
        deletion = self.deleted[policy_id].revision if policy_id in self.deleted else None
        return [it for it in self.history if (it.policy.id == policy_id if it.policy else it.revision == deletion)]

    def last_version(self, policy_id: str) -> int:
        """The highest version that a policy ever had; 0: there never was one."""
        return max((it.version for it in self.versions_of(policy_id)), default=0)

    def delete_policy(self, policy_id: str, actor: str) -> None:
        """Remove a stored policy in the present revision."""
        version = self.policies.pop(policy_id).policy.version
        entry = PolicyVersion(version=version, revision=self.revision, action="deleted", at=self.now, actor=actor)
        self.history.append(entry)
        self.deleted[policy_id] = DeletedPolicy(
            id=policy_id, version=version, revision=self.revision, at=self.now, actor=actor
        )

    def _policy_deleted(self, page: Page) -> DeletedPolicies:
        held = {id_: it for id_, it in self.deleted.items() if id_ not in self.policies}
        entries, after = page_of(held, page.after, page.limit)
        return DeletedPolicies(policies=entries, next_after=after)

    def _policy_diff(self, command: DiffPolicy) -> PolicyDiff:
        found = self.versions_of(command.id)[::-1]
        if not found:
            raise NotFoundError(f"no policy {command.id}, now or before")
        by_version = {it.version: it for it in found}
        after = by_version.get(command.to_version or found[0].version)
        before = by_version.get(command.from_version or found[0].version - 1)
        if after is None or (command.from_version and before is None):
            raise NotFoundError(f"{command.id} has no such version")
        return PolicyDiff(
            id=command.id, from_version=before.version if before else 0, to_version=after.version,
            changes=tuple(changes(before.policy if before else None, after.policy)),
        )  # fmt: skip

    def _policy_events(self, _: ReadEvents) -> EventPage:
        return EventPage(events=(), next_after=len(self.stored))

    def _policy_policies_at(self, query: PoliciesAtQuery) -> PoliciesDesired:
        self._refuse_future("at", query.at)
        policies = tuple(
            PolicyAt(id=id_, version=it.policy.version, revision=it.revision, enabled=it.policy.enabled)
            for id_, it in sorted(self.policies.items())
        )
        return PoliciesDesired(at=query.at, epoch=1, revision=self.revision, stored_at=self.now, policies=policies)

    def _policy_audit(self, page: Page) -> PolicyAuditLog:
        entries = [
            PolicyAuditEntry(
                seq=number, at=it.at, actor=it.actor, action="apply", epoch=1, revision=it.revision, trace_id="",
                detail="{}", hash=f"{number:064x}",
            )
            for number, it in enumerate(self.history, 1)
        ]  # fmt: skip
        shown = tuple(entries[int(page.after or 0) :][: page.limit])
        return PolicyAuditLog(entries=shown, next_after=str(shown[-1].seq) if len(shown) == page.limit else None)

    def _policy_verify_audit(self, _: Empty) -> AuditVerification:
        return AuditVerification(ok=True, rows=len(self.history), hash=f"{len(self.history):064x}")

    def _metrics_tunnel(self, query: GetTunnel) -> FleetTunnel:
        return _known(self.tunnels, query.name)

    def _metrics_states(self, query: TunnelStatesQuery) -> TunnelStates:
        found = {name: ObservedState(state=self.tunnels[name].state) for name in query.names if name in self.tunnels}
        return TunnelStates(states=found)

    def _metrics_tunnel_counters(self, query: TunnelCountersQuery) -> TunnelCounters:
        _known(self.tunnels, query.name)
        return TunnelCounters(name=query.name, start=self.now, step_seconds=60)

    def _metrics_tunnel_history(self, query: TunnelHistoryQuery) -> TunnelHistory:
        if query.until is not None:
            self._refuse_future("until", query.until)
        tunnel = _known(self.tunnels, query.name)
        entries = tuple(
            StateEntry(at=self.now, peer=peer, state=tunnel.state, previous=TunnelState.DOWN) for peer in tunnel.peers
        )
        day = timedelta(days=1)
        return TunnelHistory(
            name=query.name, entries=entries[: query.limit], begins=self.now - 30 * day,
            last_24h=HistoryStrip(start=self.now - day, bucket_seconds=900, buckets=({tunnel.state: 900.0},) * 96, up_ratio=1.0),
            last_7d=HistoryStrip(start=self.now - 7 * day, bucket_seconds=7_200, buckets=({tunnel.state: 7_200.0},) * 84, up_ratio=1.0),
        )  # fmt: skip

    def _metrics_fleet_at(self, query: FleetAtQuery) -> FleetObserved:
        self._refuse_future("at", query.at)
        held = {name: it for name, it in self.tunnels.items() if has_end(it.peers, query.ends)}
        peers = [it for name, it in sorted(self.peers.items()) if query.ends is None or name in query.ends]
        names = [name for name in sorted(held) if name > query.after]
        shown = names[: query.limit]
        states: dict[TunnelState, int] = {}
        for tunnel in held.values():
            states[tunnel.state] = states.get(tunnel.state, 0) + 1
        return FleetObserved(
            at=query.at, begins=self.now - timedelta(days=30), states=states, gateways=dict(Counter(it.presence for it in peers)),
            offline=tuple(it.peer for it in peers if it.presence is not PresenceState.ONLINE),
            peers=tuple(PeerAt(peer=it.peer, presence=it.presence) for it in peers),
            tunnels=tuple(self.tunnels[name] for name in shown),
            next_after=shown[-1] if len(names) > len(shown) else None,
        )  # fmt: skip

    def _metrics_rollouts(self, page: Page) -> RolloutList:
        rest = [it for it in self.rollouts if it.policy > page.after]
        shown = tuple(rest[: page.limit])
        return RolloutList(rollouts=shown, next_after=shown[-1].policy if len(shown) < len(rest) else None)

    def _refuse_future(self, field: str, at: datetime) -> None:
        if at > self.now + timedelta(days=36_500):  # the fleet in memory stands still in 2026
            message = "is in the future: give a time that has passed"
            raise InvalidInputError(f"{field}: {message}", (InvalidField(field=field, message=message),))


def _known(held: Mapping[str, FleetTunnel], name: str) -> FleetTunnel:
    if name not in held:
        raise NotFoundError(f"unknown tunnel {name}")
    return held[name]
