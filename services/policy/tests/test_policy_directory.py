"""The directory as the policy service holds it: read once, then changed by what the registry says has changed."""

from warren_contracts.commands import FleetDirectory, ReadDirectory
from warren_contracts.peers import PeerRecord
from warren_policy.adapters.registry import PAGE, RegistryDirectory


def records(revision: int, *names: str) -> tuple[PeerRecord, ...]:
    return tuple(PeerRecord(peer=name, epoch=1, revision=revision, identity=name) for name in names)


class Scripted(RegistryDirectory):
    """With a registry that gives these replies, one after another."""

    def __init__(self, *replies: FleetDirectory) -> None:
        super().__init__(lambda: None)  # type: ignore[arg-type, return-value]  # no bus
        self.replies = list(replies)
        self.asked: list[tuple[str, int, int]] = []

    async def _page(self, request: ReadDirectory) -> FleetDirectory:
        assert request.limit == PAGE
        self.asked.append((request.after, request.epoch, request.since))
        return self.replies.pop(0)

    async def revisions(self) -> dict[str, int]:
        return {name: record.revision for name, record in (await self.fleet()).records.items()}


def page(epoch: int, revision: int, *peers: PeerRecord, **fields: object) -> FleetDirectory:
    return FleetDirectory.model_validate(
        {"epoch": epoch, "revision": revision, "peers": peers, "tags": ("branch",), **fields}
    )


async def test_what_has_not_changed_is_not_read_again() -> None:
    directory = Scripted(
        page(1, 5, *records(3, "a"), next_after="a"), page(1, 6, *records(6, "b")), page(1, 6, *records(6, "b"), since=5),
        page(1, 9, since=6),
    )  # fmt: skip
    assert await directory.revisions() == {"a": 3, "b": 6}
    assert await directory.revisions() == {"a": 3, "b": 6}
    before = await directory.fleet()
    assert before.tags == {"branch"}
    assert directory.asked == [("", 0, 0), ("a", 0, 0), ("", 1, 5), ("", 1, 6)]  # as old as its first page


async def test_changes_replace_and_remove_records_and_leave_what_was_read_before() -> None:
    directory = Scripted(
        page(1, 5, *records(3, "a", "b", "c")), page(1, 6, *records(6, "a"), since=5, more=True),
        page(1, 8, *records(8, "d"), since=6, removed=("b",)),
    )  # fmt: skip
    before = await directory.fleet()
    assert await directory.revisions() == {"a": 6, "c": 3, "d": 8}
    assert set(before.records) == {"a", "b", "c"}


async def test_another_epoch_is_read_as_a_whole() -> None:
    directory = Scripted(
        page(1, 5, *records(3, "a", "b")), page(1, 6, *records(6, "a"), since=5, more=True), page(2, 7, *records(7, "c")),
        page(2, 7, since=7),
    )  # fmt: skip
    await directory.fleet()
    assert await directory.revisions() == {"c": 7}
    assert await directory.revisions() == {"c": 7}
    assert directory.asked[-1] == ("", 2, 7)
