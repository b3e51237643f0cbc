"""The guard as a process on the kernel's nftables: what is missing is one clear error, and its memory is bounded."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from warren_agent.adapters.guard import GuardClient
from warren_agent.errors import GuardRefusedError
from warren_contracts.guard import EventKind, ProtectRequest
from warren_contracts.leftovers import LeftoversReply, LeftoversRequest, OwnedSa, RemoveLeftoversRequest
from warren_contracts.protection import ProtectedTraffic
from warren_contracts.tunnel_routes import TunnelRoutesReply, TunnelRoutesRequest
from warren_lab.lab import Lab
from warren_lab.namespace import Namespace
from warren_testkit.agent.guard import GuardProcess
from warren_testkit.waiting import eventually

pytestmark = [pytest.mark.root]

MAX_RESIDENT = 35_000_000  # bytes, with 100 tunnels


@pytest.fixture
def namespace(lab: Lab) -> Namespace:
    return lab.namespace("gw")


@pytest.fixture
async def guard(namespace: Namespace, tmp_path: Path) -> AsyncIterator[GuardProcess]:
    """Not started."""
    made = GuardProcess(namespace, tmp_path)
    yield made
    made.print_log()
    await made.stop()


def request(count: int = 1) -> ProtectRequest:
    entries = (
        {"policy": "p", "tunnel": f"t{n}", "pairs": [{"local": ["10.1.0.0/24"], "remote": [f"10.{2 * n + 2}.0.0/24"]}]}
        for n in range(count)
    )
    return ProtectRequest(traffic=tuple(map(ProtectedTraffic.model_validate, entries)), devices=("ipsec0",))


def client(guard: GuardProcess) -> GuardClient:
    return GuardClient(guard.socket, lambda: 0.0)


async def test_without_its_capability_it_does_not_start_and_says_why(guard: GuardProcess) -> None:
    with pytest.raises(AssertionError, match="has no CAP_NET_ADMIN"):
        await guard.start(before=("setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin"))


async def test_without_nft_every_request_is_refused_with_the_remedy(guard: GuardProcess, tmp_path: Path) -> None:
    await guard.start(before=("env", f"PATH={tmp_path}"))
    with pytest.raises(GuardRefusedError, match=r"nft: No such file or directory: install nftables"):
        await client(guard).ask(request())


async def test_what_nft_refuses_is_the_reason_and_the_former_table_stands(guard: GuardProcess, tmp_path: Path) -> None:
    await guard.start()
    assert (await client(guard).ask(request())).changed
    table = guard.table()
    await guard.stop()
    nft = tmp_path / "nft"
    nft.write_text(
        '#!/bin/sh\n[ "$1" = -f ] || exec /usr/sbin/nft "$@"\necho "Error: Could not process rule" >&2\nexit 1\n'
    )
    nft.chmod(0o755)
    with pytest.raises(AssertionError, match="Could not process rule"):  # the table of the disk is refused at once
        await guard.start(before=("env", f"PATH={tmp_path}:/usr/sbin:/usr/bin:/sbin:/bin"))
    assert guard.table() == table


async def test_a_hundred_tunnels_stay_within_its_memory(guard: GuardProcess) -> None:
    await guard.start()
    assert len((await client(guard).ask(request(100))).held) == 100
    resident = int(Path(f"/proc/{guard.pid}/statm").read_text().split()[1]) * 4096
    assert resident <= MAX_RESIDENT, f"{resident:,} bytes"


async def test_changes_of_addresses_and_routes_are_events(guard: GuardProcess, namespace: Namespace) -> None:
    await guard.start()
    seen: set[EventKind] = set()
    async for event in client(guard).events():
        if event is None:
            namespace.run("ip", "address", "add", "10.99.0.1/24", "dev", "lo")
        else:
            seen.add(event.event)
        if seen == {EventKind.ADDRESSES_CHANGED, EventKind.ROUTES_CHANGED}:
            break


async def test_a_device_of_tunnels_is_set_up_again_and_removed_routes_into_it_are_an_event(
    guard: GuardProcess, namespace: Namespace
) -> None:
    namespace.run("ip", "tuntap", "add", "ipsec0", "mode", "tun")
    namespace.run("ip", "link", "set", "ipsec0", "up")
    namespace.run("ip", "rule", "add", "priority", "220", "table", "220")
    namespace.run("ip", "route", "add", "10.2.0.0/24", "dev", "ipsec0", "table", "220")
    await guard.start()
    await client(guard).ask(request())
    present = await client(guard).exchange(TunnelRoutesRequest(), TunnelRoutesReply)
    assert (present.in_use, [(str(it.destination), it.device) for it in present.routes]) == (
        True, [("10.2.0.0/24", "ipsec0")],
    )  # fmt: skip
    events = client(guard).events()
    async with asyncio.timeout(90):
        assert await anext(events) is None
        namespace.run("ip", "link", "set", "ipsec0", "down")
        while (event := await anext(events)) is None or event.event is not EventKind.ADDRESSES_CHANGED:
            continue
        await eventually(lambda: "UP" in namespace.run("ip", "link", "show", "ipsec0").split(">")[0])
        assert (await client(guard).exchange(TunnelRoutesRequest(), TunnelRoutesReply)).routes == ()
        namespace.run("ip", "route", "add", "10.2.0.0/24", "dev", "ipsec0", "table", "220")
        namespace.run("ip", "route", "flush", "table", "220")
        while (event := await anext(events)) is None or event.event is not EventKind.TUNNEL_ROUTES_CHANGED:
            continue


def policy(source: str, destination: str, direction: str, spi: str, *outer: str) -> list[str]:
    """The arguments of ip(8) that make a policy as charon does."""
    template = ["tmpl", "src", outer[0], "dst", outer[1], "proto", "esp", "spi", spi, "reqid", "1", "mode", "tunnel"]
    return ["ip", "xfrm", "policy", "add", "src", source, "dst", destination, "dir", direction, *template]


async def test_leftovers_of_a_lost_sa_are_removed_from_the_kernel_and_nothing_else(
    guard: GuardProcess, namespace: Namespace
) -> None:
    """With states that wait for their keys (larval ones): this kernel may have no ESP."""
    here, there, lan, far, other = "192.0.2.1", "192.0.2.2", "10.1.0.0/24", "10.2.0.0/24", "10.3.0.0/24"
    namespace.run("ip", "link", "set", "lo", "up")
    for network, spi in ((far, "0xc1000002"), (other, "0xc9000009")):
        namespace.run(*policy(lan, network, "out", spi, here, there))
        for direction in ("in", "fwd"):
            namespace.run(*policy(network, lan, direction, "0", there, here))
        namespace.run("ip", "route", "add", network, "dev", "lo", "table", "220")
        alloc = ["src", here, "dst", there, "proto", "esp", "mode", "tunnel", "min", spi, "max", spi]
        namespace.run("ip", "xfrm", "state", "alloc", *alloc)
    await guard.start()
    sa = OwnedSa.model_validate({"local": here, "remote": there, "spi_in": "0a000001", "spi_out": "c1000002"})
    found = await client(guard).exchange(LeftoversRequest(sas=(sa,)), LeftoversReply)
    assert [it.kind.value for it in found.leftovers] == ["route", "policy", "policy", "policy", "state"]
    request = RemoveLeftoversRequest(sas=(sa,), leftovers=found.leftovers)
    removed = await client(guard).exchange(request, LeftoversReply)
    assert removed.leftovers == found.leftovers
    assert (await client(guard).exchange(request, LeftoversReply)).leftovers == ()
    left = namespace.run("ip", "xfrm", "policy", "list")
    assert (left.count("dir "), far in left) == (3, False)
    assert "0xc9000009" in namespace.run("ip", "xfrm", "state", "list", "nokeys")
    assert namespace.run("ip", "route", "show", "table", "220").split()[0] == other


async def test_an_xfrm_interface_is_made_and_removed_or_refused_with_the_kernels_reason(
    guard: GuardProcess, namespace: Namespace
) -> None:
    await guard.start()
    wide = ProtectedTraffic.model_validate({"policy": "p", "tunnel": "wide", "if_id_in": 41, "if_id_out": 41})
    reply = await client(guard).ask(ProtectRequest(traffic=(wide, *request().traffic)))
    assert "10.1.0.0/24" in guard.table()
    if reply.interface_errors:  # of a kernel without xfrm_interface
        assert [(it.if_id, "Unknown device type" in it.detail) for it in reply.interface_errors] == [(41, True)]
        return
    shown = namespace.run("ip", "-details", "link", "show", "xfrm41")
    assert ("if_id 0x29" in shown, "alias warren" in shown) == (True, True)
    assert (await client(guard).ask(request())).interface_errors == ()
    assert "xfrm41" not in namespace.run("ip", "link", "show")


async def test_keys_of_the_kernels_states_are_never_listed(
    guard: GuardProcess, namespace: Namespace, tmp_path: Path
) -> None:
    calls, ip = tmp_path / "calls", tmp_path / "ip"
    ip.write_text(f'#!/bin/sh\necho "$@" >>{calls}\nPATH=/usr/sbin:/usr/bin:/sbin:/bin exec ip "$@"\n')
    ip.chmod(0o755)
    await guard.start(before=("env", f"PATH={tmp_path}:/usr/sbin:/usr/bin:/sbin:/bin"))
    sa = {"local": "192.0.2.1", "remote": "192.0.2.2", "spi_in": "0a000001", "spi_out": "c1000002"}
    await client(guard).exchange(LeftoversRequest(sas=(OwnedSa.model_validate(sa),)), LeftoversReply)
    listed = [line for line in calls.read_text().splitlines() if "xfrm state" in line]
    assert listed == ["xfrm state list nokeys"]
