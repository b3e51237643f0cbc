"""The client's states as a table. Pure.

    connecting     no tunnel yet: the servers are tried in order of preference
    up             traffic passes
    reconnecting   the tunnel was up; its addresses, routes and DNS stay, so that packets wait or are dropped, not sent in clear
    stopped        the session is closed and the host is put back

An event that has no entry in a state has no meaning there and is ignored: it was under way when the state changed.
"""

from enum import StrEnum


class State(StrEnum):
    """See the module."""

    CONNECTING = "connecting"
    UP = "up"
    RECONNECTING = "reconnecting"
    STOPPED = "stopped"


class Event(StrEnum):
    """What happened."""

    CONNECTED = "connected"
    """A server has authenticated, and the host is configured."""
    ATTEMPT_FAILED = "attempt-failed"
    SESSION_REPLACED = "session-replaced"
    """The same user has logged in elsewhere: to connect again would end that session, and so on without end."""
    LOGIN_REFUSED = "login-refused"
    """A server refused the password: trying again would only lock the user out."""
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


class Action(StrEnum):
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
    RESTORE = "restore"


Transition = tuple[State, tuple[Action, ...]]
_C, _U, _R, _S = State.CONNECTING, State.UP, State.RECONNECTING, State.STOPPED
_STOPPED: Transition = (_S, (Action.CANCEL_ATTEMPT, Action.CLOSE_SESSION, Action.RESTORE))


def _trying(state: State) -> dict[tuple[State, Event], Transition]:
    return {
        (state, Event.CONNECTED): (_U, (Action.WATCH_SESSION,)),
        (state, Event.ATTEMPT_FAILED): (state, (Action.CLOSE_SESSION, Action.NEXT_SERVER)),
        (state, Event.RETRY_DUE): (state, (Action.ATTEMPT,)),
        (state, Event.NETWORK_CHANGED): (
            state, (Action.CANCEL_ATTEMPT, Action.CLOSE_SESSION, Action.FIRST_SERVER, Action.ATTEMPT),
        ),
        (state, Event.TUN_REMOVED): (
            state, (Action.CANCEL_ATTEMPT, Action.CLOSE_SESSION, Action.DROP_TUN, Action.ATTEMPT),
        ),
    }  # fmt: skip


TRANSITIONS: dict[tuple[State, Event], Transition] = {
    **_trying(_C),
    **_trying(_R),
    (_U, Event.SESSION_LOST): (_R, (Action.CLOSE_SESSION, Action.ATTEMPT_AFTER_LOSS)),
    (_U, Event.SERVER_DEAD): (_R, (Action.CLOSE_SESSION, Action.OTHER_SERVER, Action.ATTEMPT)),
    (_U, Event.TUN_REMOVED): (_R, (Action.CLOSE_SESSION, Action.DROP_TUN, Action.ATTEMPT)),
    (_U, Event.NETWORK_CHANGED): (_U, (Action.MOVE,)),
    (_U, Event.PREFERRED_DUE): (_U, (Action.ASK_PREFERRED,)),
    (_U, Event.PREFERRED_ANSWERS): (_R, (Action.CLOSE_SESSION, Action.FIRST_SERVER, Action.ATTEMPT)),
    **{(state, event): _STOPPED for state in (_C, _U, _R) for event in (
        Event.STOP, Event.LOGIN_REFUSED, Event.HOST_REFUSED,
    )},
    (_U, Event.SESSION_REPLACED): _STOPPED,
}  # fmt: skip


def transition(state: State, event: Event) -> Transition:
    """The next state and what is done on the way."""
    return TRANSITIONS.get((state, event), (state, ()))
