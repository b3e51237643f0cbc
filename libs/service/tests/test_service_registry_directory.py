"""The directory as a service stores it: read once, then changed by what the registry lists as changed."""

import pytest

from warren_contracts.commands import FleetDirectory, ReadDirectory
from warren_contracts.peers import PeerRecord
from warren_contracts.problems import UnavailableError
from warren_service.registry_directory import PAGE, RegistryDirectory


def records(revision: int, *names: str) -> tuple[PeerRecord, ...]:
    return tuple(PeerRecord(peer=name, epoch=1, revision=revision, identity=name) for name in names)


class Scripted(RegistryDirectory[int]):
    """With a registry that gives these replies, one after another."""

    def __init__(self, *replies: FleetDirectory) -> None:
        super().__init__(lambda: None, lambda record: record.revision)  # type: ignore[arg-type, return-value]  # no bus
        self.replies = list(replies)
        self.asked: list[tuple[str, int, int]] = []

    async def _page(self, request: ReadDirectory) -> FleetDirectory:
        assert request.limit == PAGE
        self.asked.append((request.after, request.epoch, request.since))
        if not self.replies:
            raise UnavailableError("the registry is unavailable")
        return self.replies.pop(0)

    async def revisions(self) -> dict[str, int]:
        return dict((await self.read()).peers)


def page(epoch: int, revision: int, *peers: PeerRecord, **fields: object) -> FleetDirectory:
    return FleetDirectory.model_validate(
        {"epoch": epoch, "revision": revision, "peers": peers, "tags": ("branch",), **fields}
    )


async def test_what_has_not_changed_is_not_read_again() -> None:
    directory = Scripted(
        page(1, 5, *records(3, "a"), next_after="a"), page(1, 6, *records(6, "b")), page(1, 6, *records(6, "b"), since=5),
        page(1, 9, since=6), page(1, 9, since=9),
    )  # fmt: skip
    assert await directory.revisions() == {"a": 3, "b": 6}
    assert await directory.revisions() == {"a": 3, "b": 6}
    before = await directory.read()
    assert before.tags == {"branch"}
    assert (await directory.read()).peers is before.peers
    assert directory.asked == [("", 0, 0), ("a", 0, 0), ("", 1, 5), ("", 1, 6), ("", 1, 9)]  # as old as its first page


async def test_changes_replace_and_remove_records_and_leave_what_was_read_before() -> None:
    directory = Scripted(
        page(1, 5, *records(3, "a", "b", "c")), page(1, 6, *records(6, "a"), since=5, more=True),
        page(1, 8, *records(8, "d"), since=6, removed=("b",)),
    )  # fmt: skip
    before = await directory.read()
    assert await directory.revisions() == {"a": 6, "c": 3, "d": 8}
    assert set(before.peers) == {"a", "b", "c"}


async def test_another_epoch_is_read_as_a_whole() -> None:
    directory = Scripted(
        page(1, 5, *records(3, "a", "b")), page(1, 6, *records(6, "a"), since=5, more=True), page(2, 7, *records(7, "c")),
        page(2, 7, since=7),
    )  # fmt: skip
    await directory.read()
    assert await directory.revisions() == {"c": 7}
    assert await directory.revisions() == {"c": 7}
    assert directory.asked[-1] == ("", 2, 7)


async def test_after_a_failure_the_next_call_begins_where_the_last_one_succeeded() -> None:
    directory = Scripted(page(1, 5, *records(3, "a")), page(1, 6, *records(6, "b"), since=5, more=True))
    await directory.read()
    with pytest.raises(UnavailableError):  # between two pages
        await directory.read()
    directory.replies = [page(1, 7, *records(6, "b"), since=5)]
    assert await directory.revisions() == {"a": 3, "b": 6}
    assert directory.asked[-1] == ("", 1, 5)
