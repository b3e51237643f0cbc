"""Host names of gateways, resolved by a name server: both families, TTL, changes, silence, and names that do not exist."""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from warren_agent.errors import UnresolvedNameError
from warren_agent.paths import resolver
from warren_agent.paths.names import Names
from warren_agent.paths.resolver import LEAST_TTL, LONGEST_TTL, resolve
from warren_contracts.addresses import Endpoint
from warren_contracts.status import ReasonCode, TunnelState, TunnelStatus
from warren_contracts.telemetry import TunnelChange
from warren_lab.lab import Lab
from warren_testkit.intent import STAR
from warren_testkit.lab.agents import LocalAgent, gateway_record
from warren_testkit.lab.gateways import Gateway, ike_key
from warren_testkit.lab.handover import Handover
from warren_testkit.lab.nameserver import NameServer
from warren_testkit.waiting import eventually

pytestmark = [pytest.mark.root, pytest.mark.interop]

LIMIT = 60.0  # s
NO_HOSTS = Path("/nonexistent")


@contextlib.asynccontextmanager
async def served(folder: Path, records: str, timeout_s: int = 30) -> AsyncIterator[NameServer]:
    server = NameServer(folder, records, timeout_s=timeout_s)
    await server.start()
    try:
        yield server
    finally:
        server.stop()


def looking_up(server: NameServer) -> Any:
    return functools.partial(resolve, hosts=NO_HOSTS, configuration=server.configuration)


async def test_both_families_are_found_behind_an_alias_with_the_least_ttl(tmp_path: Path) -> None:
    records = "gw 300 CNAME site\nsite 40 A 192.0.2.7\nsite 40 A 192.0.2.3\nsite 60 AAAA 2001:db8::1\n"
    records += "old 86400 A 192.0.2.9\nhot 0 A 192.0.2.8\n"
    async with served(tmp_path, records) as server:
        look_up = looking_up(server)
        found = await look_up("gw.example")
        assert [str(it) for it in found.addresses] == ["2001:db8::1", "192.0.2.3", "192.0.2.7"]
        assert (found.ttl_s, found.is_complete) == (40, True)
        assert (await look_up("old.example")).ttl_s == LONGEST_TTL
        assert (await look_up("hot.example")).ttl_s == LEAST_TTL


async def test_name_that_does_not_exist_or_has_no_address_says_so(tmp_path: Path) -> None:
    async with served(tmp_path, "mail 60 MX 10 gw\n") as server:
        with pytest.raises(UnresolvedNameError, match=r"gw\.example.*does not exist"):
            await looking_up(server)("gw.example")
        with pytest.raises(UnresolvedNameError, match="does not contain an answer"):
            await looking_up(server)("mail.example")


async def test_family_that_is_not_answered_for_once_loses_no_address(tmp_path: Path) -> None:
    async with served(tmp_path, "gw 5 A 192.0.2.7\ngw 5 AAAA 2001:db8::1\n", timeout_s=1) as server:
        changes: list[str] = []
        names = Names(lambda: changes.append("changed"), looking_up(server))
        try:
            names.follow(["gw.example"])
            await eventually(lambda: len(names.addresses("gw.example")) == 2, LIMIT)
            server.ignored = {"AAAA"}
            asked = server.asked("gw.example.")
            await eventually(lambda: server.asked("gw.example.") > asked + 1, LIMIT)  # looked up again, and once more
            assert (len(names.addresses("gw.example")), changes) == (2, ["changed"])
        finally:
            names.close()


