"""HTTP/1.1 with deadlines: uvicorn's own protocol waits forever for the rest of a request, and takes any number of clients.

A block of headers has HEADER_SECONDS from its first byte (the first one from the connection's start), a body BODY_SECONDS from
the end of the headers. Whoever is late, and whoever comes when MAX_CONNECTIONS are open, gets a problem and is closed.
"""

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from warren_api.errors import RequestTimeoutError, TooManyConnectionsError
from warren_contracts.problems import CONTENT_TYPE, WarrenError

HEADER_SECONDS = 10.0
BODY_SECONDS = 60.0  # 900,000 bytes in it are 15 kB/s
# listeners, and clients with kept connections; below the usual limit of open files with its margin
MAX_CONNECTIONS = 1_024
_PHRASES = {408: "Request Timeout", 503: "Service Unavailable"}


class DeadlineProtocol(H11Protocol):
    """uvicorn's h11 protocol, with deadlines and a limit of connections."""

    header_seconds = HEADER_SECONDS
    body_seconds = BODY_SECONDS
    max_connections = MAX_CONNECTIONS
    _late: asyncio.TimerHandle | None = None
    _reading_body = False

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            self._refuse(TooManyConnectionsError())
        else:
            self._expect(self.header_seconds)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self._late is None and self.conn.their_state is h11.IDLE:
            self._expect(self.header_seconds)
        super().data_received(data)
        state = self.conn.their_state
        if state is h11.SEND_BODY and not self._reading_body:
            self._reading_body = True
            self._expect(self.body_seconds)
        elif state not in (h11.IDLE, h11.SEND_BODY):
            self._settled()

    def on_response_complete(self) -> None:
        self._settled()
        super().on_response_complete()
        if self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]:
            self._expect(self.header_seconds)  # the next request has begun already

    def connection_lost(self, exc: Exception | None) -> None:
        self._settled()
        super().connection_lost(exc)

    def _expect(self, seconds: float) -> None:
        self._settled(keep_body=True)
        self._late = self.loop.call_later(seconds, self._refuse, RequestTimeoutError())

    def _settled(self, *, keep_body: bool = False) -> None:
        self._reading_body = self._reading_body and keep_body
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _refuse(self, error: WarrenError) -> None:
        """Say why, where nothing has been said yet, and close."""
        self._late = None
        if self.transport.is_closing():
            return
        if self.conn.our_state is h11.IDLE or self.conn.our_state is h11.SEND_RESPONSE:
            body = error.problem().model_dump_json().encode()
            head = (
                f"HTTP/1.1 {error.status} {_PHRASES[error.status]}\r\ncontent-type: {CONTENT_TYPE}\r\n"
                f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + body)
        self.transport.close()
