from datetime import UTC, datetime, timedelta

import pytest

from warren_contracts.peers import PresenceState
from warren_contracts.status import DriverState, DriverStatus
from warren_registry.presence.connections import ConnectionKey, ConnectionTable, PeerConnection
from warren_registry.presence.model import TRANSITIONS, PeerPresence, Signal, after, is_silent

START = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def test_every_state_answers_every_signal() -> None:
    assert set(TRANSITIONS) == {(state, signal) for state in PresenceState for signal in Signal}


def test_a_heartbeat_brings_a_peer_online_and_its_absence_offline_within_30_seconds() -> None:
    online = after(PeerPresence(), Signal.HEARTBEAT, at(0))
    assert (online.state, online.since, online.last_seen) == (PresenceState.ONLINE, at(0), at(0))
    later = after(online, Signal.HEARTBEAT, at(10))
    assert (later.since, later.last_seen) == (at(0), at(10))
    assert not is_silent(later, at(38), START)
    assert is_silent(later, at(39), START)
    offline = after(later, Signal.SILENT, at(39))
    assert (offline.state, offline.since, offline.reason) == (PresenceState.OFFLINE, at(39), "no heartbeat")
    assert not is_silent(offline, at(99), START)


@pytest.mark.parametrize("signal", [Signal.STOPPING, Signal.LAST_CLOSED])
def test_a_clean_stop_is_offline_at_once(signal: Signal) -> None:
    assert after(after(PeerPresence(), Signal.HEARTBEAT, at(0)), signal, at(1)).state is PresenceState.OFFLINE


def test_a_stop_that_is_older_than_the_last_heartbeat_changes_nothing() -> None:
    online = after(PeerPresence(), Signal.HEARTBEAT, at(10))
    assert after(online, Signal.LAST_CLOSED, at(9)) == online


def test_missing_heartbeats_do_not_count_while_nothing_was_received() -> None:
    online = after(PeerPresence(), Signal.HEARTBEAT, at(0))
    assert not is_silent(online, at(108), at(80))
    assert is_silent(online, at(109), at(80))


def connection(user: str, cid: int, server: str = "N1") -> PeerConnection:
    return PeerConnection(user, ConnectionKey(server, cid))


def test_an_old_connections_end_after_the_new_ones_begin_leaves_one_connection() -> None:
    book = ConnectionTable()
    assert book.opened(connection("gw1", 1)) == 1
    assert book.opened(connection("gw1", 2)) == 2
    assert book.closed(connection("gw1", 1)) == 1
    assert not book.raise_alert("gw1")
    assert book.closed(connection("gw1", 2)) == 0


def test_a_shared_key_is_alerted_once_until_one_connection_is_left() -> None:
    book = ConnectionTable()
    book.opened(connection("gw1", 1))
    book.opened(connection("gw1", 1, server="N2"))
    assert book.raise_alert("gw1")
    assert not book.raise_alert("gw1")
    book.replace("gw1", [connection("gw1", 1)])
    assert not book.raise_alert("gw1")
    book.opened(connection("gw1", 9))
    assert book.raise_alert("gw1")


def test_connections_of_a_dead_server_are_removed_by_the_next_connz() -> None:
    """A server that dies sends no DISCONNECT; CONNZ asks those that are left."""
    book = ConnectionTable()
    book.replace_all([connection("gw1", 1), connection("gw1", 2, server="N2"), connection("gw2", 3)])
    book.replace_all([connection("gw1", 2, server="N2")])
    assert book.counts() == {"gw1": 1}


UNREACHABLE, UP = (DriverStatus(kind="strongswan", state=it) for it in (DriverState.UNREACHABLE, DriverState.UP))


def test_the_states_of_a_peer_s_drivers_are_those_of_its_last_heartbeat() -> None:
    unreachable = after(PeerPresence(), Signal.HEARTBEAT, at(0), (UNREACHABLE,))
    assert unreachable.drivers == (UNREACHABLE,)
    up = after(unreachable, Signal.HEARTBEAT, at(10), (UP,))
    assert (up.drivers, up.since) == ((UP,), at(0))
    assert after(up, Signal.SILENT, at(45)).drivers == ()
