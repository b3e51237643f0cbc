"""The tags of all peers, as the registry's directory lists them."""

from collections.abc import Mapping

import pytest

from warren_contracts.commands import FleetDirectory
from warren_contracts.peers import PeerRecord
from warren_contracts.problems import ForbiddenError, UnavailableError, WarrenError
from warren_metrics import membership
from warren_metrics.membership import Membership


class Registry:
    """A client of the bus behind which a registry replies, or refuses."""

    def __init__(self) -> None:
        self.reply: FleetDirectory | WarrenError = UnavailableError("the registry service is unavailable")
        self.seen: list[Mapping[str, tuple[str, ...]]] = []

    async def call(self, *_: object) -> FleetDirectory:
        if isinstance(self.reply, WarrenError):
            raise self.reply
        return self.reply


def directory(revision: int, *records: PeerRecord, since: int = 0) -> FleetDirectory:
    return FleetDirectory(epoch=1, revision=revision, peers=records, tags=(), since=since)


def record(peer: str, *tags: str) -> PeerRecord:
    return PeerRecord(peer=peer, epoch=1, revision=3, identity=peer, tags=tags)


async def test_each_change_is_reported_once_and_a_failure_leaves_the_last_directory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registry = Registry()
    monkeypatch.setattr("warren_service.registry_directory.rpc.call", registry.call)
    monkeypatch.setattr(membership, "GATHER", 0)
    members = Membership(lambda: None, registry.seen.append)  # type: ignore[arg-type, return-value]  # no bus
    with pytest.raises(UnavailableError):
        await members.step()
    assert members.remark("") == ""
    assert members.remark("unavailable") == (
        "rollouts count gateways by reported tunnels: the registry's directory was not read (unavailable)"
    )
    registry.reply = directory(3, record("gw1", "branch"))
    await members.step()
    registry.reply = directory(4, since=3)
    await members.step()
    assert registry.seen == [{"gw1": ("branch",)}]
    registry.reply = ForbiddenError("the service metrics may not call registry.directory")
    with pytest.raises(UnavailableError, match="may not call"):  # the worker repeats it
        await members.step()
    assert members.remark("unavailable").startswith("rollouts count gateways by the last directory: ")
    registry.reply = directory(5, record("gw2", "hub"), since=4)
    await members.step()
    assert registry.seen[1:] == [{"gw1": ("branch",), "gw2": ("hub",)}]


async def test_an_empty_directory_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = Registry()
    registry.reply = directory(1)
    monkeypatch.setattr("warren_service.registry_directory.rpc.call", registry.call)
    monkeypatch.setattr(membership, "GATHER", 0)
    await Membership(lambda: None, registry.seen.append).step()  # type: ignore[arg-type, return-value]  # no bus
    assert registry.seen == [{}]
