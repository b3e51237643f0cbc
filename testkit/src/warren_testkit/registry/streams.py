"""Fakes: the published policies, and the stream of the directory."""

from warren_bus.errors import NotConnectedError, NotStoredError
from warren_contracts import subjects
from warren_contracts.documents import ReaderDigest
from warren_registry.directory.model import RecordKey
from warren_registry.ports import PendingRecord
from warren_service.policy_view import PolicyView
from warren_trust.signing import Version


class FakePolicies:
    """The published policies, as a test sets them (`directory_reconciler.PolicySource`)."""

    def __init__(self) -> None:
        self.view = PolicyView()
        self.complete = True


class FakeStream:
    """The stream DIRECTORY in memory. Set `unavailable` to make it unavailable, refuse some subjects, or re-create it by `lose`."""

    def __init__(self) -> None:
        self.unavailable = False
        self.refused: set[RecordKey] = set()
        self.records: dict[RecordKey, tuple[Version, int]] = {}  # place -> (version, sequence)
        self.published: list[PendingRecord] = []
        self.digests: list[ReaderDigest] = []
        self.incarnation = "first"
        self.last_sequence = 0
        self.declared = 0

    def lose(self) -> None:
        """As when its server has lost its storage."""
        self.records.clear()
        self.incarnation += " again"
        self.last_sequence = 0

    async def wait_declared(self) -> None:
        self._require_available()
        self.declared += 1

    async def state(self) -> "FakeStream":
        self._require_available()
        return self

    async def held(self) -> dict[str, Version]:
        self._require_available()
        versions = {subjects.directory(*place): version for place, (version, _) in self.records.items()}
        return versions | {subjects.digest(item.reader): (item.epoch, item.revision) for item in self.digests}

    async def publish(self, record: PendingRecord) -> int:
        self._require_available()
        if record.place in self.refused:
            raise NotStoredError(f"{record.place} is refused")
        held = self.records.get(record.place)
        version = (record.epoch, record.revision)
        if held is None or held[0] < version:
            self.last_sequence += 1
            self.published.append(record)
            held = self.records[record.place] = (version, self.last_sequence)
        return held[1]

    async def publish_digest(self, digest: ReaderDigest) -> None:
        self._require_available()
        self.digests.append(digest)

    def _require_available(self) -> None:
        if self.unavailable:
            raise NotConnectedError
