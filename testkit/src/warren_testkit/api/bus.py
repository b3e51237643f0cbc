"""A bus without NATS: small services in memory, with the answers that the real ones give to the same questions."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection
from datetime import datetime
from typing import Any

from pydantic import BaseModel

from warren_api.errors import BusUnavailableError, unanswered
from warren_api.ports import ReplyT, StoredEvent
from warren_contracts.bus_queries import FleetTrust
from warren_contracts.commands import (
    AdvanceEpoch,
    ApplyPolicies,
    ApplyReply,
    DeletePolicies,
    Empty,
    EpochReply,
    GetPolicy,
    Health,
    JoinTokenSummary,
    ListTunnels,
    OperatorTokenSummary,
    Page,
    PolicyList,
    Role,
    StoredPolicy,
    TunnelEffects,
    TunnelList,
)
from warren_contracts.peers import PeerRecord, PeerSummary, PresenceState
from warren_contracts.policy_history import DeletedPolicy, ListHistory, PolicyHistory, PolicyVersion
from warren_contracts.problems import (
    ConflictError,
    InvalidField,
    InvalidInputError,
    NotFoundError,
    UnavailableError,
)
from warren_contracts.rollouts import PolicyRollout
from warren_contracts.scope import ListAudit
from warren_contracts.status import FleetTunnel, TunnelState
from warren_contracts.verbs import COMMANDS
from warren_testkit.api.audit import audit_log
from warren_testkit.api.entries import found, page_of
from warren_testkit.api.health import health_of_restored_service, health_of_service
from warren_testkit.api.past import FakePast
from warren_testkit.api.peers import FakePeers
from warren_testkit.api.scopes import FakeScopes, has_end, of_scope
from warren_testkit.api.tokens import NOW, TOKENS, FakeTokens, digest
from warren_testkit.api.trust import fleet_trust


class FakeBus(FakePast, FakeTokens, FakePeers, FakeScopes):
    """`ports.Bus` with policies, peers and tunnels in dictionaries.

    `unavailable` names services that are not there, `hung` those that do not answer (or `nats`, the server), `restored` those that
    wait for an epoch.
    """

    def __init__(self) -> None:
        self.is_connected = True
        self.unavailable: set[str] = set()
        self.hung: set[str] = set()
        self.remarks: dict[str, str] = {}
        self.restored: set[str] = set()
        self.policies: dict[str, StoredPolicy] = {}
        self.peers: dict[str, PeerSummary] = {}
        self.tunnels: dict[str, FleetTunnel] = {}
        self.rollouts: list[PolicyRollout] = []  # in order of policies
        self.tokens = {digest(text): role for role, text in TOKENS.items()}
        self.tagged_at: dict[str, datetime] = {}
        self.scopes: dict[str, tuple[str, ...]] = {}
        self.join_tokens: dict[str, JoinTokenSummary] = {}
        self.operators: dict[str, OperatorTokenSummary] = {}
        self.calls: list[tuple[str, str, BaseModel]] = []
        self.revision = 0
        self.history: list[PolicyVersion] = []
        self.deleted: dict[str, DeletedPolicy] = {}
        self.now = NOW
        self.epoch = 1
        self.stored: list[StoredEvent] = []
        self._news = asyncio.Condition()

    async def answers(self) -> bool:
        return self.is_connected and "nats" not in self.hung

    async def callout_answers(self) -> bool:
        return self.is_connected and "callout" not in self.unavailable

    async def call(
        self, service: str, verb: str, request: BaseModel, reply: type[ReplyT], timeout: float = 5.0
    ) -> ReplyT:
        if not self.is_connected:
            raise BusUnavailableError
        if "nats" in self.hung:
            raise unanswered(service, verb, f"NATS does not answer (within {timeout:g} s)")
        if service in self.unavailable:
            raise UnavailableError(f"the {service} service is unavailable: repeat the call when it has returned")
        if service in self.hung:
            raise unanswered(service, verb, f"the {service} service does not answer (within {timeout:g} s)")
        command = next(it for it in COMMANDS if (it.service, it.verb) == (service, verb))
        # As on the wire: what cannot be said in JSON of the contract does not arrive.
        arrived = command.request.model_validate_json(request.model_dump_json(exclude_unset=True))
        self.calls.append((service, verb, arrived))
        restored = verb == "health" and service in self.restored
        named = self._health_of_restored if restored else getattr(self, f"_{service}_{verb}", self._health)
        handler: Callable[[Any], BaseModel] = named
        return reply.model_validate_json(handler(arrived).model_dump_json())

    async def events(self, after: int | None, kinds: Collection[str]) -> AsyncGenerator[StoredEvent | None, None]:
        last = len(self.stored) if after is None else after
        behind = True
        while True:
            if behind and len(self.stored) <= last:
                behind = False
                yield None
            async with self._news:
                while len(self.stored) <= last:
                    await self._news.wait()
            for event in self.stored[last:]:
                last = event.sequence
                if not kinds or event.subject.split(".")[4] in kinds:
                    yield event

    async def publish(self, subject: str, kind: str, data: bytes) -> None:
        """Store an event, as a service does."""
        sequence = len(self.stored) + 1
        headers = {"ce-specversion": "1.0", "ce-type": kind, "ce-source": "/services/fake", "ce-id": f"id-{sequence}"}
        async with self._news:
            self.stored.append(StoredEvent(sequence, subject, headers, data))
            self._news.notify_all()

    def add_peer(self, peer: str, *tags: str) -> PeerSummary:
        """A peer that has joined."""
        record = PeerRecord(peer=peer, epoch=1, revision=1, tags=tags, identity=peer)
        self.peers[peer] = PeerSummary(
            peer=peer, nkey="U" + "A" * 55, tags=tags, record=record, presence=PresenceState.ONLINE,
            last_seen=NOW, enrolled_at=NOW,
        )  # fmt: skip
        return self.peers[peer]

    def add_token(self, text: str, role: Role, *scope: str) -> None:
        """An operator's bearer token; without a tag for the whole fleet."""
        self.tokens[digest(text)] = role
        if scope:
            self.scopes[digest(text)] = scope

    def add_tunnel(self, name: str, state: TunnelState = TunnelState.UP) -> FleetTunnel:
        """A tunnel that is reported."""
        self.tunnels[name] = FleetTunnel(name=name, state=state, peers=tuple(name.split("+")), ends={})
        return self.tunnels[name]

    def _health(self, _: Empty) -> Health:
        return health_of_service(self.remarks)

    def _health_of_restored(self, _: Empty) -> Health:
        return health_of_restored_service()

    def _policy_apply(self, command: ApplyPolicies) -> ApplyReply:
        self.require_plan(command)
        created = [it.id for it in command.policies if it.id not in self.policies]
        updated = [it.id for it in command.policies if it.id in self.policies]
        if command.mode == "create" and updated:
            raise ConflictError(f"policy {updated[0]} exists already")
        if command.mode == "update" and created:
            raise NotFoundError(f"there is no policy {created[0]}")
        stated = {it.id: it.version for it in command.policies if it.version}
        for policy_id, version in {**stated, **command.expected_versions}.items():
            held = self.policies.get(policy_id)
            if (held.policy.version if held else 0) != version:
                raise ConflictError(f"policy {policy_id} is at another version")
        if not command.dry_run:
            self.revision += 1
            for policy in command.policies:
                held = self.policies.get(policy.id)
                stored = policy.model_copy(update={"version": self.last_version(policy.id) + 1})
                self.policies[policy.id] = StoredPolicy(
                    policy=stored, revision=self.revision, updated_at=NOW, actor=command.actor
                )
                self.history.append(
                    PolicyVersion(
                        version=stored.version, revision=self.revision, action="updated" if held else "created", at=NOW,
                        actor=command.actor, policy=stored,
                    )
                )  # fmt: skip
        doubts = [
            InvalidField(field=f"policies/{index}/crypto", message="no forward secrecy")
            for index, policy in enumerate(command.policies)
            if any(not proposal.key_exchange for proposal in policy.crypto.esp)
        ]
        reply = self._applied(created=tuple(created), updated=tuple(updated), warnings=tuple(doubts))
        versions = {it.id: self.policies[it.id].policy.version for it in command.policies if it.id in self.policies}
        reply = reply.model_copy(update={"versions": versions})
        effects = TunnelEffects(untouched=3, ike=1, touched={"hub+spoke-1": "ike"})
        return reply.model_copy(update={"dry_run": True, "effects": effects}) if command.dry_run else reply

    def _policy_delete(self, command: DeletePolicies) -> ApplyReply:
        absent = [policy_id for policy_id in command.ids if policy_id not in self.policies]
        if absent:
            raise NotFoundError(f"there is no policy {', '.join(absent)}")
        for policy_id, version in command.expected_versions.items():
            if self.policies[policy_id].policy.version != version:
                raise ConflictError(f"policy {policy_id} is at another version")
        if command.dry_run:
            effects = TunnelEffects(removed=2, touched={"hub+spoke-1": "removed", "hub+spoke-2": "removed"})
            return self._applied(deleted=command.ids).model_copy(update={"dry_run": True, "effects": effects})
        self.revision += 1
        for policy_id in command.ids:
            self.delete_policy(policy_id, command.actor)
        return self._applied(deleted=command.ids)

    def _applied(self, **lists: tuple[str, ...] | tuple[InvalidField, ...]) -> ApplyReply:
        return ApplyReply.model_validate(
            {"epoch": 1, "revision": self.revision, "stored_at": NOW, "readers": ("all",), **lists}
        )

    def _policy_history(self, query: ListHistory) -> PolicyHistory:
        found = [it for it in self.versions_of(query.id) if it.revision < (query.before or 10**9)]
        if not found and not query.before:
            raise NotFoundError(f"no policy {query.id}, now or before")
        shown = tuple(reversed(found))[: query.limit]
        return PolicyHistory(versions=shown, next_before=shown[-1].revision if len(found) > len(shown) else None)

    def _policy_get(self, query: GetPolicy) -> StoredPolicy:
        return found(self.policies, query.id, "policy")

    def _policy_list(self, page: Page) -> PolicyList:
        entries, after = page_of(self.policies, page.after, page.limit)
        return PolicyList(policies=entries, next_after=after)

    def _registry_audit(self, page: ListAudit) -> BaseModel:
        return audit_log(self.calls, page, NOW, None if page.scope is None else of_scope(self.peers, page.scope))

    def _registry_trust(self, _: Empty) -> FleetTrust:
        return fleet_trust(self.epoch)

    def _registry_advance_epoch(self, command: AdvanceEpoch) -> EpochReply:
        before, self.epoch = self.epoch, command.to or self.epoch + 1
        if self.epoch <= before:
            self.epoch = before
            message = f"must be higher than epoch {before}, which was published already; omit it for the next one"
            raise InvalidInputError(f"to: {message}", (InvalidField(field="to", message=message),))
        return EpochReply(epoch=self.epoch, before=before, at=NOW)

    def _metrics_tunnels(self, query: ListTunnels) -> TunnelList:
        held = {
            name: it for name, it in self.tunnels.items()
            if query.peer in (None, *it.peers) and query.state in (None, it.state) and has_end(it.peers, query.ends)
        }  # fmt: skip
        entries, after = page_of(held, query.after, query.limit)
        return TunnelList(tunnels=entries, next_after=after)
