"""The bus on NATS: RPC on one supervised connection, events by pull consumers on EVENT."""

from collections.abc import AsyncGenerator, Collection

from pydantic import BaseModel

from warren_api.adapters.callout_probe import callout_answers
from warren_api.adapters.event_reader import EventReader
from warren_api.errors import BusUnavailableError, unanswered
from warren_api.ports import ReplyT, StoredEvent
from warren_bus.connection import Connection
from warren_bus.errors import NotConnectedError
from warren_bus.rpc import CALL_TIMEOUT, NoReplyError, call, server_answers
from warren_bus.settings import BusSettings
from warren_contracts import subjects


class NatsBus:
    """`ports.Bus` on a supervised connection."""

    def __init__(self, connection: Connection, settings: BusSettings) -> None:
        self._connection = connection
        self._settings = settings
        self._reader = EventReader(connection)

    @property
    def is_connected(self) -> bool:
        return self._connection.is_connected

    async def answers(self) -> bool:
        try:
            return await server_answers(self._connection.client)
        except NotConnectedError:
            return False

    async def callout_answers(self) -> bool:
        return self.is_connected and await callout_answers(self._settings)

    async def call(
        self, service: str, verb: str, request: BaseModel, reply: type[ReplyT], timeout: float = CALL_TIMEOUT
    ) -> ReplyT:
        try:
            client = self._connection.client
        except NotConnectedError:
            raise BusUnavailableError from None
        try:
            return await call(client, subjects.rpc(service, verb), request, reply, timeout)
        except NoReplyError as error:
            raise unanswered(service, verb, error.detail) from None

    def events(self, after: int | None, kinds: Collection[str]) -> AsyncGenerator[StoredEvent | None, None]:
        return self._reader.follow(after, kinds)
