"""How names become addresses, and tunnels with names tunnels with addresses."""

import asyncio
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from warren_agent.errors import UnresolvedNameError
from warren_agent.paths.effective import effective, names_of, resolved_endpoints
from warren_agent.paths.names import Names
from warren_agent.paths.resolver import HOSTS_TTL, Resolved, resolve
from warren_contracts.addresses import IPAddress
from warren_contracts.tunnel import Tunnel
from warren_testkit.intent import ipsec_tunnel
from warren_testkit.waiting import eventually

KNOWN = {"gw.example": (ip_address("2001:db8::1"), ip_address("192.0.2.7"))}


def lookup(name: str) -> tuple[IPAddress, ...]:
    return KNOWN.get(name, ())


def tunnel(*remote: str, local: tuple[str, ...] = (), **changes: Any) -> Tunnel:
    return ipsec_tunnel(remote_endpoints=list(remote), local_endpoints=list(local), **changes)


def test_names_become_all_their_addresses_in_order_each_with_its_port() -> None:
    given = tunnel("198.51.100.1:4501", "gw.example:4502", "198.51.100.1:4501", "dead.example")
    assert names_of(given) == {"gw.example", "dead.example"}
    found = resolved_endpoints(given.remote_endpoints, lookup)
    assert [str(it) for it in found] == ["198.51.100.1:4501", "[2001:db8::1]:4502", "192.0.2.7:4502"]
    made = effective(given, found, found[2], lookup, lambda _: True)
    assert [str(it) for it in made.remote_endpoints] == ["192.0.2.7:4502", "198.51.100.1:4502"]
    assert effective(tunnel("dead.example"), (), None, lookup, lambda _: True).remote_endpoints == ()


def test_a_tunnel_of_addresses_is_left_as_it_is() -> None:
    given = tunnel("198.51.100.1")
    assert effective(given, given.remote_endpoints, None, lookup, lambda _: True) is given


def test_own_names_are_the_addresses_that_this_host_has() -> None:
    given = tunnel("198.51.100.1", local=("gw.example",))
    made = effective(given, given.remote_endpoints, None, lookup, lambda address: address.version == 4)
    assert [str(it) for it in made.local_endpoints] == ["192.0.2.7"]


def test_own_addresses_with_different_ports_are_those_of_a_nat() -> None:
    given = tunnel("198.51.100.1", local=("192.0.2.1:4501", "192.0.2.2"))
    made = effective(given, given.remote_endpoints, None, lookup, lambda _: True)
    assert [str(it) for it in made.local_endpoints] == ["192.0.2.1", "192.0.2.2"]


async def test_a_name_is_read_from_the_hosts_file_before_dns(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text(
        "# gw\n192.0.2.7 gw.example gw # ours\n2001:db8::1 GW.example\nnonsense gw.example\n192.0.2.3 gw.example\n"
    )
    found = await resolve("gw.example.", hosts)
    assert ([str(it) for it in found.addresses], found.ttl_s) == (["2001:db8::1", "192.0.2.3", "192.0.2.7"], HOSTS_TTL)


async def test_addresses_of_an_earlier_run_are_used_until_others_are_found() -> None:
    found = asyncio.Event()
    changes: list[str] = []

    async def answer(name: str) -> Resolved:
        await found.wait()
        return Resolved((*KNOWN["gw.example"], ip_address("192.0.2.8")), 3_600.0)

    names = Names(lambda: changes.append("changed"), answer, KNOWN)
    names.follow(["gw.example", "other.example"])
    assert names.known() == KNOWN
    found.set()
    await eventually(lambda: len(names.addresses("gw.example")) == 3)
    assert len(changes) == 2
    names.follow([])
    names.follow(["gw.example"])  # what is used no more is not remembered
    assert names.known() == {}
    names.close()


async def test_names_are_looked_up_again_and_keep_their_addresses_while_that_fails() -> None:
    answers: list[Resolved | None] = [Resolved(KNOWN["gw.example"], 0.0), None]
    changes: list[str] = []

    async def answer(name: str) -> Resolved:
        found = answers.pop(0) if answers else None
        if found is None:
            raise UnresolvedNameError(f"{name}: no name server answers")
        return found

    names = Names(lambda: changes.append("changed"), answer)
    names.follow(["gw.example"])
    await eventually(lambda: len(changes) >= 2)
    assert names.addresses("gw.example") == KNOWN["gw.example"]
    assert names.failure("gw.example") == ""
    names.close()
    assert names.addresses("gw.example") == ()
