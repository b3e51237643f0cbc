"""F7's siblings: who is on the path of a host that joins answers in the server's place, and must not learn its token.

The attacker has a certificate of its own CA for the right name, and may show the fleet's CA, which is public, next to it.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from warren_agent.enrolment import enrol
from warren_agent.errors import EnrolmentError
from warren_agent.settings import check_settings
from warren_agent.state.store import StateStore
from warren_testkit.agent.process import join_token
from warren_trust.certificates import LOOPBACK, fingerprint, issue, make_authority

NOW = datetime.now(UTC)
FLEET, EVIL = make_authority(NOW), make_authority(NOW)
TOKEN = join_token(b"r" * 32, fingerprint(FLEET.certificate))
INFO = b'INFO {"server_id":"N","version":"2.15.1","max_payload":1048576,"nonce":"bm9uY2U","auth_required":true,"tls_required":true}\r\n'


class Attacker:
    """Greets as NATS does, and keeps what it can read."""

    def __init__(self) -> None:
        self.read = bytearray()
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        writer.write(INFO)
        self.read += await reader.read()
        writer.close()


@asynccontextmanager
async def answering(folder: Path, chain: bytes | None, key: bytes = b"") -> AsyncIterator[tuple[Attacker, int]]:
    """An attacker with this chain, or without TLS; its port."""
    context = None
    if chain is not None:
        (folder / "chain").write_bytes(chain)
        (folder / "key").write_bytes(key)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(folder / "chain", folder / "key")
    attacker = Attacker()
    async with await asyncio.start_server(attacker.serve, "127.0.0.1", 0, ssl=context) as listening:
        yield attacker, listening.sockets[0].getsockname()[1]


async def refusal(folder: Path, port: int) -> str:
    """Why a host with the fleet's token does not join by this server."""
    store = StateStore(folder / "state")
    store.prepare()
    settings = check_settings({"nats_url": f"tls://127.0.0.1:{port}", "state": str(store.folder), "peer": "gw1"})
    with pytest.raises(EnrolmentError) as refused:
        await asyncio.wait_for(enrol(settings, store, TOKEN), 120)
    return str(refused.value)


def secrets(folder: Path) -> list[bytes]:
    """What an attacker must not read: the token's secret, and the host's key."""
    return [TOKEN.split("_")[2].encode(), StateStore(folder / "state").nkey().public.encode(), b"CONNECT"]


async def test_a_server_with_another_ca_reads_nothing(tmp_path: Path) -> None:
    evil = issue(EVIL, "evil", LOOPBACK, NOW)
    async with answering(tmp_path, evil.chain_pem, evil.key_pem) as (attacker, port):
        assert "127.0.0.1 does not show the CA that the join token names" in await refusal(tmp_path, port)
    assert attacker.connections == 1
    assert attacker.read == b""
    assert not (tmp_path / "state" / "ca.pem").exists()


async def test_a_server_that_shows_the_fleets_ca_without_a_certificate_of_it_reads_nothing(tmp_path: Path) -> None:
    evil = issue(EVIL, "evil", LOOPBACK, NOW)
    async with answering(tmp_path, evil.chain_pem + FLEET.pem, evil.key_pem) as (attacker, port):
        assert "the token was not sent: " in (said := await refusal(tmp_path, port))
    assert "is not of the CA that this host trusts" in said
    assert not any(secret in attacker.read for secret in secrets(tmp_path))


async def test_a_certificate_of_the_fleet_for_another_name_reads_nothing(tmp_path: Path) -> None:
    """Such as the API server's on another machine."""
    other = issue(FLEET, "other", ["bus.example.net"], NOW)
    async with answering(tmp_path, other.chain_pem, other.key_pem) as (attacker, port):
        assert "is not for 127.0.0.1" in await refusal(tmp_path, port)
    assert not any(secret in attacker.read for secret in secrets(tmp_path))


async def test_a_server_without_tls_reads_the_begin_of_a_handshake(tmp_path: Path) -> None:
    """An INFO that takes TLS back, before any client has asked for it."""
    async with answering(tmp_path, None) as (attacker, port):
        assert "127.0.0.1 offers no TLS" in await refusal(tmp_path, port)
    assert attacker.connections == 1
    assert not any(secret in attacker.read for secret in secrets(tmp_path))
