"""Prometheus's text, and the port that serves it."""

import asyncio
from datetime import UTC, datetime

import pytest

from warren_vpn.server.control import PoolStatus, ServerStatus, SessionStatus
from warren_vpn.server.errors import ServerError
from warren_vpn.server.metrics import MetricsServer, build_text

NOW = datetime(2026, 11, 29, tzinfo=UTC)
SESSION = SessionStatus(
    id=1, user="alice", login="raw-key", addresses=("10.66.0.2",), endpoint="198.51.100.7[4500]", behind_nat=False, since=NOW,
    bytes_in=100, bytes_out=7, packets_in=1, packets_out=1, idle_s=0.1, ike="aes256gcm16", esp="aes256gcm16", rekeys=0,
)  # fmt: skip
STATUS = ServerStatus(
    identity="vpn", process_id=1, data_process_id=2, data_process_starts=1, since=NOW, connected=1, logins=3, half_open=0,
    sessions=(SESSION,), pools=(PoolStatus(network="10.66.0.0/24", size=253, used=1),), refusals={"authentication": 2},
    packets_dropped={"replay": 5}, datagrams_ignored={},
)  # fmt: skip


def test_the_text_has_totals_and_no_user() -> None:
    text = build_text(STATUS)
    for line in (
        "warren_vpn_sessions 1", 'warren_vpn_session_bytes{direction="in"} 100', "warren_vpn_logins_total 3",
        'warren_vpn_refusals_total{kind="authentication"} 2', 'warren_vpn_packets_dropped_total{reason="replay"} 5',
        'warren_vpn_pool_used{pool="10.66.0.0/24"} 1',
    ):  # fmt: skip
        assert line in text.splitlines()
    assert "alice" not in text


async def ask(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    try:
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def test_only_get_of_metrics_is_answered() -> None:
    server = MetricsServer(0, lambda: STATUS)
    await server.start()
    assert server._server is not None
    port = server._server.sockets[0].getsockname()[1]
    assert (await ask(port, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")).startswith(b"HTTP/1.1 200 OK")
    assert (await ask(port, b"GET / HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 404")
    assert (await ask(port, b"POST /metrics HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 405")
    assert await ask(port, b"x" * 20_000 + b"\r\n\r\n") == b""
    with pytest.raises(ServerError, match="metrics_port"):
        await MetricsServer(port, lambda: STATUS).start()
    server.close()
