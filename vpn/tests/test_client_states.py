"""The client's table of states, the order of servers, and timers."""

from ipaddress import ip_address

import pytest

from warren_vpn.client import timing
from warren_vpn.client.servers import ServerCandidate, ServerOrder
from warren_vpn.client.states import TRANSITIONS, ClientAction, ClientState, ClientTrigger, transition
from warren_vpn.host.plan import ServerEndpoint
from warren_vpn.profiles.profile import ProfileServer

RUNNING = (ClientState.CONNECTING, ClientState.UP, ClientState.RECONNECTING)


@pytest.mark.parametrize("state", RUNNING)
def test_every_stop_closes_the_session_and_restores_the_host(state: ClientState) -> None:
    for event in (ClientTrigger.STOP, ClientTrigger.HOST_REFUSED):
        found, actions = transition(state, event)
        assert found is ClientState.STOPPED
        assert actions == (ClientAction.CANCEL_ATTEMPT, ClientAction.CLOSE_SESSION, ClientAction.RESTORE)


def test_a_refused_login_ends_the_client_only_before_the_first_session() -> None:
    """Later the host's packets would leave in clear, as soon as somebody else's guesses let the server refuse the user."""
    assert transition(ClientState.CONNECTING, ClientTrigger.LOGIN_REFUSED)[0] is ClientState.STOPPED
    state, actions = transition(ClientState.RECONNECTING, ClientTrigger.LOGIN_REFUSED)
    assert state is ClientState.RECONNECTING
    assert actions == (ClientAction.CLOSE_SESSION, ClientAction.OTHER_SERVER, ClientAction.WAIT_REFUSED)


def test_nothing_happens_after_the_end() -> None:
    for event in ClientTrigger:
        assert transition(ClientState.STOPPED, event) == (ClientState.STOPPED, ())


def test_only_a_stop_restores_the_host() -> None:
    for (_, event), (state, actions) in TRANSITIONS.items():
        assert (ClientAction.RESTORE in actions) == (state is ClientState.STOPPED), event


def test_what_leaves_a_session_closes_it_before_the_next_attempt() -> None:
    for (state, event), (_, actions) in TRANSITIONS.items():
        if ClientAction.ATTEMPT in actions and event is not ClientTrigger.RETRY_DUE:
            assert actions.index(ClientAction.CLOSE_SESSION) < actions.index(ClientAction.ATTEMPT), (state, event)


def test_a_dead_server_gives_its_turn_to_another_one() -> None:
    assert ClientAction.OTHER_SERVER in transition(ClientState.UP, ClientTrigger.SERVER_DEAD)[1]
    assert ClientAction.OTHER_SERVER not in transition(ClientState.UP, ClientTrigger.SESSION_LOST)[1]


def test_a_session_that_another_login_replaces_ends_the_client() -> None:
    assert transition(ClientState.UP, ClientTrigger.SESSION_REPLACED)[0] is ClientState.STOPPED
    assert transition(ClientState.RECONNECTING, ClientTrigger.SESSION_REPLACED) == (ClientState.RECONNECTING, ())


def test_late_events_are_ignored() -> None:
    assert transition(ClientState.CONNECTING, ClientTrigger.SESSION_LOST) == (ClientState.CONNECTING, ())
    assert transition(ClientState.UP, ClientTrigger.RETRY_DUE) == (ClientState.UP, ())


def candidate(name: str, rank: int) -> ServerCandidate:
    return ServerCandidate(name, rank, ServerEndpoint(ip_address("192.0.2.1"), (500, 4500)), 500, 4500)


def test_servers_have_their_turn_in_order_and_a_round_ends_with_a_pause() -> None:
    names = ("192.0.2.1", "192.0.2.2", "192.0.2.3")
    order = ServerOrder([ProfileServer(host=name) for name in names], {})
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
