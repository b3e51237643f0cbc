"""Makes the changes, each after it is in the journal, and puts them back."""

from collections.abc import Sequence

from warren_vpn.host import command, kill_switch
from warren_vpn.host.changes import (
    Address,
    AddressChange,
    Change,
    KillSwitchChange,
    LinkChange,
    ResolvconfChange,
    ResolvConfFileChange,
    ResolvedChange,
    RouteChange,
    RuleChange,
)
from warren_vpn.host.dns import apply_dns, undo_dns
from warren_vpn.host.errors import HostError
from warren_vpn.host.journal import Journal, JournalContent, boot_id, with_changes, without
from warren_vpn.host.routing import Routing, open_routing


class Host:
    """This host, through its journal, which the caller has locked."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._record = journal.read() or JournalContent(boot_id=boot_id(), profile="")
        self.has_kill_switch = self.kill_switch is not None and self._record.boot_id == boot_id()
        """Whether the kernel has taken one. The journal has it before that, so that it is removed in any case."""

    @property
    def record(self) -> JournalContent:
        """What is in force, as the journal has it."""
        return self._record

    @property
    def kill_switch(self) -> KillSwitchChange | None:
        """The kill switch, as the journal has it."""
        return next((change for change in self._record.changes if isinstance(change, KillSwitchChange)), None)

    def begin(self, profile: str) -> None:
        """Note for whom the changes are made. JournalError."""
        self._record = self._record.model_copy(update={"profile": profile, "boot_id": boot_id()})
        self._journal.write(self._record)

    def remember(self, servers: dict[str, tuple[Address, ...]]) -> None:
        """Note the addresses of the servers' names, for a time when no name can be looked up. JournalError."""
        if servers != self._record.servers:
            self._record = self._record.model_copy(update={"servers": servers})
            self._journal.write(self._record)

    async def apply(self, changes: Sequence[Change]) -> None:
        """Make the changes that are not in force, in their order. HostError; then what was made so far is in the journal."""
        # another program may have flushed the ruleset: the kill switch is installed again each time, in one transaction
        known = {change for change in self._record.changes if not isinstance(change, KillSwitchChange)}
        new = [change for change in changes if change not in known]
        if not new:
            return
        self._record = with_changes(self._record, new)
        self._journal.write(self._record)
        async with open_routing() as routing:
            for change in new:
                await _apply(routing, change)
                self.has_kill_switch = self.has_kill_switch or isinstance(change, KillSwitchChange)

    async def replace(self, kinds: Sequence[type], changes: Sequence[Change]) -> None:
        """Let `changes` be all of these kinds: first the new ones are made, then the others are undone. HostError."""
        await self.apply(changes)
        keys = {change.key for change in changes}
        await self.undo([one for one in self._record.changes if isinstance(one, tuple(kinds)) and one.key not in keys])

    async def load_kill_switch(self) -> bool:
        """Put the kill switch that a client has left into the kernel, as after a restart of the machine; False: there is none.

        What else it has left is of the former run of the kernel, but for files. HostError.
        """
        switch = self.kill_switch
        if switch is None:
            return False
        left = self._left() if self._record.boot_id != boot_id() else self._record.changes
        others = tuple(change for change in left if change.key != switch.key)
        loaded = switch.model_copy(update={"questions": ()})
        self._record = self._record.model_copy(update={"boot_id": boot_id(), "changes": (*others, loaded)})
        self._journal.write(self._record)
        async with open_routing() as routing:
            await _apply(routing, loaded)
        return True

    async def undo(self, changes: Sequence[Change]) -> list[str]:
        """Undo changes, newest first; returns what could not be undone, in words. Those stay in the journal."""
        problems: list[str] = []
        undone: list[Change] = []
        async with open_routing() as routing:
            for change in reversed(changes):
                try:
                    left = await _undo(routing, change)
                    problems += [left] if left else []
                    undone.append(change)
                except HostError as error:
                    problems.append(str(error))
        if undone:
            self._record = without(self._record, undone)
            self._journal.write(self._record)
        return problems

    async def restore(self, *, kill_switch: bool) -> list[str]:
        """Undo everything; the kill switch last, and only if `kill_switch`. Returns what could not be undone, in words."""
        changes = sorted(self._left(), key=lambda change: not isinstance(change, KillSwitchChange))
        if not kill_switch:
            changes = [change for change in changes if not isinstance(change, KillSwitchChange)]
        problems = await self.undo(changes)
        if not self._record.changes:
            self._journal.clear()
        return problems

    def forget(self, changes: Sequence[Change]) -> None:
        """Changes that the kernel has undone by itself. JournalError."""
        self._record = without(self._record, changes)
        self._journal.write(self._record)

    def _left(self) -> tuple[Change, ...]:
        """After a restart of the kernel only files are left."""
        if self._record.boot_id == boot_id():
            return self._record.changes
        files = tuple(change for change in self._record.changes if isinstance(change, ResolvConfFileChange))
        self.forget([change for change in self._record.changes if change not in files])
        return files


async def _apply(routing: Routing, change: Change) -> None:
    match change:
        case LinkChange():  # made by the one who opens the TUN device
            return
        case AddressChange():
            await routing.apply_address(change)
        case RouteChange():
            await routing.apply_route(change)
        case RuleChange():
            await routing.apply_rule(change)
        case ResolvedChange() | ResolvconfChange() | ResolvConfFileChange():
            await apply_dns(change)
        case KillSwitchChange():
            await command.run("nft", "-f", "-", stdin=kill_switch.build_table(change))


async def _undo(routing: Routing, change: Change) -> str:
    match change:
        case LinkChange():
            await routing.undo_link(change)
        case AddressChange():
            await routing.undo_address(change)
        case RouteChange():
            await routing.undo_route(change)
        case RuleChange():
            await routing.undo_rule(change)
        case ResolvedChange() | ResolvconfChange() | ResolvConfFileChange():
            return await undo_dns(change)
        case KillSwitchChange():
            await command.run("nft", "-f", "-", stdin=kill_switch.REMOVE)
    return ""
