"""F12: half-sent requests to /metrics cost the metrics service a thread each, for ever."""

import asyncio
import gzip
import ssl
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry, Counter

from warren_bus.errors import InvalidSettingError
from warren_metrics.adapters import exposition
from warren_metrics.adapters.exposition import MAX_CONNECTIONS, exposed
from warren_metrics.settings import MetricsSettings
from warren_service.server_certificate import ServerCertificate
from warren_stack.stack import StackOptions
from warren_testkit.bus import free_port
from warren_testkit.metrics import scraper_of
from warren_testkit.waiting import eventually
from warren_trust.certificates import Authority, issue, make_authority


@pytest.fixture
async def port() -> AsyncIterator[int]:
    registry = CollectorRegistry()
    Counter("warren_test", "A counter.", registry=registry).inc()
    number = free_port()
    async with exposed(scraper_of(registry), "127.0.0.1", number):
        yield number


async def ask(port: int, request: bytes) -> bytes:
    """The whole reply; empty where the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        await writer.drain()
        async with asyncio.timeout(60):
            return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


GET = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"


async def test_a_scrape_is_answered(port: int) -> None:
    reply = await ask(port, GET)
    assert reply.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\nwarren_test_total 1.0\n" in reply


@pytest.mark.parametrize(
    ("accepted", "compressed"),
    [
        ("gzip", True),
        ("br, GZIP;q=0.5", True),
        ("gzip;q=0", False),
        ("gzip; q=0.0, br", False),
        ("identity", False),
        ("", False),
    ],
)
async def test_gzip_is_sent_only_where_it_is_accepted(port: int, accepted: str, compressed: bool) -> None:
    head, body = (await ask(port, GET.removesuffix(b"\r\n") + f"Accept-Encoding: {accepted}\r\n\r\n".encode())).split(
        b"\r\n\r\n", 1
    )
    assert (b"Content-Encoding: gzip" in head) == compressed
    assert f"Content-Length: {len(body)}\r\n".encode() in head
    text = gzip.decompress(body) if compressed else body
    assert b"\nwarren_test_total 1.0\n" in text


@pytest.mark.parametrize("sent", [b"", b"G", b"GET /metrics HTTP/1.1\r\n", b"GET /metrics HTTP/1.1\r\nX: "])
async def test_half_requests_cost_no_thread_and_end(port: int, sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    before = threading.active_count()
    with monkeypatch.context() as patch:  # an honest scrape may be slower than that, too
        patch.setattr(exposition, "REQUEST_TIMEOUT", 0.5)
        opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(200)]
        for _, writer in opened:
            writer.write(sent)
        assert threading.active_count() <= before + 1
        await eventually(
            lambda: all(reader.at_eof() or reader.exception() for reader, _ in opened), what="they are closed"
        )
    for _, writer in opened:
        writer.close()
    assert (await ask(port, GET)).startswith(b"HTTP/1.1 200")


async def test_more_connections_than_scrapers_have_are_closed_at_once(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exposition, "REQUEST_TIMEOUT", 300.0)  # so that none ends by itself
    opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MAX_CONNECTIONS + 10)]
    await eventually(lambda: sum(bool(reader.at_eof() or reader.exception()) for reader, _ in opened) == 10)
    for _, writer in opened:
        writer.close()

    async def answered() -> bool:
        return (await ask(port, GET)).startswith(b"HTTP/1.1 200")

    await eventually(answered)


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1\r\n\r\n", b"POST /metrics HTTP/1.1\r\nContent-Length: 9\r\n\r\n", b"\x16\x03\x01\r\n\r\n",
        b"GET /metrics/../x HTTP/1.1\r\n\r\n", b"GET /metrics HTTP/9\r\n\r\n", b"\r\n\r\n", b"GET  /metrics HTTP/1.1\r\n\r\n",
    ],
)  # fmt: skip
async def test_other_requests_are_not_found(port: int, request_: bytes) -> None:
    assert (await ask(port, request_)).startswith(b"HTTP/1.1 404")


async def test_an_endless_header_is_cut(port: int) -> None:
    assert await ask(port, b"GET /metrics HTTP/1.1\r\nX: " + b"x" * 1_000_000) == b""


async def test_a_token_is_required_where_one_is_set() -> None:
    number = free_port()
    async with exposed(scraper_of(CollectorRegistry()), "127.0.0.1", number, "right"):
        head = GET.removesuffix(b"\r\n")
        for field in (
            b"",
            b"Authorization: Bearer wrong\r\n",
            b"Authorization: Bearer \r\n",
            b"Authorization: Basic right\r\n",
        ):
            assert (await ask(number, head + field + b"\r\n")).startswith(b"HTTP/1.1 401")
        assert (await ask(number, head + b"Authorization: Bearer right\r\n\r\n")).startswith(b"HTTP/1.1 200")


async def test_it_is_served_by_https_with_a_certificate(tmp_path: Path) -> None:
    now, number = datetime.now(UTC), free_port()
    authority = make_authority(now)
    issued = issue(authority, "metrics", ["127.0.0.1"], now)
    files = tmp_path / "tls.crt", tmp_path / "tls.key"
    files[0].write_bytes(issued.chain_pem)
    files[1].write_bytes(issued.key_pem)
    trusting = ssl.create_default_context(cadata=authority.pem.decode())
    async with exposed(scraper_of(CollectorRegistry()), "127.0.0.1", number, certificate=ServerCertificate(*files)):
        silent = [await asyncio.open_connection("127.0.0.1", number) for _ in range(100)]
        async with httpx.AsyncClient(verify=trusting, trust_env=False, timeout=60) as client:
            assert (await client.get(f"https://127.0.0.1:{number}/metrics")).status_code == 200
        for _, writer in silent:
            writer.transport.abort()


async def test_a_scraper_without_a_certificate_of_the_named_ca_reads_nothing(tmp_path: Path) -> None:
    now, number = datetime.now(UTC), free_port()
    authority, other = make_authority(now), make_authority(now)
    files = {name: tmp_path / name for name in ("crt", "key", "clients")}
    issued = issue(authority, "metrics", ["127.0.0.1"], now)
    files["crt"].write_bytes(issued.chain_pem)
    files["key"].write_bytes(issued.key_pem)
    files["clients"].write_bytes(authority.pem)

    def client(signer: Authority | None) -> httpx.AsyncClient:
        context = ssl.create_default_context(cadata=authority.pem.decode())
        if signer is not None:
            shown = issue(signer, "prometheus", ["prometheus"], now, for_clients=True)
            (tmp_path / "own").write_bytes(shown.chain_pem + shown.key_pem)
            context.load_cert_chain(tmp_path / "own")
        return httpx.AsyncClient(verify=context, trust_env=False, timeout=60)

    async def status(signer: Authority | None) -> int:
        async with client(signer) as scraper:
            try:
                return (await scraper.get(f"https://127.0.0.1:{number}/metrics")).status_code
            except httpx.TransportError:
                return 0

    certificate = ServerCertificate(files["crt"], files["key"], clients=files["clients"])
    async with exposed(scraper_of(CollectorRegistry()), "127.0.0.1", number, certificate=certificate):
        assert [await status(signer) for signer in (None, other, authority)] == [0, 0, 200]
        files["clients"].write_bytes(other.pem)  # another CA vouches for scrapers from now on

        async def followed() -> bool:
            return [await status(signer) for signer in (None, authority, other)] == [0, 0, 200]

        await eventually(followed, what="the new CA of scrapers")


def test_a_ca_of_scrapers_needs_https(tmp_path: Path) -> None:
    given = {"postgres_dsn": "postgresql:///warren", "policy_public_key": "A" * 43 + "="}
    with pytest.raises(InvalidSettingError, match="WARREN_METRICS_CLIENT_CA_FILE needs HTTPS"):
        MetricsSettings.model_validate(given | {"metrics_client_ca_file": tmp_path / "ca.pem"}).certificate()


@pytest.mark.parametrize("host", ["192.0.2.1", "0.0.0.0", "::", "metrics"])  # noqa: S104 - what is refused
def test_clear_text_beyond_loopback_is_an_explicit_setting(host: str) -> None:
    def settings(cleartext: str) -> MetricsSettings:
        given = {"postgres_dsn": "postgresql:///warren", "policy_public_key": "A" * 43 + "=", "metrics_host": host}
        return MetricsSettings.model_validate(given | {"metrics_cleartext": cleartext})

    with pytest.raises(InvalidSettingError, match="WARREN_METRICS_CERT_FILE is not set: beyond loopback"):
        settings("").certificate()
    assert settings("allow").certificate() is None


def test_warren_up_exposes_metrics_on_loopback_unless_another_address_is_named() -> None:
    assert StackOptions(Path("/data"), bind="192.0.2.10").metrics_bind == "127.0.0.1"
