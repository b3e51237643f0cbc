"""The kernel's messages about nftables: which of them concern our table, and whether it exists afterwards."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren_guard.adapters import netlink
from warren_guard.domain.nft_events import TableWatch

NEWTABLE, DELTABLE, NEWRULE, DELRULE, NEWGEN = 0, 2, 6, 8, 15
INET, IPV4 = 1, 2


def message(kind: int, table: str = "", family: int = INET) -> bytes:
    """A netlink message as linux/netlink.h lays it out."""
    name = table.encode() + b"\0"
    attribute = struct.pack("=HH", 4 + len(name), 1) + name + b"\0" * (-len(name) % 4) if table else b""
    body = struct.pack("=BBH", family, 0, 0) + attribute
    return struct.pack("=IHHII", 16 + len(body), 10 << 8 | kind, 0, 0, 7) + body


def fed(*messages: bytes) -> bool | None:
    return TableWatch().feed(b"".join(messages))


def test_a_flushed_ruleset_leaves_no_table() -> None:
    assert fed(message(DELRULE, "warren"), message(DELTABLE, "warren"), message(NEWGEN)) is False


def test_a_replaced_table_exists() -> None:
    assert fed(message(DELTABLE, "warren"), message(NEWTABLE, "warren"), message(NEWGEN)) is True


def test_a_changed_rule_is_noticed() -> None:
    assert fed(message(NEWRULE, "warren"), message(NEWGEN)) is True


@pytest.mark.parametrize(
    "other", [message(DELTABLE, "filter"), message(DELTABLE, "warren", IPV4), message(DELTABLE, "warrens")]
)
def test_other_tables_do_not_matter(other: bytes) -> None:
    assert fed(other, message(NEWGEN)) is None


def test_transactions_of_others_are_noticed_and_own_ones_are_not() -> None:
    watch = TableWatch()
    watch.feed(message(NEWRULE, "warren") + message(NEWGEN))
    assert not watch.take_others()
    watch.feed(message(NEWRULE, "nat") + message(NEWGEN))
    assert watch.take_others()
    assert not watch.take_others()
    watch.feed(message(DELTABLE, "warren") + message(NEWGEN))  # `flush ruleset`
    assert watch.take_others()


def test_a_transaction_may_take_several_datagrams() -> None:
    watch = TableWatch()
    assert watch.feed(message(DELTABLE, "warren")) is None
    assert watch.feed(message(NEWGEN)) is False
    assert watch.feed(message(NEWGEN)) is None


@given(st.binary(max_size=200))
def test_whatever_arrives_raises_nothing(datagram: bytes) -> None:
    watch = TableWatch()
    watch.feed(datagram)
    watch.feed(message(NEWRULE, "warren") + datagram)


@pytest.mark.parametrize(
    ("kind", "table", "expected"),
    [
        (16, 0, {"addresses"}),
        (20, 0, {"addresses"}),
        (24, 254, {"routes"}),
        (25, 255, {"routes"}),
        (24, 220, set()),  # charon adds some with every tunnel
        (25, 220, {"tunnel-routes"}),
        (80, 0, {"switches"}),
    ],
)
def test_changes_of_the_network_are_of_addresses_routes_or_of_charons_routes_that_are_removed(
    kind: int, table: int, expected: set[str]
) -> None:
    body = bytes((2, 24, 0, 0, table, 4, 0, 1)) + bytes(4)  # struct rtmsg
    datagram = struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body
    assert netlink.kinds_of(datagram) == expected
    assert netlink.kinds_of(datagram[:10]) == set()
    assert netlink.kinds_of(None) == {"addresses", "routes", "switches", "tunnel-routes"}
