"""Clients that connect to a TLS listener and stay silent, or send something else: they cost few sockets, and delay nobody."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
import uvicorn

from warren_api.app import build_app
from warren_api.bootstrap import ApiServer
from warren_api.protocol import DeadlineProtocol
from warren_contracts.commands import Role
from warren_service import tls_listener
from warren_service.server_certificate import ServerCertificate
from warren_service.tls_listener import MAX_HANDSHAKES, TlsListener
from warren_testkit.api import TOKENS, FakeBus
from warren_testkit.waiting import eventually
from warren_trust.certificates import issue, make_authority

HALF_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
SILENT = {
    "nothing": b"",
    "half a ClientHello": HALF_HELLO,
    "a record of 16 KiB that never ends": b"\x16\x03\x03\x40\x00" + b"\0" * 99,
}


def write_certificate(folder: Path) -> ssl.SSLContext:
    """Files of a new certificate; the context of a client that trusts it."""
    now = datetime.now(UTC)
    authority = make_authority(now)
    issued = issue(authority, "api", ["127.0.0.1"], now)
    (folder / "tls.crt").write_bytes(issued.chain_pem)
    (folder / "tls.key").write_bytes(issued.key_pem)
    return ssl.create_default_context(cadata=authority.pem.decode())


class Api:
    """The API server over HTTPS on a fake bus."""

    def __init__(self, listener: TlsListener, trusting: ssl.SSLContext, bus: FakeBus) -> None:
        self.listener, self.trusting, self.bus = listener, trusting, bus
        self.port = int(listener.sockets[0].getsockname()[1])

    async def ask(self) -> httpx.Response:
        async with httpx.AsyncClient(verify=self.trusting, trust_env=False, timeout=60) as client:
            return await client.get(f"https://127.0.0.1:{self.port}/api/health/live")


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    trusting = write_certificate(tmp_path)
    bus = FakeBus()
    app = build_app(bus, hsts_seconds=60)
    config = uvicorn.Config(app, port=0, lifespan="off", log_config=None, http=DeadlineProtocol)
    certificate = ServerCertificate(tmp_path / "tls.crt", tmp_path / "tls.key", ("http/1.1",))
    server = ApiServer(config, app.state.parts.stopping, certificate)
    serving = asyncio.create_task(server.serve())
    await eventually(lambda: server.started or serving.done())
    listener: object = server.servers[0]
    assert isinstance(listener, TlsListener)
    yield Api(listener, trusting, bus)
    server.stop()
    await serving


@pytest.mark.parametrize("sent", SILENT.values(), ids=SILENT)
async def test_half_open_handshakes_are_few_and_honest_requests_are_answered(
    api: Api, sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls_listener, "HANDSHAKE_SECONDS", 300.0)  # so that none ends by itself
    opened = [await asyncio.open_connection("127.0.0.1", api.port) for _ in range(500)]
    for _, writer in opened:
        writer.write(sent)
    reply = await api.ask()
    assert reply.status_code == 200
    assert reply.headers["strict-transport-security"] == "max-age=60"
    assert 0 < api.listener.handshakes <= MAX_HANDSHAKES
    # the oldest were closed, in the order of their starts
    await eventually(lambda: sum(reader.at_eof() for reader, _ in opened) >= 500 - MAX_HANDSHAKES, what="closed")
    assert opened[0][0].at_eof()
    for _, writer in opened:
        writer.transport.abort()
    await eventually(lambda: api.listener.handshakes == 0, what="no handshake is left")


async def test_a_silent_handshake_ends(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:  # an honest client may be slower than that, too
        patch.setattr(tls_listener, "HANDSHAKE_SECONDS", 0.5)
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
        async with asyncio.timeout(60):
            assert await reader.read() == b""
    writer.close()
    assert (await api.ask()).status_code == 200


@pytest.mark.parametrize(
    "sent", [b"GET / HTTP/1.1\r\n\r\n", b"\0" * 64, b"\x16\x03\x01\x00\x05hello"], ids=["HTTP", "zeros", "a record"]
)
async def test_what_is_no_handshake_is_closed_at_once(api: Api, sent: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    writer.write(sent)
    async with asyncio.timeout(60):
        await reader.read()
    writer.close()
    assert (await api.ask()).status_code == 200


async def test_old_versions_and_other_certificates_are_refused(api: Api) -> None:
    old = ssl.create_default_context()
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    with pytest.deprecated_call():
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    for context in (old, ssl.create_default_context()):
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            await asyncio.open_connection("127.0.0.1", api.port, ssl=context)
    assert (await api.ask()).status_code == 200


async def test_a_new_certificate_is_served_and_an_open_event_stream_stays(api: Api, tmp_path: Path) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port, ssl=api.trusting)
    request = f"GET /api/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKENS[Role.VIEWER]}\r\n\r\n"
    writer.write(request.encode())
    async with asyncio.timeout(60):
        await reader.readuntil(b": connected\n")
    trusting = write_certificate(tmp_path)

    async def renewed() -> bool:
        try:
            _, other = await asyncio.open_connection("127.0.0.1", api.port, ssl=trusting)
        except ssl.SSLError:
            return False
        other.close()
        return True

    await eventually(renewed, what="the new certificate is served", ignoring=(OSError,))
    await api.bus.publish("warren.v1.event.metrics.tunnel.gw1", "warren.tunnel.changed.v1", b"{}")
    async with asyncio.timeout(60):
        await reader.readuntil(b"event: warren.tunnel.changed.v1\n")
    writer.transport.abort()
