"""Whose announcements are a peer's, when several hosts use its identity."""

from datetime import UTC, datetime, timedelta

import pytest

from warren_registry.presence.connections import (
    ConnectionHost,
    ConnectionKey,
    ConnectionTable,
    PeerConnection,
    parse_host,
)
from warren_registry.presence.holders import RETURN, IdentityHolders

NOW = datetime(2026, 11, 29, tzinfo=UTC)


def host(name: str, instance: str = "", since: int = 0) -> ConnectionHost:
    return ConnectionHost("192.0.2.1", name, f"id-{name}", instance or f"run-{name}", NOW + timedelta(seconds=since))


class Bed:
    def __init__(self) -> None:
        self.now = NOW
        self.table = ConnectionTable()
        self.holders = IdentityHolders(self.table, lambda: self.now)

    def opens(self, cid: int, host: ConnectionHost) -> None:
        self.table.opened(PeerConnection("gw1", ConnectionKey("N", cid), host))

    def closes(self, cid: int) -> None:
        self.table.closed(PeerConnection("gw1", ConnectionKey("N", cid)))

    def announces(self, host: ConnectionHost) -> bool:
        """Whether it is accepted."""
        if self.holders.other_holder("gw1", host) is None:
            self.holders.accept("gw1", host)
            return True
        self.holders.refused("gw1")
        return False


OLD, CLONE = host("old"), host("clone", since=5)


def test_the_second_host_is_refused_while_the_first_is_connected() -> None:
    bed = Bed()
    bed.opens(1, OLD)
    assert bed.announces(OLD)
    assert not bed.announces(CLONE)  # its own connection may not be reported yet
    bed.opens(2, CLONE)
    assert not bed.announces(CLONE)
    assert bed.announces(OLD)
    assert bed.holders.is_other("gw1", CLONE.instance)
    assert not bed.holders.is_other("gw1", OLD.instance)
    assert not bed.holders.is_other("gw1", "")  # an agent that does not name its process


def test_a_clone_waits_for_a_holder_that_restarts() -> None:
    bed = Bed()
    bed.opens(1, OLD)
    assert bed.announces(OLD)
    assert not bed.announces(CLONE)
    bed.closes(1)
    bed.opens(2, CLONE)
    assert not bed.announces(CLONE)
    assert bed.announces(host("old", "another run"))
    bed.closes(1)
    bed.now += RETURN
    assert not bed.announces(CLONE)  # since now it is known that the holder has no connection
    bed.now += RETURN
    assert bed.announces(CLONE)


def test_a_moved_disk_is_accepted_at_once() -> None:
    bed = Bed()
    bed.opens(1, OLD)
    assert bed.announces(OLD)
    bed.closes(1)
    bed.opens(2, CLONE)
    assert bed.announces(CLONE)


def test_a_process_that_reconnects_is_one_host_and_a_clone_with_the_same_cards_is_another() -> None:
    bed = Bed()
    bed.opens(1, OLD)
    bed.opens(2, OLD)
    assert bed.table.hosts("gw1") == (OLD,)
    assert not bed.table.raise_alert("gw1")
    assert bed.announces(OLD)
    same_cards = host("old", "of the clone", 9)
    bed.opens(3, same_cards)
    assert not bed.announces(same_cards)
    assert bed.table.raise_alert("gw1")
    assert bed.table.shared() == ("gw1",)
    bed.closes(3)
    assert bed.table.shared() == ()


def test_after_a_restart_of_the_registry_the_oldest_connection_holds_the_record() -> None:
    bed = Bed()
    bed.opens(1, CLONE)
    bed.opens(2, OLD)
    assert not bed.announces(CLONE)
    assert bed.announces(OLD)


def test_clients_that_do_not_name_their_process_are_never_refused() -> None:
    bed = Bed()
    bed.opens(1, ConnectionHost("192.0.2.1"))
    bed.opens(2, ConnectionHost("192.0.2.2"))
    assert bed.announces(ConnectionHost("192.0.2.2"))
    assert len(bed.table.hosts("gw1")) == 2


@pytest.mark.parametrize(
    "name", ["", "gw1", "agent:gw1", "agent:gw1:x:y:z", "agent:gw1:" + "a" * 16 + ":" + "b" * 16 + ":a b", 7, None]
)
def test_what_a_client_says_of_itself_is_not_trusted_to_be_well_formed(name: object) -> None:
    assert parse_host({"name": name, "start": "never"}, "192.0.2.1") == ConnectionHost("192.0.2.1")


def test_a_host_is_read_of_the_name_of_its_connection() -> None:
    entry = {"name": f"agent:gw1:{'a' * 16}:{'b' * 16}:rack-1", "start": "2026-11-29T00:00:00Z"}
    assert parse_host(entry, "192.0.2.1") == ConnectionHost("192.0.2.1", "rack-1", "a" * 16, "b" * 16, NOW)
