"""The stream DIRECTORY: signed records and digests.

Each record is guarded by the last sequence of its subject, so a record is never stored over one that its writer did not
know. When the guard, or an acknowledgement, fails, what is stored is read and compared by (epoch, revision): equal means
done, older means once more behind it (bus.md, b6).
"""

import asyncio
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import NAMESPACE_URL, uuid5

from nats.errors import Error as NatsError
from nats.js.api import RawStreamMsg
from nats.js.errors import APIError, NotFoundError

from warren_bus.connection import Connection
from warren_bus.errors import NotStoredError
from warren_bus.publisher import ACK_TIMEOUT, HEADER_EXPECTED_SEQUENCE
from warren_bus.tracing import outgoing
from warren_contracts import subjects
from warren_contracts.cloudevents import DIGEST_PUBLISHED, DIRECTORY_PUBLISHED, EventAttributes, build_headers
from warren_contracts.documents import HEADER_EPOCH, HEADER_REVISION, HEADER_SIGNATURE, HEADER_SIGNER, ReaderDigest
from warren_registry.outbox import SOURCE
from warren_registry.ports import PendingRecord
from warren_service.streams import DIRECTORY, SECRET, declare
from warren_trust.signing import Signer, Version

AT_ONCE = 64  # Direct Gets under way
TRIES = 4  # a guard that fails as often has another writer behind it

_CONFLICTS = frozenset({10071, 10164, 10201})  # wrong last sequence of the subject, or an id that is known


class StoredNewerError(NotStoredError):
    """The stream holds a newer record than the database: a restore from backup must announce a new epoch."""


class StreamState(NamedTuple):
    """Which incarnation of the stream this is, and how far it has come."""

    incarnation: str
    last_sequence: int


class Stored(NamedTuple):
    """What a subject holds."""

    version: Version
    sequence: int


class DirectoryStream:
    """`workers.relay.RecordStream` on JetStream."""

    def __init__(self, connection: Connection, signer: Signer, replicas: int = 1) -> None:
        self._connection = connection
        self._signer = signer
        self._replicas = replicas

    async def declare(self) -> None:
        """Declare the registry's streams; nothing changes when they are as they should be."""
        js = self._connection.client.jetstream()
        await declare(js, DIRECTORY, self._replicas)
        await declare(js, SECRET, self._replicas)

    async def state(self) -> StreamState:
        info = await self._connection.client.jetstream().stream_info(DIRECTORY.name)
        return StreamState(str(info.created), int(info.state.last_seq))

    async def held(self) -> dict[str, Version]:
        """The (epoch, revision) that each subject of the stream holds, of records and of digests. Raises NotStoredError."""
        js = self._connection.client.jetstream()
        info = await js.stream_info(DIRECTORY.name, subjects_filter=">")
        found = list(info.state.subjects or {})
        limit = asyncio.Semaphore(AT_ONCE)

        async def one(subject: str) -> Version:
            async with limit:
                stored = await self._stored(subject)
            return stored.version if stored is not None else (0, 0)

        return dict(zip(found, await asyncio.gather(*map(one, found)), strict=True))

    async def publish(self, record: PendingRecord) -> int:
        """Store a record and return its sequence; also when it turns out to be stored already. Raises NotStoredError."""
        subject = subjects.directory(*record.place)
        version = (record.epoch, record.revision)
        expected = record.sequence
        for _ in range(TRIES):
            sequence = await self._try(subject, record, expected)
            if sequence is not None:
                return sequence
            stored = await self._stored(subject)
            if stored is None:
                expected = 0
            elif stored.version == version:
                return stored.sequence
            elif stored.version > version:
                raise StoredNewerError(f"{subject} holds {stored.version}, the database {version}")
            else:
                expected = stored.sequence
        raise NotStoredError(f"{subject}: its last sequence moved on {TRIES} times")

    async def publish_digest(self, digest: ReaderDigest) -> None:
        subject = subjects.digest(digest.reader)
        payload = digest.model_dump_json().encode()
        name = f"{subject} {digest.epoch} {digest.revision}"
        headers = _cloud_headers(DIGEST_PUBLISHED, name) | self._signer.headers(
            subject, digest.epoch, digest.revision, payload
        )
        js = self._connection.client.jetstream()
        await js.publish(subject, payload, timeout=ACK_TIMEOUT, headers=headers)

    async def _try(self, subject: str, record: PendingRecord, expected: int) -> int | None:
        """The sequence, or None when what is stored must be compared."""
        headers = _cloud_headers(DIRECTORY_PUBLISHED, f"{subject} {record.epoch} {record.revision}") | {
            HEADER_SIGNATURE: record.signature,
            HEADER_SIGNER: self._signer.role.value,
            HEADER_EPOCH: str(record.epoch),
            HEADER_REVISION: str(record.revision),
            HEADER_EXPECTED_SEQUENCE: str(expected),
        }
        js = self._connection.client.jetstream()
        try:
            ack = await js.publish(subject, record.payload.encode(), timeout=ACK_TIMEOUT, headers=headers)
        except APIError as error:
            if error.err_code in _CONFLICTS:
                return None
            raise NotStoredError(f"{subject}: {error.description} ({error.err_code})") from None
        except TimeoutError:
            return None
        except NatsError as error:
            raise NotStoredError(f"{subject}: {error}") from None
        return None if ack.duplicate else int(ack.seq)

    async def _stored(self, subject: str) -> Stored | None:
        js = self._connection.client.jetstream()
        try:
            message = await js.get_last_msg(DIRECTORY.name, subject, direct=True)
        except NotFoundError:
            return None
        return Stored(_version(message), int(message.seq or 0))


def _cloud_headers(kind: str, name: str) -> dict[str, str]:
    # The id is made of the subject and the version: a repeated publish of the same document is the same event.
    event_id = str(uuid5(NAMESPACE_URL, name))
    return build_headers(EventAttributes(kind, SOURCE, event_id, datetime.now(UTC)), outgoing())


def _version(message: RawStreamMsg) -> Version:
    headers = message.headers or {}
    try:
        return int(headers[HEADER_EPOCH]), int(headers[HEADER_REVISION])
    except (KeyError, ValueError):
        return 0, 0  # nothing of ours: it is replaced
