"""`warren top` on an API server: what the screen shows, how it follows, and how it ends."""

import os
import pty
import select
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import Event

import pytest
from structlog.testing import capture_logs
from textual.widgets import DataTable, Input, Static

from warren_cli.remote import top_screen
from warren_cli.remote.client import ApiClient
from warren_cli.remote.live_tunnels import ChangeWatch, LiveTunnels
from warren_cli.remote.top_screen import FleetTop
from warren_cli.terminal import plain
from warren_contracts.commands import Role
from warren_contracts.status import FleetTunnel, ReasonCode, TunnelState, TunnelStatus
from warren_contracts.tunnel_query import TunnelQuery
from warren_testkit.api import TOKENS
from warren_testkit.api.live import LiveApi
from warren_testkit.verbs import write
from warren_testkit.waiting import eventually


def tunnel(name: str, state: TunnelState, **fields: object) -> FleetTunnel:
    """A tunnel with one end."""
    end = TunnelStatus.model_validate({"name": name, "state": state, "since": datetime.now(UTC), **fields})
    return FleetTunnel(name=name, state=state, peers=tuple(name.split("+")), ends={name.partition("+")[0]: end})


@pytest.fixture
def live() -> Iterator[LiveApi]:
    with capture_logs(), LiveApi() as api:
        yield api


def client(live: LiveApi) -> ApiClient:
    return ApiClient(live.url, TOKENS[Role.ADMIN])


def shown(screen: FleetTop) -> list[list[str]]:
    table = screen.query_one(DataTable)
    return [[str(cell) for cell in table.get_row_at(number)] for number in range(table.row_count)]


async def test_the_worst_tunnel_is_first_and_changes_are_followed(live: LiveApi) -> None:
    live.bus.tunnels["a+hub"] = tunnel("a+hub", TunnelState.UP)
    live.bus.tunnels["b+hub"] = tunnel(
        "b+hub", TunnelState.DOWN, reason=ReasonCode.OTHER, detail="\x1b[31mred [link=x]\n"
    )
    with client(live) as api:
        tunnels = LiveTunnels(api, TunnelQuery(""))
        tunnels.refresh()
        screen = FleetTop(tunnels, ChangeWatch(lambda: client(live)), "state,since")
        async with screen.run_test(size=(200, 20)) as pilot:
            assert [row[:2] for row in shown(screen)] == [["b+hub", "down"], ["a+hub", "up"]]
            assert shown(screen)[0][-1] == plain("b: other (\x1b[31mred [link=x]\\n)")
            assert "1 down, 1 up" in str(screen.query_one("#summary", Static).render())
            live.bus.tunnels["b+hub"] = tunnel("b+hub", TunnelState.UP)

            async def follows() -> bool:
                live.publish("tunnel", {"tunnel": "b+hub", "state": "up"})
                await pilot.pause(0.2)
                return {row[1] for row in shown(screen)} == {"up"}

            await eventually(follows)
            await pilot.press("slash")
            screen.query_one(Input).value = "name:a+hub"
            await pilot.press("enter")

            async def filtered() -> bool:
                await pilot.pause(0.1)
                return [row[0] for row in shown(screen)] == ["a+hub"]

            await eventually(filtered)
            await pilot.press("s", "slash")
            screen.query_one(Input).value = "colour:red"
            await pilot.press("enter")
            await pilot.pause()
            assert "unknown field `colour`" in str(screen.query_one("#summary", Static).render())
            await pilot.press("escape", "q")
        assert screen.failure is None


@pytest.mark.slow
async def test_an_api_server_that_is_gone_is_said_and_nothing_is_shown_as_live(live: LiveApi) -> None:
    live.bus.tunnels["a+hub"] = tunnel("a+hub", TunnelState.UP)
    with client(live) as api:
        tunnels = LiveTunnels(api, TunnelQuery(""))
        tunnels.refresh()
        screen = FleetTop(tunnels, ChangeWatch(lambda: client(live)), "name")
        async with screen.run_test(size=(160, 20)) as pilot:
            api.url = "http://127.0.0.1:9"  # where nothing listens
            api.close()
            tunnels.query = TunnelQuery("")  # everything is read again

            async def said() -> bool:
                await pilot.pause(0.1)
                return "not connected to the API server" in str(screen.query_one("#summary", Static).render())

            assert shown(screen)[0][:2] == ["a+hub", "up"]
            await eventually(said)
            assert shown(screen)[0][:2] == ["a+hub", "not connected"]
            assert "up" not in str(screen.query_one("#summary", Static).render()).split()
            await pilot.press("ctrl+c")


@pytest.mark.slow
async def test_an_api_server_that_hangs_is_as_good_as_gone(live: LiveApi, monkeypatch: pytest.MonkeyPatch) -> None:
    live.bus.tunnels["a+hub"] = tunnel("a+hub", TunnelState.UP)
    with client(live) as api:
        tunnels = LiveTunnels(api, TunnelQuery(""))
        tunnels.refresh()
        hangs = Event()
        monkeypatch.setattr(tunnels, "update", lambda _: hangs.wait(60))
        screen = FleetTop(tunnels, ChangeWatch(lambda: client(live)), "name")
        async with screen.run_test(size=(160, 20)) as pilot:
            assert shown(screen)[0][:2] == ["a+hub", "up"]
            monkeypatch.setattr(top_screen, "LOST_AFTER_S", 0.0)

            async def is_void() -> bool:
                await pilot.pause(0.1)
                return shown(screen)[0][:2] == ["a+hub", "not connected"]

            await eventually(is_void)
            hangs.set()
            await pilot.press("ctrl+c")


@pytest.mark.slow
def test_ctrl_c_in_a_terminal_ends_it_cleanly(live: LiveApi, tmp_path: Path) -> None:
    live.bus.tunnels["a+hub"] = tunnel("a+hub", TunnelState.UP)
    token = write(tmp_path, "token", TOKENS[Role.ADMIN])
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 120))
    process = subprocess.Popen(
        [sys.executable, "-c", "from warren_cli.entry import main; main()", "top"],
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        env={**os.environ, "WARREN_URL": live.url, "WARREN_TOKEN_FILE": token, "TERM": "xterm-256color"},
    )  # fmt: skip
    os.close(theirs)
    try:
        said = b""
        while b"a+hub" not in said:
            assert select.select([ours], [], [], 60)[0], said
            said += os.read(ours, 65_536)
        os.write(ours, b"\x03")
        with suppress(OSError):  # EIO: the other side is closed
            while select.select([ours], [], [], 60)[0]:
                said += os.read(ours, 65_536)
        assert process.wait(60) == 0
        assert b"Traceback" not in said
    finally:
        process.kill()
        process.wait()
        os.close(ours)