async def test_server_that_does_not_answer_delays_no_other_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And its failure names the server."""
    monkeypatch.setattr(resolver, "QUERY_LIMIT", 2 * LIMIT)
    async with served(tmp_path, "gw 60 A 192.0.2.7\n") as silent, served(tmp_path, "gw 60 A 192.0.2.8\n") as server:
        silent.is_silent = True
        waiting = asyncio.create_task(looking_up(silent)("gw.example"))
        await eventually(lambda: silent.asked("gw.example."), LIMIT)
        found = await looking_up(server)("gw.example")
        assert [str(it) for it in found.addresses] == ["192.0.2.8"]
        assert not waiting.done()
        waiting.cancel()
        monkeypatch.setattr(resolver, "QUERY_LIMIT", 0.5)
        with pytest.raises(UnresolvedNameError, match=silent.address):
            await looking_up(silent)("gw.example")


def partner(gateway: Gateway, *addresses: str) -> dict[str, Any]:
    """A gateway as the end of a policy, by these addresses or names."""
    return {
        "identity": gateway.name, "public_key": ike_key(gateway.number)[1], "addresses": list(addresses),
        "subnets": [gateway.network],
    }  # fmt: skip


def status(agent: LocalAgent, name: str) -> TunnelStatus | None:
    return next((it.status for it in reversed(agent.all(TunnelChange)) if it.status.name == name), None)


async def shows(agent: LocalAgent, name: str, state: TunnelState, reason: ReasonCode = ReasonCode.NONE) -> TunnelStatus:
    def is_shown() -> TunnelStatus | None:
        found = status(agent, name)
        return found if found is not None and (found.state, found.reason) == (state, reason) else None

    shown: TunnelStatus = await eventually(is_shown, LIMIT, f"{name} {state.value}")
    return shown


async def remote(spoke: Gateway, tunnel: str) -> set[tuple[str, int]]:
    """The other ends' addresses and the unique ids of a tunnel's IKE_SAs."""
    return {
        (sa.remote_host, sa.unique_id)
        for sa in await spoke.ike_sas()
        if sa.handle is not None and sa.handle.tunnel == tunnel
    }


async def test_only_the_tunnel_of_a_name_that_moves_is_changed_and_it_has_no_gap(lab: Lab, tmp_path: Path) -> None:
    """One hub is called by name, another one by its address; a third name does not exist."""
    hub, spoke, other = Gateway(lab, "hub", 1), Gateway(lab, "spoke", 2), Gateway(lab, "other", 3)
    lab.link(hub.namespace, "wan1", "192.0.2.1/24", spoke.namespace, "wan1", "192.0.2.2/24")
    lab.link(hub.namespace, "wan2", "198.51.100.1/24", spoke.namespace, "wan2", "198.51.100.2/24")
    lab.link(other.namespace, "wan", "203.0.113.3/24", spoke.namespace, "wan3", "203.0.113.2/24")
    hub.more_addresses, other.address = ("198.51.100.1",), "203.0.113.3"
    records = [
        gateway_record(hub, "hub").model_copy(
            update={"endpoints": tuple(Endpoint(ip_address(it)) for it in ("192.0.2.1", "198.51.100.1"))}
        ),
        gateway_record(spoke, "branch").model_copy(update={"endpoints": ()}),
        gateway_record(other, "hub"),
    ]
    by_name = [
        records[0].model_copy(update={"endpoints": (Endpoint("gw.example"),)}), records[1], records[2],
    ]  # fmt: skip
    gone_end = {**partner(hub, "gone.example"), "identity": "gone", "subnets": ["10.99.0.0/24"]}
    missing = {"name": "missing", "ends": [{"peer": "spoke"}, gone_end]}
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(served(tmp_path, "gw 5 A 192.0.2.1\n", timeout_s=1))
        at_spoke = LocalAgent(spoke, by_name, resolving=looking_up(server))
        for agent in (LocalAgent(hub, records), at_spoke, LocalAgent(other, records)):
            await agent.gateway.start()
            await agent.start()
            stack.push_async_callback(agent.stop)
            agent.give(STAR | {"tunnels": [missing]} if agent is at_spoke else STAR)
        for name in ("hub+spoke", "other+spoke"):
            await shows(at_spoke, name, TunnelState.UP)
        gone = await shows(at_spoke, "missing", TunnelState.DOWN, ReasonCode.ADDRESS_FAILED)
        assert "gone.example" in gone.detail
        assert "does not exist" in gone.detail
        ((_, before),) = await remote(spoke, "other+spoke")
        async with Handover(spoke, hub) as traffic:
            server.serve("gw 5 A 198.51.100.1\n")

            async def has_moved() -> bool:
                return {host for host, _ in await remote(spoke, "hub+spoke")} == {"198.51.100.1"}

            await eventually(has_moved, LIMIT)
            await traffic.done()
        traffic.check()
        assert {unique_id for _, unique_id in await remote(spoke, "other+spoke")} == {before}
        server.is_silent = True  # the last addresses stay
        asked = server.asked("gw.example.")
        await eventually(lambda: server.asked("gw.example.") > asked, LIMIT)
        assert await spoke.ping(hub.protected)
        await shows(at_spoke, "hub+spoke", TunnelState.UP)
        held = await spoke.held()
        for stop in (at_spoke.stop, at_spoke.kill):  # nor does an agent that starts again forget them
            await stop()
            at_spoke = LocalAgent(spoke, by_name, resolving=looking_up(server))
            await at_spoke.start()
            stack.push_async_callback(at_spoke.stop)
            await at_spoke.applied(at_spoke.give(STAR | {"tunnels": [missing]}))
            await shows(at_spoke, "hub+spoke", TunnelState.UP)
            assert await spoke.held() == held
