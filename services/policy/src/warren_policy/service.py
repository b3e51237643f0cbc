"""The use cases: apply, delete, get, list. Each change is checked as a whole and stored as one revision, or refused."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime

import structlog

from warren_contracts import subjects
from warren_contracts.base import BIGINT_MAX
from warren_contracts.commands import (
    ApplyPolicies,
    ApplyReply,
    DeletePolicies,
    Page,
    PolicyList,
    StoredPolicy,
    TunnelEffects,
)
from warren_contracts.events import PolicyChanged
from warren_contracts.pages import fit_page
from warren_contracts.policy_history import ListHistory, PolicyHistory
from warren_contracts.problems import InvalidField, NotFoundError
from warren_intent.relations import readers
from warren_policy.domain.derived import DerivedSets
from warren_policy.domain.effects import effects_of
from warren_policy.domain.planned import make_plan, require_revision, require_same
from warren_policy.domain.proof import prove
from warren_policy.domain.revisions import PolicySnapshot, RevisionChange, plan_apply, plan_delete
from warren_policy.domain.sets import ReaderSet, reader_sets
from warren_policy.errors import RevisionMovedError
from warren_policy.ports import CallContext, Commit, Directory, Outbox, OutboxSet, PolicyStore, RevisionEvent
from warren_service.restore_guard import RestoreGuard

MAX_RACES = 8  # tries of one change against other instances of this service; each lost try means that another won

Planned = tuple[RevisionChange, tuple[InvalidField, ...]]  # what changes, and the warnings
Plan = Callable[[PolicySnapshot], Awaitable[Planned]]

log = structlog.get_logger(__name__)


class PolicyService:
    """Changes are computed outside any transaction and stored if nothing moved meanwhile, so no update is ever lost.

    One instance works on one change at a time (`_lock`); several instances meet in `PolicyStore.commit`.
    """

    def __init__(
        self, store: PolicyStore, directory: Directory, derived: DerivedSets, *, now: Callable[[], datetime], new_id: Callable[[], str],
        committed: Callable[[], None], restore_guard: RestoreGuard,
    ) -> None:  # fmt: skip
        self._store = store
        self._directory = directory
        self._derived = derived
        self._now = now
        self._new_id = new_id
        self._committed = committed  # called after each commit: the relay looks at its outbox
        self._restore_guard = restore_guard
        self._lock = asyncio.Lock()
        self._known: PolicySnapshot | None = None

    async def apply(self, command: ApplyPolicies, caller: CallContext) -> ApplyReply:
        """Store the policies of `command`, all or none; InvalidInputError, Conflict, NotFoundError or Unavailable say why not."""

        effects: TunnelEffects | None = None

        async def plan(snapshot: PolicySnapshot) -> Planned:
            nonlocal effects
            if command.plan is not None:
                require_revision(command.plan, snapshot)
            change = plan_apply(snapshot, command)
            if not change.changed and command.plan is None:
                return change, ()
            fleet = await self._directory.fleet()
            derived = self._derived.of(change, fleet.records)
            warnings = await asyncio.to_thread(prove, change, command, derived, fleet.tags)
            if command.plan is not None:
                made = await asyncio.to_thread(make_plan, snapshot, change, derived, warnings)
                require_same(command.plan, made)
            effects = await asyncio.to_thread(effects_of, derived) if command.dry_run else None
            return change, warnings

        reply = await self._change("apply", plan, caller, dry_run=command.dry_run)
        return reply.model_copy(update={"effects": effects})

    async def delete(self, command: DeletePolicies, caller: CallContext) -> ApplyReply:
        """Withdraw policies. Needs no registry, but for a dry run: to withdraw must always be possible."""

        effects: TunnelEffects | None = None

        async def plan(snapshot: PolicySnapshot) -> Planned:
            nonlocal effects
            change = plan_delete(snapshot, command.ids, command.expected_versions)
            if command.dry_run:
                fleet = await self._directory.fleet()
                effects = await asyncio.to_thread(effects_of, self._derived.of(change, fleet.records))
            return change, ()

        reply = await self._change("delete", plan, caller, dry_run=command.dry_run)
        return reply.model_copy(update={"effects": effects})

    async def get(self, policy: str) -> StoredPolicy:
        stored = await self._store.get(policy)
        if stored is None:
            raise NotFoundError(f"no policy {policy}: list the policies to see what there is")
        return stored

    async def list(self, page: Page) -> PolicyList:
        found = await self._store.page(page.after, page.limit + 1)
        shown = fit_page(found[: page.limit])
        more = len(found) > len(shown)
        return PolicyList(policies=shown, next_after=shown[-1].policy.id if more else None)

    async def history(self, request: ListHistory) -> PolicyHistory:
        """The versions of a policy, deleted ones too; NotFoundError if there never was one."""
        found = await self._store.history(request.id, request.before or BIGINT_MAX, request.limit + 1)
        if not found and not request.before:
            raise NotFoundError(f"no policy {request.id}, now or before: list the policies to see what there is")
        shown = fit_page(found[: request.limit])
        return PolicyHistory(versions=shown, next_before=shown[-1].revision if len(found) > len(shown) else None)

    async def _change(self, action: str, plan: Plan, caller: CallContext, *, dry_run: bool) -> ApplyReply:
        async with self._lock:
            for _ in range(MAX_RACES):
                snapshot = self._known = await self._store.snapshot(self._known)
                change, warnings = await plan(snapshot)
                sets = await asyncio.to_thread(reader_sets, change, snapshot.epoch, readers) if change.changed else ()
                commit = self._commit_of(action, snapshot, change, sets, caller)
                if dry_run or not change.changed:
                    return _reply(commit, snapshot.revision, warnings, dry_run=dry_run)
                await self._restore_guard.require(snapshot.epoch)
                try:
                    await self._store.commit(commit)
                except RevisionMovedError:
                    continue
                self._committed()
                _log(commit)
                return _reply(commit, change.revision, warnings)
            raise RevisionMovedError(f"{MAX_RACES} other changes were stored meanwhile: repeat the call")

    def _commit_of(
        self,
        action: str,
        snapshot: PolicySnapshot,
        change: RevisionChange,
        sets: tuple[ReaderSet, ...],
        caller: CallContext,
    ) -> Commit:
        at = self._now()
        outbox = Outbox(
            snapshot.epoch, change.revision, at, caller.traceparent,
            tuple(OutboxSet(item.reader, self._new_id(), item.payload) for item in sets),
            tuple(self._event(event) for event in _events(change, caller.actor, at)),
        )  # fmt: skip
        return Commit((snapshot.epoch, snapshot.revision), action, caller.actor, caller.trace_id, change, outbox)

    def _event(self, event: PolicyChanged) -> RevisionEvent:
        subject = subjects.event("policy", "changed", event.policy)
        return RevisionEvent(subject, event.TYPE, self._new_id(), event.model_dump_json().encode())


def _events(change: RevisionChange, actor: str, at: datetime) -> tuple[PolicyChanged, ...]:
    return tuple(
        PolicyChanged(
            policy=id_, action=action, revision=change.revision, version=state[id_].policy.version, actor=actor, at=at
        )
        for action, ids, state in (
            ("created", change.created, change.after),
            ("updated", change.updated, change.after),
            ("deleted", change.deleted, change.before),
        )
        for id_ in ids
    )


def _reply(commit: Commit, revision: int, warnings: tuple[InvalidField, ...], *, dry_run: bool = False) -> ApplyReply:
    outbox, change = commit.outbox, commit.change
    return ApplyReply(
        epoch=outbox.epoch, revision=revision, stored_at=outbox.at,
        readers=tuple(sorted(item.reader for item in outbox.sets)), created=change.created, updated=change.updated,
        unchanged=change.unchanged, deleted=change.deleted, warnings=warnings, dry_run=dry_run,
        versions={id_: change.after[id_].policy.version for id_ in (*change.created, *change.updated, *change.unchanged)},
    )  # fmt: skip


def _log(commit: Commit) -> None:
    log.info(
        "policy.stored", action=commit.action, revision=commit.outbox.revision, policies=commit.change.changed[:16],
        readers=len(commit.outbox.sets), actor=commit.actor,
    )  # fmt: skip
