"""Follow the published policies: every reader's signed set, live and by snapshot.

The subjects of the stream are listed by its owner's information and each is read by Direct Get, so a snapshot needs
neither a consumer nor the policy service. Live messages are checked for gaps by the sequences that the stream adds; a
gap, a reconnect, or a newer last sequence of the stream leads to a new snapshot.
"""

import asyncio
from collections.abc import Callable

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.errors import NotFoundError
from pydantic import ValidationError

from warren_bus.connection import Connection
from warren_contracts import subjects
from warren_contracts.base import read
from warren_contracts.documents import SignerRole, signing_input
from warren_contracts.names import PublicKey
from warren_contracts.policy import PolicySet
from warren_contracts.subjects import POLICY_STREAM
from warren_service.policy_view import PolicyView
from warren_service.streams import wait_for
from warren_trust.errors import (
    DocumentRefusedError,
    InvalidSignatureError,
    MalformedDocumentError,
    WrongSignerError,
    WrongSubjectError,
)
from warren_trust.keys import raw_public_key, verify
from warren_trust.signing import parse_signed

AT_ONCE = 32  # Direct Gets under way
PREFIX = f"{subjects.VERSION}.policy."

log = structlog.get_logger(__name__)


class PolicyFollower:
    """Keeps a PolicyView up to date; calls `changed` after every change of it, and when something was missed."""

    def __init__(self, connection: Connection, policy_key: PublicKey, changed: Callable[[], None]) -> None:
        self._connection = connection
        self._key = raw_public_key(policy_key)
        self._changed = changed
        self._subscribed: Client | None = None
        self._newest = 0  # the stream's sequence up to which everything was received
        self.view = PolicyView()
        self.complete = False  # whether a snapshot was ever read
        self.missed = True  # whether another snapshot is due

    async def follow(self) -> None:
        """Subscribe after every connect; `check` then reads the snapshot (in this order, so that nothing is missed).

        The stream may be another one now, so its sequences start again.
        """
        client = self._connection.client
        self.missed, self._newest = True, 0
        if client is not self._subscribed:
            await client.subscribe(f"{subjects.LIVE}{PREFIX}>", cb=self._live)
            self._subscribed = client

    async def check(self) -> None:
        """Read a snapshot if something was or may have been missed. Raises what nats-py raises."""
        if self.missed or await self._last_sequence() > self._newest:
            await self.snapshot()

    async def snapshot(self) -> None:
        """Read the newest set of every reader. Raises what nats-py raises while the bus or JetStream is unavailable."""
        self.missed = False  # what is missed from now on requires another one
        js = self._connection.client.jetstream()
        await wait_for(js, POLICY_STREAM)
        try:
            info = await js.stream_info(POLICY_STREAM, subjects_filter=f"{PREFIX}>")
            limit = asyncio.Semaphore(AT_ONCE)
            async with asyncio.TaskGroup() as group:
                for subject in info.state.subjects or {}:
                    group.create_task(self._read(subject, limit))
        except BaseException:
            self.missed = True
            raise
        self._newest = max(self._newest, int(info.state.last_seq))
        self.complete = True
        log.info("policies.snapshot", readers=len(self.view.readers), sequence=self._newest)
        self._changed()

    async def _read(self, subject: str, limit: asyncio.Semaphore) -> None:
        async with limit:
            try:
                message = await self._connection.client.jetstream().get_last_msg(POLICY_STREAM, subject, direct=True)
            except NotFoundError:
                return
        self._accept(subject, message.headers, message.data or b"")

    async def _last_sequence(self) -> int:
        info = await self._connection.client.jetstream().stream_info(POLICY_STREAM)
        return int(info.state.last_seq)

    async def _live(self, message: Msg) -> None:
        headers = message.headers or {}
        subject = message.subject.removeprefix(subjects.LIVE)
        if headers.get("Nats-Subject") != subject or headers.get("Nats-Stream") != POLICY_STREAM:
            log.warning("policies.not_republished", subject=subject)
            return
        sequence = int(headers.get("Nats-Sequence", 0))
        if sequence > self._newest + 1:
            self.missed = True
            log.info("policies.gap", expected=self._newest + 1, sequence=sequence)
        self._newest = max(self._newest, sequence)
        if self._accept(subject, headers, message.data) or self.missed:
            self._changed()

    def _accept(self, subject: str, headers: dict[str, str] | None, payload: bytes) -> bool:
        try:
            return self.view.accept(self._verified(subject, headers, payload))
        except DocumentRefusedError as error:
            log.warning("policies.refused", subject=subject, code=error.code)
            return False

    def _verified(self, subject: str, headers: dict[str, str] | None, payload: bytes) -> PolicySet:
        message = parse_signed(subject, headers, payload)
        if message.signer is not SignerRole.POLICY:
            raise WrongSignerError
        try:
            verify(self._key, signing_input(subject, message.epoch, message.revision, payload), message.signature)
            found = read(PolicySet, payload)
        except InvalidSignatureError:
            raise InvalidSignatureError(f"the signature of {subject} does not verify") from None
        except ValidationError:
            raise MalformedDocumentError from None
        if subjects.policy(found.reader) != subject or (found.epoch, found.revision) != message.version:
            raise WrongSubjectError
        return found
