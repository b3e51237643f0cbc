"""HTTP/1.1 with deadlines: uvicorn's own protocol waits forever for the rest of a request, and accepts any number of clients.

A block of headers has HEADER_SECONDS from its first byte (the first one from the connection's start), a body BODY_SECONDS from
the end of the headers. A late client, and one beyond MAX_CONNECTIONS or beyond MAX_OF_ADDRESS of its address, gets a problem, and
its connection is closed.
"""

import asyncio
from ipaddress import ip_address
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from warren_api.errors import RequestTimeoutError, TooManyConnectionsError, TooManyConnectionsOfAddressError
from warren_contracts.addresses import IPNetwork
from warren_contracts.problems import CONTENT_TYPE, WarrenError

HEADER_SECONDS = 10.0
BODY_SECONDS = 60.0  # 900,000 bytes in it are 15 kB/s
# event streams and persistent connections; below the usual limit of open files with a margin
MAX_CONNECTIONS = 1_024
MAX_OF_ADDRESS = 256  # of one client that is not a trusted proxy
_PHRASES = {408: "Request Timeout", 429: "Too Many Requests", 503: "Service Unavailable"}


class DeadlineProtocol(H11Protocol):
    """uvicorn's h11 protocol, with deadlines and a limit of connections."""

    header_seconds = HEADER_SECONDS
    body_seconds = BODY_SECONDS
    max_connections = MAX_CONNECTIONS
    max_of_address = MAX_OF_ADDRESS
    proxies: tuple[IPNetwork, ...] = ()
    _deadline: asyncio.TimerHandle | None = None
    _reading_body = False

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            self._refuse(TooManyConnectionsError())
        elif self._of_this_address() > self.max_of_address:
            self._refuse(TooManyConnectionsOfAddressError())
        else:
            self._set_deadline(self.header_seconds)

    def _of_this_address(self) -> int:
        """Connections of this client's address, this one included; 0 for a trusted proxy, which has many clients."""
        address = self.client[0] if self.client else ""
        if any(ip_address(address) in network for network in self.proxies):
            return 0
        clients = [getattr(other, "client", None) for other in self.connections]
        return sum(1 for client in clients if client and client[0] == address)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self._deadline is None and self.conn.their_state is h11.IDLE:
            self._set_deadline(self.header_seconds)
        super().data_received(data)
        state = self.conn.their_state
        if state is h11.SEND_BODY and not self._reading_body:
            self._reading_body = True
            self._set_deadline(self.body_seconds)
        elif state not in (h11.IDLE, h11.SEND_BODY):
            self._cancel_deadline()

    def on_response_complete(self) -> None:
        self._cancel_deadline()
        super().on_response_complete()
        if self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]:
            self._set_deadline(self.header_seconds)  # the next request has started already

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_deadline()
        super().connection_lost(exc)

    def _set_deadline(self, seconds: float) -> None:
        self._cancel_deadline(keep_body=True)
        self._deadline = self.loop.call_later(seconds, self._refuse, RequestTimeoutError())

    def _cancel_deadline(self, *, keep_body: bool = False) -> None:
        self._reading_body = self._reading_body and keep_body
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _refuse(self, error: WarrenError) -> None:
        """Send the problem, unless a response has started, and close."""
        self._deadline = None
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


def protocol_for(proxies: tuple[IPNetwork, ...]) -> type[DeadlineProtocol]:
    """The protocol of a server behind these proxies."""
    return type("ProxiedProtocol", (DeadlineProtocol,), {"proxies": proxies})
