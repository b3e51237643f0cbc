"""The addresses of the servers' names, and the candidates made of them."""

import asyncio
import socket
from ipaddress import ip_address
from typing import Any

import pytest

from warren_cli.errors import CliError
from warren_vpn.client.run import list_candidates, resolve
from warren_vpn.profiles.profile import Server

KNOWN = {"vpn.example": (ip_address("192.0.2.1"),)}


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Names and addresses, in place of the host's resolver; any other name is unknown."""
    known: dict[str, list[str]] = {}

    async def getaddrinfo(self: Any, host: str, port: Any, **options: Any) -> list[tuple[Any, ...]]:
        if host not in known:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return [(None, None, None, "", (address, 0)) for address in known[host]]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)
    return known


async def test_an_address_needs_no_resolver() -> None:
    assert await resolve("2001:db8::1", {}) == (ip_address("2001:db8::1"),)


async def test_a_name_has_a_few_addresses_each_once(answers: dict[str, list[str]]) -> None:
    answers["vpn.example"] = ["192.0.2.1", "192.0.2.1", *(f"192.0.2.{number}" for number in range(2, 9))]
    assert [str(one) for one in await resolve("vpn.example", {})] == [
        "192.0.2.1",
        "192.0.2.2",
        "192.0.2.3",
        "192.0.2.4",
    ]


async def test_with_the_kill_switch_in_force_the_former_addresses_serve(answers: dict[str, list[str]]) -> None:
    assert await resolve("vpn.example", KNOWN) == KNOWN["vpn.example"]
    with pytest.raises(CliError, match="warren vpn restore"):
        await resolve("other.example", KNOWN)


def test_candidates_are_in_the_order_of_preference() -> None:
    servers = (Server(host="a.example"), Server(host="192.0.2.9", port=4501, ike_port=4501))
    found = {"a.example": (ip_address("192.0.2.1"), ip_address("2001:db8::1")), "192.0.2.9": (ip_address("192.0.2.9"),)}
    candidates = list_candidates(servers, found)
    assert [(str(one), one.rank, one.endpoint.ports) for one in candidates] == [
        ("a.example (192.0.2.1)", 0, (500, 4500)),
        ("a.example (2001:db8::1)", 0, (500, 4500)),
        ("192.0.2.9", 1, (4501,)),
    ]
