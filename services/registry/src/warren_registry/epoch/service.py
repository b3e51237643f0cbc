"""Advance the epoch, by order of an operator after a restore from a backup; signed by the root, whose key this process holds."""

from datetime import datetime

from warren_contracts.commands import AdvanceEpoch, EpochReply
from warren_contracts.events import EpochAdvanced
from warren_contracts.problems import InvalidField, InvalidInputError
from warren_registry.epoch.trust import Trust
from warren_registry.outbox import add_event
from warren_registry.ports import Tables

FIRST = 1  # the first epoch of every fleet


async def advance(tables: Tables, trust: Trust, command: AdvanceEpoch, published: int, now: datetime) -> EpochReply:
    """Advance to the epoch of the command, or to the next after all known ones; `published` is the highest on the streams.

    Raises InvalidInputError unless the command's epoch is higher than all known ones.
    """
    await tables.fleet.next_revision()  # one writer at a time
    before = max((await tables.fleet.state()).epoch, published)
    epoch = command.to if command.to is not None else before + 1
    if epoch <= before:
        message = f"must be higher than epoch {before}, which was published already; omit it for the next one"
        raise InvalidInputError(f"to: {message}", (InvalidField(field="to", message=message),))
    await tables.fleet.set_epoch(epoch)
    await trust.document(tables)
    event = EpochAdvanced(epoch=epoch, before=before, actor=command.actor, at=now)
    await add_event(tables, "epoch", str(epoch), event, now)
    return EpochReply(epoch=epoch, before=before, at=now)
