"""The stream DIRECTORY: signed records, guarded by the last sequence of their subjects, and digests."""

from datetime import UTC, datetime
from typing import NamedTuple
from uuid import NAMESPACE_URL, uuid5

from warren_bus.connection import Connection
from warren_bus.publisher import ACK_TIMEOUT
from warren_bus.tracing import outgoing
from warren_contracts import subjects
from warren_contracts.cloudevents import DIGEST_PUBLISHED, DIRECTORY_PUBLISHED, EventAttributes, build_headers
from warren_contracts.documents import HEADER_EPOCH, HEADER_REVISION, HEADER_SIGNATURE, HEADER_SIGNER, ReaderDigest
from warren_registry.outbox import SOURCE
from warren_registry.ports import PendingRecord
from warren_service.guarded_publisher import GuardedMessage, GuardedPublisher
from warren_service.streams import DIRECTORY, SECRET, wait_for
from warren_trust.signing import Signer, Version


class StreamState(NamedTuple):
    """The incarnation of the stream, and its last sequence."""

    incarnation: str
    last_sequence: int


class DirectoryStream:
    """`workers.relay.RecordStream` on JetStream."""

    def __init__(self, connection: Connection, signer: Signer) -> None:
        self._connection = connection
        self._signer = signer
        self._documents = GuardedPublisher(lambda: connection.client, DIRECTORY.name)

    async def wait_declared(self) -> None:
        """Wait until the streams that the registry publishes to exist."""
        js = self._connection.client.jetstream()
        for spec in (DIRECTORY, SECRET):
            await wait_for(js, spec.name)

    async def state(self) -> StreamState:
        info = await self._connection.client.jetstream().stream_info(DIRECTORY.name)
        return StreamState(str(info.created), int(info.state.last_seq))

    async def held(self) -> dict[str, Version]:
        """The (epoch, revision) that each subject of the stream holds, of records and of digests. Raises NotStoredError."""
        return await self._documents.versions(">")

    async def publish(self, record: PendingRecord) -> int:
        """Store a record and return its sequence; also when it turns out to be stored already. Raises NotStoredError."""
        subject = subjects.directory(*record.place)
        headers = _cloud_headers(DIRECTORY_PUBLISHED, f"{subject} {record.epoch} {record.revision}") | {
            HEADER_SIGNATURE: record.signature,
            HEADER_SIGNER: self._signer.role.value,
            HEADER_EPOCH: str(record.epoch),
            HEADER_REVISION: str(record.revision),
        }
        version = (record.epoch, record.revision)
        message = GuardedMessage(subject, version, record.payload.encode(), headers, record.sequence)
        return (await self._documents.publish([message]))[subject]

    async def publish_digest(self, digest: ReaderDigest) -> None:
        subject = subjects.digest(digest.reader)
        payload = digest.model_dump_json().encode()
        name = f"{subject} {digest.epoch} {digest.revision}"
        headers = _cloud_headers(DIGEST_PUBLISHED, name) | self._signer.headers(
            subject, digest.epoch, digest.revision, payload
        )
        js = self._connection.client.jetstream()
        await js.publish(subject, payload, timeout=ACK_TIMEOUT, headers=headers)


def _cloud_headers(kind: str, name: str) -> dict[str, str]:
    # The id is made of the subject and the version: a repeated publish of the same document is the same event.
    event_id = str(uuid5(NAMESPACE_URL, name))
    return build_headers(EventAttributes(kind, SOURCE, event_id, datetime.now(UTC)), outgoing())
