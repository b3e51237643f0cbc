"""`warren-agent enrol` against a real bus: what it says, what it keeps, and what a later run announces of it."""

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from warren_testkit.agent.control import Control
from warren_testkit.agent.process import AgentProcess, join_token
from warren_testkit.bus import GrantingCallout, RealServer
from warren_testkit.waiting import eventually


@pytest.fixture
async def control(tmp_path: Path) -> AsyncIterator[Control]:
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(RealServer(tmp_path / "server"))
        callout = await stack.enter_async_context(GrantingCallout(server))
        yield await stack.enter_async_context(Control(server, callout))


def agent(control: Control, folder: Path, **environment: str) -> AgentProcess:
    given = {"WARREN_NATS_URL": control.server.url, "WARREN_PEER": "hub", "WARREN_VICI_SOCKET": str(folder / "none")}
    return AgentProcess(folder, given | environment, join_token(control.root))


async def test_what_is_said_at_enrolment_is_announced_by_the_run(control: Control, tmp_path: Path) -> None:
    joining = agent(control, tmp_path / "host", WARREN_ENDPOINTS="198.51.100.1", WARREN_SUBNETS="10.0.0.0/24")
    await joining.enrol()
    (line,) = joining.log.splitlines()  # and no log before it
    assert line.startswith("enrolled as hub, tags: hub")
    kept = json.loads((joining.state / "settings.json").read_text())
    assert kept == {
        "endpoints": "198.51.100.1",
        "subnets": "10.0.0.0/24",
        "vici_socket": str(tmp_path / "host" / "none"),
    }
    running = agent(control, tmp_path / "host")
    await running.start()
    try:
        await eventually(lambda: "hub" in control.records)
        record = control.records["hub"]
        assert (list(map(str, record.endpoints)), list(map(str, record.subnets))) == (["198.51.100.1"], ["10.0.0.0/24"])
    finally:
        await running.stop()


async def test_servers_that_are_unavailable_or_refuse_are_one_line(control: Control, tmp_path: Path) -> None:
    control.callout.takes_tokens = False
    refused = agent(control, tmp_path / "refused")
    assert await refused.run_to_end("enrol") == 1
    (line,) = refused.log.splitlines()
    assert "unknown, used up or expired" in line
    assert "database is unavailable" in line


async def test_a_revoked_host_joins_again_with_new_keys(control: Control, tmp_path: Path) -> None:
    host = agent(control, tmp_path / "host")
    await host.enrol()
    former = (host.state / "nkey.seed").read_bytes(), (host.state / "ike.seed").read_bytes()
    assert await host.run_to_end("enrol") == 0
    assert host.last_line == "this host is the peer hub already"
    control.callout.peers.clear()  # the fleet no longer knows its key
    assert await host.run_to_end("enrol") == 0
    assert host.last_line.startswith("this host was the peer hub and was revoked; enrolled again as hub with new keys")
    now = (host.state / "nkey.seed").read_bytes(), (host.state / "ike.seed").read_bytes()
    assert not {*former} & {*now}
    assert {path.name for path in host.state.iterdir()} >= {"nkey.seed", "ike.seed", "identity.json"}
    assert not list(host.state.glob("*.former"))


async def test_a_revoked_host_whose_token_is_refused_keeps_its_keys_and_says_why(
    control: Control, tmp_path: Path
) -> None:
    host = agent(control, tmp_path / "host")
    await host.enrol()
    before = {path.name: path.read_bytes() for path in host.state.iterdir() if path.name != "lock"}
    control.callout.peers.clear()
    control.callout.takes_tokens = False
    assert await host.run_to_end("enrol") == 1
    assert (
        "this host was the peer hub and is refused: it was revoked. Joining again: the servers refuse" in host.last_line
    )
    assert {path.name: path.read_bytes() for path in host.state.iterdir() if path.name != "lock"} == before
