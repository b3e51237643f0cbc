"""The API server as a process: a missing setting, serving without a bus, and a clean end."""

import asyncio
import os
import sys
from pathlib import Path

import httpx

from warren_testkit.bus import free_port
from warren_tools import openapi
from warren_trust.keys import KeyKind, KeyPair, write_seed


async def start(**settings: str) -> asyncio.subprocess.Process:
    environment = {"PATH": os.environ["PATH"], "WARREN_LOG_FORMAT": "json", **settings}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "warren_api", env=environment,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def test_a_missing_or_invalid_setting_is_named_and_the_exit_code_is_2(tmp_path: Path) -> None:
    seed = tmp_path / "api.seed"
    write_seed(seed, KeyPair.generate(KeyKind.USER))
    good = {"WARREN_NATS_URL": "nats://127.0.0.1:1", "WARREN_NKEY_FILE": str(seed)}
    changes = (
        ({"WARREN_NATS_URL": ""}, "WARREN_NATS_URL"),
        ({"WARREN_NKEY_FILE": ""}, "WARREN_NKEY_FILE"),
        ({"WARREN_NKEY_FILE": str(tmp_path / "none")}, "none"),
        ({"WARREN_HTTP_PORT": "http"}, "WARREN_HTTP_PORT"),
        ({"WARREN_LOG_LEVEL": "loud"}, "WARREN_LOG_LEVEL"),
    )
    processes = [(named, await start(**good | change)) for change, named in changes]
    for named, process in processes:
        _, said = await asyncio.wait_for(process.communicate(), 30)
        assert process.returncode == 2, said
        assert named in said.decode()
        assert len(said.decode().splitlines()) == 1


async def test_it_serves_without_a_bus_says_so_and_ends_cleanly(tmp_path: Path) -> None:
    seed, port = tmp_path / "api.seed", free_port()
    write_seed(seed, KeyPair.generate(KeyKind.USER))
    nats = f"nats://127.0.0.1:{free_port()}"
    process = await start(WARREN_NATS_URL=nats, WARREN_NKEY_FILE=str(seed), WARREN_HTTP_PORT=str(port))
    try:
        health = await answer(f"http://127.0.0.1:{port}/api/health")
        assert health.status_code == 503
        assert health.json()["live"] is True
        assert health.json()["dependencies"]["nats"] is False
        assert "server" not in health.headers
    finally:
        process.terminate()
        _, said = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 0, said
    assert b"http.request" in said


async def answer(url: str) -> httpx.Response:
    """The first answer of a server that starts."""
    transport = httpx.AsyncHTTPTransport(retries=0)
    async with asyncio.timeout(30), httpx.AsyncClient(transport=transport, trust_env=False) as client:
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
        "/api/health",
    ):
        assert f'"{path}"' in text
    assert "HTTPValidationError" not in text
    assert "token_sha256" not in text
