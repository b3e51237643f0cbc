"""The API server as a process: a missing setting, serving without a bus, and a clean end."""

import asyncio
import os
import ssl
import sys
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from warren_api.settings import ApiSettings
from warren_bus.errors import InvalidSettingError
from warren_testkit.bus import free_port
from warren_tools import openapi
from warren_trust.certificates import issue, make_authority
from warren_trust.keys import KeyKind, KeyPair, write_seed


async def start(**settings: str) -> asyncio.subprocess.Process:
    environment = {"PATH": os.environ["PATH"], "WARREN_LOG_FORMAT": "json", **settings}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "warren_api", env=environment,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


@pytest.mark.slow
async def test_a_missing_or_invalid_setting_is_named_and_the_exit_code_is_2(tmp_path: Path) -> None:
    seed = tmp_path / "api.seed"
    write_seed(seed, KeyPair.generate(KeyKind.USER))
    good = {
        "WARREN_NATS_URL": "nats://127.0.0.1:1", "WARREN_NKEY_FILE": str(seed), "WARREN_HTTP_CLEARTEXT": "allow",
    }  # fmt: skip
    changes = (
        ({"WARREN_NATS_URL": ""}, "WARREN_NATS_URL"),
        ({"WARREN_NKEY_FILE": ""}, "WARREN_NKEY_FILE"),
        ({"WARREN_NKEY_FILE": str(tmp_path / "none")}, "none"),
        ({"WARREN_HTTP_PORT": "http"}, "WARREN_HTTP_PORT"),
        ({"WARREN_LOG_LEVEL": "loud"}, "WARREN_LOG_LEVEL"),
        ({"WARREN_HTTP_CLEARTEXT": ""}, "WARREN_HTTP_CERT_FILE is not set"),
    )
    processes = [(named, await start(**good | change)) for change, named in changes]
    for named, process in processes:
        _, said = await asyncio.wait_for(process.communicate(), 120)
        assert process.returncode == 2, said
        assert named in said.decode()
        assert len(said.decode().splitlines()) == 1


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "WARREN_HTTP_CERT_FILE is not set: name a certificate and its key"),
        ({"http_host": "192.0.2.1", "http_cleartext": "allow"}, "WARREN_HTTP_HOST must be a loopback address"),
        ({"http_host": "", "http_cleartext": "allow"}, "WARREN_HTTP_HOST must be a loopback address"),
        ({"http_cert_file": __file__}, "WARREN_HTTP_KEY_FILE is not set"),
        ({"http_cert_file": __file__, "http_key_file": __file__}, "no certificate and private key in PEM form"),
    ],
)
def test_clear_text_is_an_explicit_setting_and_on_loopback(given: dict[str, str], said: str) -> None:
    with pytest.raises(InvalidSettingError, match=said):
        ApiSettings.model_validate(given).certificate()
    assert ApiSettings(http_cleartext="allow").certificate() is None


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_it_serves_without_a_bus_says_so_and_ends_cleanly(tmp_path: Path, scheme: str) -> None:
    seed, port = tmp_path / "api.seed", free_port()
    write_seed(seed, KeyPair.generate(KeyKind.USER))
    nats = f"nats://127.0.0.1:{free_port()}"
    authority = make_authority(datetime.now(UTC))
    issued = issue(authority, "api", ["127.0.0.1"], datetime.now(UTC))
    files = {"WARREN_HTTP_CERT_FILE": tmp_path / "tls.crt", "WARREN_HTTP_KEY_FILE": tmp_path / "tls.key"}
    for path, text in zip(files.values(), (issued.chain_pem, issued.key_pem), strict=True):
        path.write_bytes(text)
    served = (
        {name: str(path) for name, path in files.items()} if scheme == "https" else {"WARREN_HTTP_CLEARTEXT": "allow"}
    )
    process = await start(WARREN_NATS_URL=nats, WARREN_NKEY_FILE=str(seed), WARREN_HTTP_PORT=str(port), **served)
    try:
        trusting = ssl.create_default_context(cadata=authority.pem.decode())
        health = await answer(f"{scheme}://127.0.0.1:{port}/api/health", trusting)
        assert health.status_code == 503
        assert health.json()["live"] is True
        assert health.json()["dependencies"]["nats"] is False
        assert "server" not in health.headers
        assert ("strict-transport-security" in health.headers) is (scheme == "https")
    finally:
        process.terminate()
        _, said = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, said
    assert b"http.request" in said


async def answer(url: str, trusting: ssl.SSLContext) -> httpx.Response:
    """The first answer of a server that starts."""
    transport = httpx.AsyncHTTPTransport(retries=0, verify=trusting)
    async with asyncio.timeout(120), httpx.AsyncClient(transport=transport, trust_env=False, timeout=60) as client:
        while True:
            try:
                return await client.get(url)
            except httpx.ConnectError:
                await asyncio.sleep(0.02)


def test_the_openapi_document_names_every_endpoint_and_no_foreign_error() -> None:
    text = openapi.document()
    for path in (
        "/api/policies",
        "/api/policies/{policy_id}",
        "/api/peers/register",
        "/api/tunnels/{name}",
        "/api/tunnels/{name}/explanation",
        "/api/health",
    ):
        assert f'"{path}"' in text
    assert "HTTPValidationError" not in text
    assert "token_sha256" not in text
