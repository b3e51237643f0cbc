"""Prometheus's text (exposition format 0.0.4) of the server on a port of the loopback: `GET /metrics`, and nothing else."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping

from warren_vpn.server.control import ServerStatus
from warren_vpn.server.errors import ServerError

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_HOST = "127.0.0.1"
_REQUEST_SECONDS = 5.0
_MAX_REQUEST = 8192
_MAX_CONNECTIONS = 16


def build_text(status: ServerStatus) -> str:
    """The metrics. No series is of a user or a session: their number has no limit, and `warren vpn status` shows them."""
    traffic = {
        "in": sum(session.bytes_in for session in status.sessions),
        "out": sum(session.bytes_out for session in status.sessions),
    }
    expires = {} if status.certificate_expires is None else {"": int(status.certificate_expires.timestamp())}
    lines = [
        *_metric("warren_vpn_sessions", "gauge", "Clients that are connected.", {"": status.connected}),
        *_metric("warren_vpn_session_bytes", "gauge", "What the connected clients have carried.", traffic, "direction"),
        *_metric("warren_vpn_logins_total", "counter", "Clients that have connected.", {"": status.logins}),
        *_metric("warren_vpn_half_open", "gauge", "Handshakes under way.", {"": status.half_open}),
        *_metric("warren_vpn_refusals_total", "counter", "Logins and requests refused.", status.refusals, "kind"),
        *_metric(
            "warren_vpn_packets_dropped_total",
            "counter",
            "ESP and inner packets dropped.",
            status.packets_dropped,
            "reason",
        ),
        *_metric(
            "warren_vpn_datagrams_ignored_total", "counter", "IKE messages ignored.", status.datagrams_ignored, "reason"
        ),
        *_metric(
            "warren_vpn_data_process_starts_total",
            "counter",
            "Starts of the data process.",
            {"": status.data_process_starts},
        ),
        *_metric(
            "warren_vpn_pool_size",
            "gauge",
            "Addresses of a pool.",
            {it.network: it.size for it in status.pools},
            "pool",
        ),
        *_metric(
            "warren_vpn_certificate_expiry_timestamp_seconds",
            "gauge",
            "When clients begin to refuse the server's certificate.",
            expires,
        ),
        *_metric(
            "warren_vpn_pool_used", "gauge", "Of these, in use.", {it.network: it.used for it in status.pools}, "pool"
        ),
    ]
    return "\n".join(lines) + "\n"


def _metric(name: str, kind: str, text: str, values: Mapping[str, int], label: str = "") -> Iterator[str]:
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"
    for value, count in values.items():
        yield f'{name}{{{label}="{value}"}} {count}' if label else f"{name} {count}"


class MetricsServer:
    """Serves the text. Make it, `start` it, `close` it."""

    def __init__(self, port: int, status: Callable[[], ServerStatus]) -> None:
        self._port, self._status = port, status
        self._server: asyncio.Server | None = None
        self._connections = 0

    async def start(self) -> None:
        """Listen. ServerError: the port is taken."""
        try:
            self._server = await asyncio.start_server(self._serve, _HOST, self._port, limit=_MAX_REQUEST)
        except OSError as error:
            raise ServerError(f"metrics_port: {_HOST} port {self._port}: {error.strerror}") from None

    def close(self) -> None:
        """Stop listening. May be called twice."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._connections >= _MAX_CONNECTIONS:
            writer.close()
            return
        self._connections += 1
        try:
            with contextlib.suppress(TimeoutError, ValueError, ConnectionError, asyncio.IncompleteReadError):
                async with asyncio.timeout(_REQUEST_SECONDS):
                    head = await reader.readuntil(b"\r\n\r\n")
                    writer.write(self._answer(head.split(b"\r\n", 1)[0]))
                    await writer.drain()
        except asyncio.LimitOverrunError:
            pass
        finally:
            self._connections -= 1
            writer.close()

    def _answer(self, line: bytes) -> bytes:
        words = line.split(b" ")
        if len(words) != 3 or words[0] != b"GET":
            return _reply("405 Method Not Allowed", "only GET is allowed\n")
        if words[1].split(b"?")[0] != b"/metrics":
            return _reply("404 Not Found", "only /metrics is here\n")
        return _reply("200 OK", build_text(self._status()))


def _reply(status: str, text: str) -> bytes:
    body = text.encode()
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
