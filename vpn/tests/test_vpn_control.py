"""The control socket: requests and replies over a real one, and who is not answered."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from warren_process import control_socket
from warren_vpn.commands import app
from warren_vpn.server.control import Disconnected, DisconnectRequest, Reloaded, ReloadRequest, Reply, Request
from warren_vpn.server.control_client import ask
from warren_vpn.server.control_server import ControlServer
from warren_vpn.server.errors import ControlSocketError, ServerError


def answer(request: Request) -> Reply:
    match request:
        case DisconnectRequest(target="alice"):
            return Disconnected(sessions=(3, 4))
        case ReloadRequest():
            return Reloaded(users=2)
    raise ServerError("nobody of this name")


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    found = tmp_path / "control.sock"
    ready, stop = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        server = ControlServer(found, answer)
        await server.start()
        ready.set()
        await stop.wait()
        server.close()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert ready.wait(60)
    try:
        yield found
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()
        assert not found.exists()


def test_requests_are_answered(path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o600
    assert ask(path, DisconnectRequest(target="alice"), Disconnected).sessions == (3, 4)
    assert ask(path, ReloadRequest(), Reloaded).users == 2


def test_a_refusal_has_its_reason(path: Path) -> None:
    with pytest.raises(ServerError, match="nobody of this name"):
        ask(path, DisconnectRequest(target="bob"), Disconnected)


@pytest.mark.parametrize("line", [b"\n", b"{}\n", b'{"request": "erase"}\n', b"x" * 10_000 + b"\n", b"\xff\n"])
def test_anything_else_is_refused(path: Path, line: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(60)
        connection.connect(str(path))
        try:
            connection.sendall(line)
            received = connection.recv(65536)
        except ConnectionError:
            received = b""
    assert received == b"" or b'"refused"' in received
    assert ask(path, ReloadRequest(), Reloaded).users == 2


def test_other_users_are_not_answered(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_socket, "_may_control", lambda connection: False)
    with pytest.raises(ControlSocketError, match="does not answer this user"):
        ask(path, ReloadRequest(), Reloaded)


def test_a_server_that_does_not_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(ControlSocketError, match="is the server running"):
        ask(tmp_path / "none.sock", ReloadRequest(), Reloaded)


@pytest.mark.parametrize("target", ["", "a" * 65])
def test_a_target_that_can_be_no_user_is_one_line(tmp_path: Path, target: str) -> None:
    done = CliRunner().invoke(app, ["server", "disconnect", target, "--config", str(tmp_path / "server.toml")])
    assert (done.exit_code, len(done.output.splitlines())) == (1, 1)
    assert "must be 1 to 64 characters" in done.output


def test_a_second_server_is_refused(path: Path) -> None:
    with pytest.raises(ServerError, match="another server answers there"):
        asyncio.run(ControlServer(path, answer).start())
    assert ask(path, ReloadRequest(), Reloaded).users == 2
