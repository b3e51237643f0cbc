"""Whether the way to the bus works while its server does not answer."""

import socket
from typing import Any, cast

import pytest
from nats.errors import TimeoutError as NatsTimeoutError

from warren_agent.adapters.bus import ConnectionLink
from warren_bus.connection import Connection
from warren_contracts.guard import Bypass


class Client:
    def __init__(self, error: Exception | None) -> None:
        self._error = error

    async def flush(self, timeout: float) -> None:
        if self._error is not None:
            raise self._error


class FakeConnection:
    is_connected = False

    def __init__(self, error: Exception | None) -> None:
        self.client = Client(error)


def link(error: Exception | None, *ports: int, taken: bool = False) -> ConnectionLink:
    async def servers() -> tuple[Bypass, ...]:
        return tuple(Bypass(address="127.0.0.1", port=port) for port in ports)

    return ConnectionLink(cast(Connection, FakeConnection(error)), servers, lambda address: taken)


@pytest.fixture
def silent() -> Any:
    """A port that accepts connections and never answers, and one where nobody listens."""
    with socket.socket() as listening, socket.socket() as bound:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        bound.bind(("127.0.0.1", 0))
        yield listening.getsockname()[1], bound.getsockname()[1]


async def test_way_works_if_a_server_answers_or_its_host_refuses_and_not_if_there_is_silence(silent: Any) -> None:
    accepting, refusing = silent
    assert await link(None).answers()
    for error in (NatsTimeoutError(), OSError("closed"), TimeoutError()):
        assert await link(error, accepting, refusing).answers()
        assert not await link(error, accepting, refusing, taken=True).answers()  # it may be the tunnel's other end
        assert not await link(error, accepting).answers()
        assert not await link(error).answers()
