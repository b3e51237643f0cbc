"""The servers of a profile: the addresses of their names, the candidates made of them, and whose turn it is."""

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

import pytest

from warren_vpn.client.servers import ServerCandidate, ServerOrder
from warren_vpn.host.changes import Change, Original, ResolvConfFileChange, ResolvedChange
from warren_vpn.host.questions import outside_servers
from warren_vpn.profiles.profile import ProfileServer

Addresses = tuple[IPv4Address | IPv6Address, ...]
NAMED = (
    ProfileServer(host="a.example"),
    ProfileServer(host="192.0.2.9", port=4501, ike_port=4501),
    ProfileServer(host="b.example"),
)


def addresses(*texts: str) -> Addresses:
    return tuple(map(ip_address, texts))


def shown(candidates: Sequence[ServerCandidate]) -> list[str]:
    return [str(candidate) for candidate in candidates]


def turn(order: ServerOrder) -> str:
    return str(order.current)


def test_candidates_are_in_the_order_of_preference() -> None:
    order = ServerOrder(NAMED, {"b.example": addresses("192.0.2.7")})
    assert order.names == ("a.example", "b.example")
    assert shown(order.candidates) == ["192.0.2.9", "b.example (192.0.2.7)"]
    order.take({"a.example": addresses("192.0.2.1", "2001:db8::1")})
    assert [(str(one), one.rank, one.endpoint.ports) for one in order.candidates] == [
        ("a.example (192.0.2.1)", 0, (500, 4500)),
        ("a.example (2001:db8::1)", 0, (500, 4500)),
        ("192.0.2.9", 1, (4501,)),
        ("b.example (192.0.2.7)", 2, (500, 4500)),
    ]
    assert order.remembered == {"a.example": addresses("192.0.2.1", "2001:db8::1"), "b.example": addresses("192.0.2.7")}


def test_a_name_has_a_few_addresses() -> None:
    order = ServerOrder(NAMED[:1], {})
    order.take({"a.example": addresses(*(f"192.0.2.{number}" for number in range(1, 9)))})
    assert len(order.candidates) == 4


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({}, "a.example (192.0.2.2)"),
        ({"a.example": addresses("192.0.2.2", "192.0.2.1")}, "a.example (192.0.2.2)"),
        ({"a.example": addresses("192.0.2.5", "192.0.2.6")}, "a.example (192.0.2.5)"),  # the server has moved
        ({"b.example": addresses("192.0.2.7")}, "a.example (192.0.2.2)"),
    ],
)
def test_the_turn_stays_with_its_address_else_with_its_server(found: Mapping[str, Addresses], expected: str) -> None:
    order = ServerOrder(NAMED, {"a.example": addresses("192.0.2.1", "192.0.2.2")})
    assert not order.advance()
    order.take(found)
    assert turn(order) == expected


def test_without_any_address_there_is_nobody_to_try_and_each_round_is_over_at_once() -> None:
    order = ServerOrder(NAMED[:1], {})
    assert (order.current, order.preferred, order.endpoints()) == (None, None, ())
    assert order.advance()
    order.take({"a.example": addresses("192.0.2.1")})
    assert turn(order) == "a.example (192.0.2.1)"


# ---- the DNS servers of the host's own network


FILE = (
    "nameserver 192.0.2.53\nnameserver fe80::1%wan\nnameserver 2001:db8::53\nnameserver x\nnameserver fe80::2\n"
    'nameserver fe80::3%a"b\nnameserver fe80::4%1\nnameserver fe80::5%999999\noptions edns0\n'
)
SERVERS = ["192.0.2.53", "fe80::1%wan", "2001:db8::53", "fe80::4%lo"]
TUNNEL = "nameserver 10.50.0.1\n"


def file_change(path: Path, original: Original) -> ResolvConfFileChange:
    return ResolvConfFileChange(path=str(path), original=original, written=(TUNNEL,))


@pytest.mark.parametrize(
    ("content", "change", "expected"),
    [
        (FILE, None, SERVERS),
        (TUNNEL, Original(content=FILE), SERVERS),
        # another program has written it since, as after a change of network
        ("nameserver 192.0.2.54\n", Original(content=FILE), ["192.0.2.54"]),
        (TUNNEL, Original(target="link.conf"), ["192.0.2.55"]),
        (TUNNEL, Original(), []),
    ],
)
def test_they_are_those_of_the_resolvers_file_as_it_was(
    tmp_path: Path, content: str, change: Original | None, expected: list[str]
) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text(content)
    (tmp_path / "link.conf").write_text("nameserver 192.0.2.55\n")
    changes: tuple[Change, ...] = () if change is None else (file_change(path, change),)
    assert [str(one) for one in outside_servers(changes, path)] == expected


def test_with_systemd_resolved_they_are_its_servers_but_those_of_the_tunnel(tmp_path: Path) -> None:
    path, upstream = tmp_path / "resolv.conf", tmp_path / "upstream"
    path.write_text("nameserver 127.0.0.53\n")
    upstream.write_text(f"{TUNNEL}nameserver 192.0.2.53\n")
    change = ResolvedChange(device="t0", servers=addresses("10.50.0.1"))
    assert outside_servers((change,), path, upstream) == addresses("192.0.2.53")
    assert outside_servers((), tmp_path / "none", upstream) == ()
