"""The client's table of states, the order of servers, and timers."""

from ipaddress import ip_address

import pytest

from warren_vpn.client import timing
from warren_vpn.client.servers import Candidate, ServerOrder
from warren_vpn.client.states import TRANSITIONS, Action, Event, State, transition
from warren_vpn.host.plan import Endpoint
from warren_vpn.profiles.profile import Server

RUNNING = (State.CONNECTING, State.UP, State.RECONNECTING)


@pytest.mark.parametrize("state", RUNNING)
def test_every_stop_closes_the_session_and_restores_the_host(state: State) -> None:
    for event in (Event.STOP, Event.LOGIN_REFUSED, Event.HOST_REFUSED):
        found, actions = transition(state, event)
        assert found is State.STOPPED
        assert actions == (Action.CANCEL_ATTEMPT, Action.CLOSE_SESSION, Action.RESTORE)


def test_nothing_happens_after_the_end() -> None:
    for event in Event:
        assert transition(State.STOPPED, event) == (State.STOPPED, ())


def test_only_a_stop_restores_the_host() -> None:
    for (_, event), (state, actions) in TRANSITIONS.items():
        assert (Action.RESTORE in actions) == (state is State.STOPPED), event


def test_what_leaves_a_session_closes_it_before_the_next_attempt() -> None:
    for (state, event), (_, actions) in TRANSITIONS.items():
        if Action.ATTEMPT in actions and event is not Event.RETRY_DUE:
            assert actions.index(Action.CLOSE_SESSION) < actions.index(Action.ATTEMPT), (state, event)


def test_a_dead_server_gives_its_turn_to_another_one() -> None:
    assert Action.OTHER_SERVER in transition(State.UP, Event.SERVER_DEAD)[1]
    assert Action.OTHER_SERVER not in transition(State.UP, Event.SESSION_LOST)[1]


def test_a_session_that_another_login_replaces_ends_the_client() -> None:
    assert transition(State.UP, Event.SESSION_REPLACED)[0] is State.STOPPED
    assert transition(State.RECONNECTING, Event.SESSION_REPLACED) == (State.RECONNECTING, ())


def test_late_events_are_ignored() -> None:
    assert transition(State.CONNECTING, Event.SESSION_LOST) == (State.CONNECTING, ())
    assert transition(State.UP, Event.RETRY_DUE) == (State.UP, ())


def candidate(name: str, rank: int) -> Candidate:
    return Candidate(name, rank, Endpoint(ip_address("192.0.2.1"), (500, 4500)), 500, 4500)


def test_servers_have_their_turn_in_order_and_a_round_ends_with_a_pause() -> None:
    names = ("192.0.2.1", "192.0.2.2", "192.0.2.3")
    order = ServerOrder([Server(host=name) for name in names], {})
    assert [str(order.current)] + [order.advance() or str(order.current) for _ in range(2)] == [*names]
    assert order.advance()
    assert order.current is order.preferred
    order.advance()
    order.start_again()
    assert str(order.current) == names[0]


def test_a_candidate_is_named_with_its_address() -> None:
    assert str(candidate("vpn.example", 0)) == "vpn.example (192.0.2.1)"
    assert str(candidate("192.0.2.1", 0)) == "192.0.2.1"


@pytest.mark.parametrize("inactivity", [10, 60, 3600])
def test_a_silent_server_is_dead_after_the_inactivity(inactivity: int) -> None:
    retransmission = timing.retransmission(inactivity)
    waits = [retransmission.delay(sent) for sent in range(1, retransmission.tries + 2)]
    assert timing.dpd_delay(inactivity) + sum(waits) == pytest.approx(inactivity)
