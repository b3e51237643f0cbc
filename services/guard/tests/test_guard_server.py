"""The guard's socket: who may speak on it, what its schema refuses, and events."""

import asyncio
import contextlib
import json
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from warren_contracts.guard import MAX_LINE, EventKind, GuardEvent, GuardReply
from warren_guard.adapters.state_file import StateFile
from warren_guard.errors import BadRequestError, BadSettingError
from warren_guard.guard import Guard
from warren_guard.server import GuardServer, parse_request
from warren_guard.settings import check_settings
from warren_testkit.guard import FakeFirewall, FakeInspector, FakeKernel

TRAFFIC = {"policy": "p", "tunnel": "t", "pairs": [{"local": ["10.1.0.0/24"], "remote": ["10.2.0.0/24"]}]}


class Caller:
    """One connection to the socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self, **fields: Any) -> GuardReply:
        self.writer.write(json.dumps(fields).encode() + b"\n")
        return GuardReply.model_validate_json(await self.line())

    async def line(self) -> bytes:
        async with asyncio.timeout(60):
            return await self.reader.readline()


@pytest.fixture
def guard(tmp_path: Path) -> Guard:
    file = StateFile(tmp_path / "state")
    file.prepare()
    return Guard(FakeFirewall(), FakeInspector(), FakeKernel(), file, keep_sources=False)


@pytest.fixture
async def path(guard: Guard, tmp_path: Path) -> AsyncIterator[Path]:
    socket = tmp_path / "run" / "guard.sock"
    async with GuardServer(guard, socket, {os.getuid()}).serving():
        yield socket


async def connected(path: Path) -> Caller:
    return Caller(*await asyncio.open_unix_connection(str(path), limit=MAX_LINE))


async def test_requests_are_answered_in_order_and_a_bad_one_ends_nothing(path: Path) -> None:
    caller = await connected(path)
    assert (await caller.ask(request="protect", traffic=[TRAFFIC])).changed
    refused = await caller.ask(request="protect", traffic=[TRAFFIC | {"pairs": []}])
    assert refused.error == "protect/traffic/0/pairs: must have at least one entry"
    assert [it.tunnel for it in (await caller.ask(request="held")).held] == ["t"]
    caller.writer.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_a_user_who_is_not_the_agent_is_refused(guard: Guard, tmp_path: Path) -> None:
    path = tmp_path / "guard.sock"
    async with GuardServer(guard, path, {os.getuid() + 1}).serving():
        caller = await connected(path)
        assert await caller.line() == b""
        caller.writer.close()


async def test_a_watcher_gets_events_and_still_asks(guard: Guard, path: Path) -> None:
    caller = await connected(path)
    assert (await caller.ask(request="watch")).error == ""
    guard.publish(GuardEvent(event=EventKind.ROUTES_CHANGED))
    assert GuardEvent.model_validate_json(await caller.line()).event is EventKind.ROUTES_CHANGED
    assert (await caller.ask(request="inspect")).findings != ()
    caller.writer.close()


async def test_a_line_beyond_the_limit_closes_the_connection(path: Path) -> None:
    caller = await connected(path)
    caller.writer.write(b"x" * (2 * MAX_LINE + 2))
    with contextlib.suppress(ConnectionResetError):  # what it had not read was thrown away
        assert await caller.line() == b""
    caller.writer.close()
    another = await connected(path)
    assert (await another.ask(request="held")).error == ""
    another.writer.close()


async def test_a_socket_that_a_killed_guard_left_is_replaced(guard: Guard, tmp_path: Path) -> None:
    path = tmp_path / "guard.sock"
    for _ in range(2):
        async with GuardServer(guard, path, {os.getuid()}).serving():
            held = path.stat().st_ino
            (tmp_path / "left").unlink(missing_ok=True)
            path.rename(tmp_path / "left")
        (tmp_path / "left").rename(path)
        assert path.stat().st_ino == held


SA = {"local": "192.0.2.1", "remote": "192.0.2.2", "spi_in": "0a000001", "spi_out": "c1000002"}
LEFTOVER = {"kind": "policy", "source": "10.1.0.0/24", "destination": "10.2.0.0/24", "direction": "out", "index": 1}
WRONG: list[tuple[Any, str]] = [
    ({}, "request: must be one of held, inspect, leftovers, protect, release, remove-leftovers, tunnel-routes, watch"),
    (
        {"request": "flush"},
        "request: must be one of held, inspect, leftovers, protect, release, remove-leftovers, tunnel-routes, watch",
    ),
    ({"request": "held", "more": 1}, "held/more: unknown field"),
    ({"request": "leftovers", "sas": []}, "leftovers/sas: must have at least one entry"),
    ({"request": "leftovers", "sas": [SA | {"spi_in": "1; flush"}]}, "leftovers/sas/0/spi_in: "),
    ({"request": "remove-leftovers", "sas": [SA]}, "remove-leftovers/leftovers: "),
    (
        {"request": "remove-leftovers", "sas": [SA], "leftovers": [LEFTOVER | {"direction": "out flush"}]},
        "remove-leftovers/leftovers/0/direction: ",
    ),
    (
        {"request": "remove-leftovers", "sas": [SA], "leftovers": [LEFTOVER | {"device": "wan\nflush"}]},
        "remove-leftovers/leftovers/0/device: ",
    ),
    ({"request": "protect", "devices": ["wan; drop"]}, "protect/devices/0: "),
    ({"request": "protect", "traffic": [TRAFFIC, TRAFFIC]}, "two entries of one policy and tunnel"),
    (
        {"request": "protect", "traffic": [TRAFFIC | {"tunnel": "a b"}]},
        "protect/traffic/0/tunnel: must be a tunnel name",
    ),
    ({"request": "protect", "traffic": [TRAFFIC | {"mark": -1}]}, "protect/traffic/0/mark: must be at least 0"),
    ({"request": "protect", "traffic": [TRAFFIC | {"after_delete": "long"}]}, "or `keep`"),
    (
        {"request": "protect", "bypass": [{"address": "10.0.0.1", "port": 0}]},
        "protect/bypass/0/port: must be at least 1",
    ),
    (
        {"request": "protect", "traffic": [TRAFFIC | {"pairs": [{"local": ["10.0.0.0/8"], "remote": ["dynamic"]}]}]},
        "must not be dynamic",
    ),
    (
        {
            "request": "protect",
            "traffic": [TRAFFIC | {"pairs": [{"local": ["10.0.0.0/8 } drop"], "remote": ["::/0"]}]}],
        },
        "protect/traffic/0/pairs/0/local/0: ",
    ),
]


@pytest.mark.parametrize(("fields", "message"), WRONG)
def test_what_the_schema_refuses_is_named_by_its_field(fields: Any, message: str) -> None:
    with pytest.raises(BadRequestError) as refused:
        parse_request(json.dumps(fields).encode())
    assert message in str(refused.value)


@pytest.mark.parametrize("line", [b"\n", b"{", b"[]", b'"held"', b"\xff\xfe", b"null"])
def test_what_is_no_request_is_refused(line: bytes) -> None:
    with pytest.raises(BadRequestError):
        parse_request(line)


def test_settings_are_checked() -> None:
    assert check_settings({}, {"WARREN_AGENT_USER": "1234"}).users == {0, 1234}
    assert check_settings({}, {}).keep_sources
    for given, message in (
        ({"agent_user": "nobody-of-this-name"}, "unknown user"),
        ({"masquerade": "maybe"}, "must be one of fix, report"),
        ({"log_level": "loud"}, "log_level"),
    ):
        with pytest.raises(BadSettingError, match=message):
            check_settings(given, {})
