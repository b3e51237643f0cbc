"""The control socket: who is answered, and what a hostile client may cost."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from warren_process import control_socket
from warren_process.control_socket import MAX_CONNECTIONS, ControlSocket, exchange


async def answer(line: bytes) -> bytes:
    if line == b"refuse\n":
        raise ValueError("not a request")
    return b"<" + line.strip() + b">"


@pytest.fixture
async def path(tmp_path: Path) -> AsyncIterator[Path]:
    server = ControlSocket(tmp_path / "control.sock", answer, max_line=100)
    await server.start()
    yield server.path
    server.close()
    assert not server.path.exists()


async def ask(path: Path, line: bytes, max_reply: int = 1_000) -> bytes:
    return await asyncio.to_thread(exchange, path, line, limit_s=10.0, max_reply=max_reply)


async def test_a_line_is_answered_by_a_line(path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o600
    assert await ask(path, b"status") == b"<status>\n"


async def test_a_line_that_is_too_long_arrives_as_an_empty_one(path: Path) -> None:
    assert await ask(path, b"x" * 200) in (b"<>\n", b"")  # the rest of the line may reset the connection
    assert await ask(path, b"status") == b"<status>\n"


async def test_a_request_that_is_refused_closes_the_connection_without_a_reply(path: Path) -> None:
    assert await ask(path, b"refuse") == b""


async def test_a_reply_that_is_too_long_is_an_error(path: Path) -> None:
    with pytest.raises(ValueError, match="more than 3 bytes"):
        await ask(path, b"status", max_reply=3)


async def test_other_users_are_not_answered(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_socket, "user_of", lambda connection: 12_345)
    assert await ask(path, b"status") == b""


async def test_silent_clients_are_closed_and_keep_nobody_out_for_long(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_socket, "LINE_LIMIT_S", 0.05)
    silent = [await asyncio.open_unix_connection(path) for _ in range(MAX_CONNECTIONS)]
    refused, writer = await asyncio.open_unix_connection(path)
    assert await refused.read() == b""
    writer.close()
    for reader, its_writer in silent:
        assert await reader.read() == b""
        its_writer.close()
    assert await ask(path, b"status") == b"<status>\n"


async def test_a_socket_that_a_killed_process_left_is_replaced(path: Path) -> None:
    other = ControlSocket(path, answer, max_line=100)
    await other.start()
    assert await ask(path, b"status") == b"<status>\n"
    other.close()
    with pytest.raises(FileNotFoundError):
        await ask(path, b"status")
