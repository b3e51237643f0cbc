"""`tls://` in the URL of a server: by TLS, or not at all."""

import asyncio
import datetime
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from warren_bus.client_subjects import inbox
from warren_bus.connection import Connection
from warren_bus.settings import BusSettings
from warren_testkit.bus import RealServer
from warren_testkit.waiting import eventually


def by_tls(server: RealServer) -> BusSettings:
    return replace(server.settings("policy"), servers=(f"tls://127.0.0.1:{server.port}",))


def write_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that vouches for itself, and its key."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=True)
        .sign(key, SHA256())
    )
    certificate_file, key_file = folder / "server.crt", folder / "server.key"
    certificate_file.write_bytes(certificate.public_bytes(Encoding.PEM))
    key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return certificate_file, key_file


async def refused(settings: BusSettings) -> str:
    """Why the first try did not connect."""
    errors: list[str] = []
    async with Connection(settings, name="policy", inbox_prefix=inbox("policy")) as connection:
        connection.on_error(lambda error: errors.append(str(error)))
        await eventually(lambda: bool(errors), 10)
        assert not connection.is_connected
    return errors[0]


async def test_a_server_without_tls_receives_nothing(server: RealServer) -> None:
    """Through a relay that keeps what the client says."""
    said = bytearray()
    open_ends: list[asyncio.StreamWriter] = []

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection("127.0.0.1", server.port)
        open_ends.extend((writer, to_server))
        writer.write(await from_server.readline())  # INFO
        said.extend(await reader.read())

    async with await asyncio.start_server(relay, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        settings = replace(server.settings("policy"), servers=(f"tls://127.0.0.1:{port}",))
        assert await refused(settings) == "nats: the server offers no TLS, and its URL begins with tls://"
        assert said == b""
        for end in open_ends:
            end.close()


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    return write_certificate(tmp_path)


@pytest.fixture
def with_tls(tmp_path: Path, certificate: tuple[Path, Path]) -> RealServer:
    cert_file, key_file = certificate
    return RealServer(tmp_path / "nats", extra=(f'tls {{ cert_file: "{cert_file}", key_file: "{key_file}" }}',))


async def test_a_server_with_tls_is_joined(
    with_tls: RealServer, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    async with (
        with_tls,
        Connection(by_tls(with_tls), name="policy", inbox_prefix=inbox("policy")) as connection,
    ):
        client = await asyncio.wait_for(connection.wait_connected(), 20)
        await client.flush()


async def test_a_certificate_that_nobody_trusts_is_refused(with_tls: RealServer) -> None:
    async with with_tls:
        assert "certificate verify failed" in await refused(by_tls(with_tls))
