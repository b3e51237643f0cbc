"""Redundant gateways: operators give both a network and a priority, and announcements follow. On the fake and on PostgreSQL."""

from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from warren_contracts.addresses import Endpoint
from warren_contracts.peers import Announcement
from warren_contracts.problems import ConflictError, InvalidInputError
from warren_intent.claims import PolicyClaims
from warren_process.token_bucket import RateLimiter
from warren_registry.peers import membership
from warren_registry.peers.address_claims import AddressClaims
from warren_registry.peers.announcement import check_announcement
from warren_registry.peers.membership import Announced
from warren_registry.peers.model import Peer, record_of
from warren_registry.ports import Database

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NET = ip_network("10.0.0.0/16")
SAID = Announcement(endpoints=(Endpoint(ip_address("192.0.2.1")),), subnets=(NET,))


class Fleet:
    """Two hubs whose join tokens name the same network."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._rate_limiter = RateLimiter(20.0, 0.1)

    async def enrol(self) -> None:
        async with self._database.transaction() as tables:
            for number, name in enumerate(("hub-1", "hub-2"), start=1):
                nkey = "U" + "AB"[number - 1] * 55
                version = await tables.fleet.next_revision()
                await tables.peers.save(Peer(name, nkey, ("hub",), version, "t", NOW, allowed=(NET,)))

    async def announce(self, peer: str) -> Announced:
        async with self._database.transaction() as tables:
            return await membership.announce(tables, peer, SAID, PolicyClaims(()), NOW, self._rate_limiter)

    async def set_priority(self, peer: str, priority: int | None) -> None:
        async with self._database.transaction() as tables:
            await membership.set_priority(tables, peer, priority, "ann", NOW)

    async def events(self) -> list[str]:
        async with self._database.transaction() as tables:
            found = await tables.after_commit.pending_events(99)
        return [event.subject.removeprefix("warren.v1.event.registry.") for event in found]


async def test_a_network_is_shared_as_soon_as_the_priorities_differ(database: Database) -> None:
    fleet = Fleet(database)
    await fleet.enrol()
    assert (await fleet.announce("hub-1")).refused == ()
    for changed in (True, False):  # the second one is a repetition: nothing is stored
        answer = await fleet.announce("hub-2")
        assert (answer.changed, [it.field for it in answer.refused]) == (changed, ["subnets/0"])
        assert "different priorities" in answer.refused[0].message
    record = record_of(answer.peer, 1, 1)
    assert (record.subnets, record.endpoints) == ((), SAID.endpoints)
    await fleet.set_priority("hub-1", 200)
    await fleet.set_priority("hub-2", 200)
    assert (await fleet.announce("hub-2")).refused
    await fleet.set_priority("hub-2", 100)
    answer = await fleet.announce("hub-2")
    assert (answer.changed, answer.refused) == (True, ())
    record = record_of(answer.peer, 1, 1)
    assert (record.subnets, record.priority) == ((NET,), 100)
    for number in (200, None):
        with pytest.raises(ConflictError, match="hub-1 protects"):
            await fleet.set_priority("hub-2", number)
    assert (await fleet.events()).count("priority.hub-2") == 2


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"endpoints": ["192.0.2.1", "192.0.2.1"]}, "endpoints/1", "192.0.2.1 is listed twice: remove it"),
        (
            {"endpoints": ["192.0.2.1", "224.0.0.1"]},
            "endpoints/1",
            "not a unicast address: announce the address of the gateway",
        ),
        ({"echo_addresses": ["10.0.0.1", "10.9.0.1"]}, "echo_addresses/1", "in none of the announced subnets"),
        ({"echo_addresses": ["2001:db8::1"]}, "echo_addresses/0", "in none of the announced subnets"),
    ],
)
def test_impossible_addresses_are_refused_with_field_and_remedy(
    changes: dict[str, Any], field: str, words: str
) -> None:
    said = Announcement.model_validate({"subnets": ["10.0.0.0/24"], **changes})
    peer = Peer("hub-1", "U" + "A" * 55, ("hub",), 1, "t", NOW)
    with pytest.raises(InvalidInputError) as refused:
        check_announcement(peer, said, AddressClaims())
    ((refused_field, message),) = [(it.field, it.message) for it in refused.value.errors]
    assert (refused_field, words in message) == (field, True)


def test_echo_addresses_are_part_of_the_record() -> None:
    said = Announcement.model_validate({"subnets": ["10.0.0.0/24"], "echo_addresses": ["10.0.0.1"]})
    peer = Peer("hub-1", "U" + "A" * 55, ("hub",), 1, "t", NOW)
    check_announcement(peer, said, AddressClaims())
    assert record_of(replace(peer, announcement=said), 1, 1).echo_addresses == (ip_address("10.0.0.1"),)
