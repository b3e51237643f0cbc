"""Fakes: what the callout reads, the published policies, and the stream of the directory."""

from contextlib import AbstractAsyncContextManager

from warren_bus.errors import NotConnectedError, NotStoredError
from warren_contracts import subjects
from warren_contracts.documents import ReaderDigest
from warren_registry.domain.admission import KeyRight
from warren_registry.domain.directory import RecordKey
from warren_registry.domain.policies import PolicyView
from warren_registry.domain.tokens import JoinTokenRow, OperatorRow
from warren_registry.ports import PendingRecord
from warren_registry.testing.database import FakeDatabase, FakeTables
from warren_trust.signing import Version


class FakeAdmission:
    """`deciding.AdmissionRows` over a `FakeDatabase`: what the callout reads, without the callout's PostgreSQL."""

    def __init__(self, database: FakeDatabase) -> None:
        self._database = database
        self.reads = 0

    async def right(self, nkey: str) -> KeyRight:
        async with self._read() as tables:
            if await tables.peers.key_revoked(nkey):
                return KeyRight(nkey, version=(await tables.fleet.state()).revision, revoked=True)
            peer = await tables.peers.by_nkey(nkey)
            return KeyRight(nkey, peer.id, peer.tags, peer.version) if peer is not None else KeyRight(nkey)

    async def join_token(self, identifier: str) -> JoinTokenRow | None:
        async with self._read() as tables:
            return await tables.tokens.join_token(identifier)

    async def operator(self, digest: bytes) -> OperatorRow | None:
        async with self._read() as tables:
            return await tables.tokens.operator(digest)

    async def everybody(self) -> tuple[tuple[KeyRight, ...], tuple[OperatorRow, ...]]:
        async with self._read() as tables:
            peers = await tables.peers.page("", 1_000_000, revoked=True)
            rights = tuple(KeyRight(p.nkey, p.id, p.tags, p.version, p.revoked) for p in peers)
            return rights, tuple(tables.tokens.operators())

    def _read(self) -> AbstractAsyncContextManager[FakeTables]:
        self.reads += 1
        return self._database.transaction()


class FakePolicies:
    """The published policies, as a test states them (`workers.telling.PolicySource`)."""

    def __init__(self) -> None:
        self.view = PolicyView()
        self.complete = True


class FakeStream:
    """The stream DIRECTORY in memory. Let it be `away`, refuse some subjects, or make it anew by `lose`."""

    def __init__(self) -> None:
        self.away = False
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

    async def declare(self) -> None:
        self._here()
        self.declared += 1

    async def state(self) -> "FakeStream":
        self._here()
        return self

    async def held(self) -> dict[str, Version]:
        self._here()
        told = {subjects.directory(*place): version for place, (version, _) in self.records.items()}
        return told | {subjects.digest(item.reader): (item.epoch, item.revision) for item in self.digests}

    async def publish(self, record: PendingRecord) -> int:
        self._here()
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
        self._here()
        self.digests.append(digest)

    def _here(self) -> None:
        if self.away:
            raise NotConnectedError
