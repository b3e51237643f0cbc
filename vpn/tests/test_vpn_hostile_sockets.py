"""`warren vpn status` where another program, or another version, answers on the control sockets; and what a client answers to nonsense."""

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from warren_vpn.client import control
from warren_vpn.client.control import SOCKET_NAME, ClientControlServer
from warren_vpn.commands import app
from warren_vpn.server.control import StatusRequest
from warren_vpn.server.errors import ControlSocketError

NONSENSE = [
    b"",
    b"\xff\xfe\x00",
    b"null",
    b"5",
    b"[1, 2]",
    b'{"state": "up"}',
    b'{"refused": 1}',
    b"[" * 200_000,
    json.dumps({"state": "up", "bytes_in": "many", "addresses": None}).encode(),
]


@contextlib.contextmanager
def answering(path: Path, answer: bytes, *, endless: bool = False) -> Iterator[None]:
    """A program that answers each connection with these bytes, or with one of them after the other and no end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection, contextlib.suppress(OSError):
                        connection.recv(4096)
                        connection.sendall(answer)
                        while endless:
                            connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def status(tmp_path: Path) -> tuple[int, str]:
    config = tmp_path / "server.toml"
    done = CliRunner().invoke(app, ["status", "--config", str(config), "--state", str(tmp_path)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


@pytest.mark.parametrize("answer", NONSENSE, ids=range(len(NONSENSE)))
def test_nonsense_of_a_client_is_one_line(tmp_path: Path, answer: bytes) -> None:
    with answering(tmp_path / SOCKET_NAME, answer):
        code, output = status(tmp_path)
    assert code == 1
    assert len(output.splitlines()) == 1
    assert "VPN client" in output or "no client runs here" in output


@pytest.mark.parametrize("answer", NONSENSE, ids=range(len(NONSENSE)))
def test_nonsense_of_a_server_is_one_line(tmp_path: Path, answer: bytes) -> None:
    (tmp_path / "server.toml").write_text('identity = "x"\n[tunnel]\npools = ["10.66.0.0/24"]\n')
    with answering(tmp_path / "control.sock", answer):
        code, output = status(tmp_path)
    assert code == 1
    assert len(output.splitlines()) == 1
    assert "control.sock" in output


def test_an_endless_answer_ends_at_its_limit(tmp_path: Path) -> None:
    with answering(tmp_path / SOCKET_NAME, b"{" + b" " * 65_536, endless=True):
        code, output = status(tmp_path)
    assert code == 1
    assert "more than 1,048,576 bytes" in output


def test_an_answer_byte_by_byte_ends_at_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte comes in time; the whole never does. The clock is moved on by a second with each look at it."""
    now = iter(range(1_000_000))
    monkeypatch.setattr("warren_process.control_socket.monotonic", lambda: float(next(now)))
    with answering(tmp_path / SOCKET_NAME, b" ", endless=True):
        code, output = status(tmp_path)
    assert code == 1
    assert "no answer in time" in output


def test_the_limit_of_time_is_the_servers_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from warren_vpn.server.control_client import ask

    now = iter(range(1_000_000))
    monkeypatch.setattr("warren_process.control_socket.monotonic", lambda: float(next(now)))
    with answering(tmp_path / "s", b" ", endless=True), pytest.raises(ControlSocketError, match="no answer"):
        ask(tmp_path / "s", StatusRequest(), StatusRequest)


@pytest.mark.parametrize(
    "line", [b"\n", b"5\n", b"{}\n", b'{"command": 7}\n', b"[" * 50_000 + b"\n", b"x" * 100_000 + b"\n"]
)
def test_a_client_survives_nonsense_and_answers_the_next(tmp_path: Path, line: bytes) -> None:
    problems: list[Any] = []

    async def handle(command: str) -> dict[str, Any]:
        return {"command": command}

    async def talk() -> bytes:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: problems.append(context))
        server = ClientControlServer(tmp_path / SOCKET_NAME, handle)
        await server.start()
        try:
            reader, writer = await asyncio.open_unix_connection(tmp_path / SOCKET_NAME)
            with contextlib.suppress(ConnectionError):
                writer.write(line)
                await writer.drain()
                await reader.read()
            writer.close()
            found = await asyncio.to_thread(control.ask, tmp_path, "status")
            return json.dumps(found).encode()
        finally:
            server.close()

    assert asyncio.run(talk()) == b'{"command": "status"}'
    assert problems == []
