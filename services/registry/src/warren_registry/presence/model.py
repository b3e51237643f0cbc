"""Whether a peer is there.

Heartbeats decide. A clean stop says goodbye on the bus; a closed connection says it too, when the client closed it and no
other connection of the peer is left. A server that dies says nothing, and events of an old and a new connection may
overlap: so a lost connection alone (a stale one, a slow one, a KICK) proves nothing, and the next heartbeat is awaited for
OFFLINE_AFTER.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from warren_contracts.names import PeerId
from warren_contracts.peers import PresenceState
from warren_contracts.status import DaemonState
from warren_contracts.telemetry import OFFLINE_AFTER

SILENCE = timedelta(seconds=OFFLINE_AFTER - 1)  # checked every second, so reported within OFFLINE_AFTER


class Signal(StrEnum):
    """What is seen of a peer. The value is the reason that the event tells."""

    HEARTBEAT = "heartbeat"
    STOPPING = "stopped"
    LAST_CLOSED = "connection closed by the peer"
    SILENT = "no heartbeat"
    REVOKED = "revoked"


_UNKNOWN, _ONLINE, _OFFLINE = PresenceState.UNKNOWN, PresenceState.ONLINE, PresenceState.OFFLINE

TRANSITIONS: dict[tuple[PresenceState, Signal], PresenceState] = {
    (_UNKNOWN, Signal.HEARTBEAT):   _ONLINE,
    (_UNKNOWN, Signal.STOPPING):    _OFFLINE,
    (_UNKNOWN, Signal.LAST_CLOSED): _OFFLINE,
    (_UNKNOWN, Signal.SILENT):      _UNKNOWN,  # it never spoke, so it cannot have fallen silent
    (_UNKNOWN, Signal.REVOKED):     _OFFLINE,
    (_ONLINE, Signal.HEARTBEAT):    _ONLINE,
    (_ONLINE, Signal.STOPPING):     _OFFLINE,
    (_ONLINE, Signal.LAST_CLOSED):  _OFFLINE,
    (_ONLINE, Signal.SILENT):       _OFFLINE,
    (_ONLINE, Signal.REVOKED):      _OFFLINE,
    (_OFFLINE, Signal.HEARTBEAT):   _ONLINE,
    (_OFFLINE, Signal.STOPPING):    _OFFLINE,
    (_OFFLINE, Signal.LAST_CLOSED): _OFFLINE,
    (_OFFLINE, Signal.SILENT):      _OFFLINE,
    (_OFFLINE, Signal.REVOKED):     _OFFLINE,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Presence:
    """The state of one peer, since when, and when it was last heard."""

    state: PresenceState = PresenceState.UNKNOWN
    since: datetime | None = None
    last_seen: datetime | None = None
    reason: str = ""
    daemon: DaemonState = DaemonState.UNKNOWN  # its IPsec daemon, by its last heartbeat


class Heartbeat(NamedTuple):
    """A presence message: whose, and when the stream took it (a sender's clock decides nothing)."""

    peer: PeerId
    stopping: bool
    at: datetime
    daemon: DaemonState = DaemonState.UNKNOWN


def after(
    presence: Presence, signal: Signal, at: datetime, daemon: DaemonState = DaemonState.UNKNOWN
) -> Presence:  # fmt: skip
    """The presence after a signal that was given at `at`. A signal older than the last heartbeat changes nothing."""
    if presence.last_seen is not None and at < presence.last_seen and signal is not Signal.REVOKED:
        return presence
    state = TRANSITIONS[(presence.state, signal)]
    heard = at if signal in (Signal.HEARTBEAT, Signal.STOPPING) else presence.last_seen
    if state is presence.state:
        return replace(presence, last_seen=heard, daemon=daemon)
    return Presence(state, at, heard, "" if signal is Signal.HEARTBEAT else signal.value, daemon)


def is_silent(presence: Presence, now: datetime, deaf_until: datetime) -> bool:
    """Whether an online peer has been silent for too long. `deaf_until`: before it, we could not have heard anything."""
    if presence.state is not PresenceState.ONLINE or presence.last_seen is None:
        return False
    return now - max(presence.last_seen, deaf_until) >= SILENCE
