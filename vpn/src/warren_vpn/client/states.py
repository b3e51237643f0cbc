"""The client's states as a table. Pure.

    connecting     no tunnel yet: the servers are tried in order of preference
    up             traffic passes
    reconnecting   the tunnel was up; its addresses, routes and DNS stay, so that packets wait or are dropped, not sent in clear
    stopped        the session is closed and the host is put back

A trigger that has no entry in a state has no meaning there and is ignored: it was under way when the state changed.
"""

from enum import StrEnum


class ClientState(StrEnum):
    """See the module."""

    CONNECTING = "connecting"
    UP = "up"
    RECONNECTING = "reconnecting"
    STOPPED = "stopped"


class ClientTrigger(StrEnum):
    """What happened."""

    CONNECTED = "connected"
    """A server has authenticated, and the host is configured."""
    ATTEMPT_FAILED = "attempt-failed"
    SESSION_REPLACED = "session-replaced"
    """The same user has logged in elsewhere: to connect again would end that session, and so on without end."""
    LOGIN_REFUSED = "login-refused"
    """A server refused the password. At the start trying again would only lock the user out; where it was accepted before, as when
    the user's logins are limited because somebody else guesses, stopping would let the host's packets leave in clear."""
    HOST_REFUSED = "host-refused"
    """A change of the host failed."""
    RETRY_DUE = "retry-due"
    SESSION_LOST = "session-lost"
    """The server ended it, or it cannot follow the host's addresses."""
    SERVER_DEAD = "server-dead"
    """It did not respond for the profile's inactivity: another server has its turn first."""
    TUN_REMOVED = "tun-removed"
    NETWORK_CHANGED = "network-changed"
    PREFERRED_DUE = "preferred-due"
    """The hold-down is over: a more preferred server may be asked whether it is back."""
    PREFERRED_ANSWERS = "preferred-answers"
    STOP = "stop"


class ClientAction(StrEnum):
    """What is done, in the order of the table."""

    ATTEMPT = "attempt"
    ATTEMPT_AFTER_LOSS = "attempt-after-loss"
    """Try again, at once unless the sessions before this one ended soon too."""
    NEXT_SERVER = "next-server"
    """Try the next server at once, or the first one after a pause when each had its turn."""
    FIRST_SERVER = "first-server"
    OTHER_SERVER = "other-server"
    WATCH_SESSION = "watch-session"
    CANCEL_ATTEMPT = "cancel-attempt"
    CLOSE_SESSION = "close-session"
    DROP_TUN = "drop-tun"
    MOVE = "move"
    ASK_PREFERRED = "ask-preferred"
    WAIT_REFUSED = "wait-refused"
    """Try again after a pause that locks nobody out."""
    RESTORE = "restore"


Transition = tuple[ClientState, tuple[ClientAction, ...]]
_C, _U, _R, _S = ClientState.CONNECTING, ClientState.UP, ClientState.RECONNECTING, ClientState.STOPPED
_STOPPED: Transition = (_S, (ClientAction.CANCEL_ATTEMPT, ClientAction.CLOSE_SESSION, ClientAction.RESTORE))


def _trying(state: ClientState) -> dict[tuple[ClientState, ClientTrigger], Transition]:
    return {
        (state, ClientTrigger.CONNECTED): (_U, (ClientAction.WATCH_SESSION,)),
        (state, ClientTrigger.ATTEMPT_FAILED): (state, (ClientAction.CLOSE_SESSION, ClientAction.NEXT_SERVER)),
        (state, ClientTrigger.RETRY_DUE): (state, (ClientAction.ATTEMPT,)),
        (state, ClientTrigger.NETWORK_CHANGED): (
            state, (ClientAction.CANCEL_ATTEMPT, ClientAction.CLOSE_SESSION, ClientAction.FIRST_SERVER, ClientAction.ATTEMPT),
        ),
        (state, ClientTrigger.TUN_REMOVED): (
            state, (ClientAction.CANCEL_ATTEMPT, ClientAction.CLOSE_SESSION, ClientAction.DROP_TUN, ClientAction.ATTEMPT),
        ),
    }  # fmt: skip


TRANSITIONS: dict[tuple[ClientState, ClientTrigger], Transition] = {
    **_trying(_C),
    **_trying(_R),
    (_U, ClientTrigger.SESSION_LOST): (_R, (ClientAction.CLOSE_SESSION, ClientAction.ATTEMPT_AFTER_LOSS)),
    (_U, ClientTrigger.SERVER_DEAD): (_R, (ClientAction.CLOSE_SESSION, ClientAction.OTHER_SERVER, ClientAction.ATTEMPT)),
    (_U, ClientTrigger.TUN_REMOVED): (_R, (ClientAction.CLOSE_SESSION, ClientAction.DROP_TUN, ClientAction.ATTEMPT)),
    (_U, ClientTrigger.NETWORK_CHANGED): (_U, (ClientAction.MOVE,)),
    (_U, ClientTrigger.PREFERRED_DUE): (_U, (ClientAction.ASK_PREFERRED,)),
    (_U, ClientTrigger.PREFERRED_ANSWERS): (_R, (ClientAction.CLOSE_SESSION, ClientAction.FIRST_SERVER, ClientAction.ATTEMPT)),
    **{(state, event): _STOPPED for state in (_C, _U, _R) for event in (ClientTrigger.STOP, ClientTrigger.HOST_REFUSED)},
    (_C, ClientTrigger.LOGIN_REFUSED): _STOPPED,
    (_R, ClientTrigger.LOGIN_REFUSED): (
        _R, (ClientAction.CLOSE_SESSION, ClientAction.OTHER_SERVER, ClientAction.WAIT_REFUSED),
    ),
    (_U, ClientTrigger.SESSION_REPLACED): _STOPPED,
}  # fmt: skip


def transition(state: ClientState, event: ClientTrigger) -> Transition:
    """The next state and what is done on the way."""
    return TRANSITIONS.get((state, event), (state, ()))
