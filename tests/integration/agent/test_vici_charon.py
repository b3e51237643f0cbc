"""The VICI client against a real charon."""

import asyncio
import time
from typing import Any

import pytest

from warren_agent.drivers.strongswan.charon import CharonClient
from warren_agent.drivers.strongswan.errors import (
    ViciClosedError,
    ViciCommandError,
    ViciLimitError,
    ViciUnknownCommandError,
    ViciUnknownEventError,
)
from warren_agent.drivers.strongswan.vici_client import ViciClient, ViciConnection
from warren_agent.drivers.strongswan.vici_codec import subsection, text, texts
from warren_agent.errors import DriverUnavailableError
from warren_testkit.lab.gateways import Gateway
from warren_testkit.waiting import eventually

pytestmark = [pytest.mark.root, pytest.mark.strongswans]

LIMIT = 60.0  # s
READINGS = 10


def connection(name: str, remote: str = "192.0.2.77") -> dict[str, Any]:
    child = {"local_ts": ["10.1.0.0/24"], "remote_ts": ["10.2.0.0/24"], "esp_proposals": ["aes128gcm16"]}
    ends = {"local": {"auth": "psk", "id": "hub"}, "remote": {"auth": "psk", "id": "spoke"}}
    addresses = {"local_addrs": ["192.0.2.1"], "remote_addrs": [remote], "proposals": ["aes128gcm16-prfsha256-x25519"]}
    return {name: {"version": "2", **addresses, **ends, "children": {name: child}}}


async def test_commands_events_and_errors_of_a_real_charon(hub: Gateway) -> None:
    seen = []
    link = await ViciConnection.open(hub.vici, on_event=lambda name, payload: seen.append(name))
    try:
        assert text(await link.request("version"), "daemon") == "charon"
        await link.request("load-conn", connection("a"))
        assert texts(await link.request("get-conns"), "conns") == ["a"]
        conns = await link.stream("list-conns", "list-conn")
        assert list(conns[0]) == ["a"]
        with pytest.raises(ViciUnknownCommandError, match="fly"):
            await link.request("fly")
        with pytest.raises(ViciUnknownEventError, match="fly"):
            await link.register("fly")
        with pytest.raises(ViciCommandError, match=r"unload-conn: .*not found"):
            await link.request("unload-conn", {"name": "b"})
        with pytest.raises(ViciLimitError, match="load-conn"):
            await link.request("load-conn", {"x": {f"k{n}": "v" * 60_000 for n in range(9)}})
        await link.register("log")
        shared = {"id": "s", "type": "IKE", "data": "x" * 32, "owners": ["hub"]}
        await link.request("load-shared", shared)
        await link.request("initiate", {"ike": "a", "child": "a", "timeout": "-1"})
        assert await link.stream("list-sas", "list-sa", {"noblock": "yes"}) is not None
        await eventually(lambda: "log" in seen, what="an event of charon's log")  # sent by a thread of its own
    finally:
        link.close()


async def test_commands_of_many_tasks_take_turns_on_one_connection(hub: Gateway) -> None:
    client = ViciClient(hub.vici)
    try:
        await client.request("load-conn", connection("a"))
        answers = await asyncio.gather(
            *(client.stream("list-conns", "list-conn") for _ in range(40)),
            *(client.request("version") for _ in range(40)),
        )
        assert all(len(answer) in (1, 5) for answer in answers)
    finally:
        await client.close()


async def test_command_given_up_closes_its_connection_and_the_next_one_works(hub: Gateway) -> None:
    client = ViciClient(hub.vici)
    try:
        await client.request("load-conn", connection("a"))
        blocked = asyncio.create_task(client.request("initiate", {"ike": "a", "child": "a", "timeout": "60000"}))
        started = asyncio.Event()
        listener = await ViciConnection.open(hub.vici, on_event=lambda name, payload: started.set())
        await listener.register("log")
        async with asyncio.timeout(LIMIT):
            await started.wait()
        listener.close()
        blocked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await blocked
        assert text(await client.request("version"), "daemon") == "charon"
    finally:
        await client.close()


async def test_charon_that_stops_and_returns(hub: Gateway) -> None:
    client = ViciClient(hub.vici)
    link = await ViciConnection.open(hub.vici)
    await client.request("version")
    await hub.stop()
    async with asyncio.timeout(LIMIT):
        await link.closed.wait()
    with pytest.raises(ViciClosedError):
        await link.request("version")
    with pytest.raises(DriverUnavailableError, match="is charon running"):
        await client.request("version")
    await hub.start()
    assert text(await client.request("version"), "daemon") == "charon"
    await client.close()


async def test_run_of_a_charon_is_one_however_its_start_is_said(hub: Gateway) -> None:
    """`since` moves by a second, unless the seconds of both clocks begin together; it is read through two beginnings of one."""
    charon, client = CharonClient(hub.vici), ViciClient(hub.vici)
    said: list[str] = []
    runs: set[str] = set()
    try:
        began = time.monotonic()
        while time.monotonic() - began < 1.5 or len(said) < READINGS:
            said.append(text(subsection(await client.request("stats"), "uptime"), "since"))
            runs.add((await charon.abilities()).run)
    finally:
        await charon.close()
        await client.close()
    assert len(runs) == 1, set(said)
    assert runs != {""}
