"""Whether a peer is online.

Heartbeats decide. A clean stop is announced on the bus; a closed connection means the same if the client closed it and it was the
peer's last one. A server that dies sends nothing, and events of an old and a new connection may overlap: so a lost connection
alone (a stale one, a slow one, a KICK) decides nothing, and the next heartbeat is awaited for OFFLINE_AFTER.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from warren_contracts.names import PeerId
from warren_contracts.peers import PresenceState
from warren_contracts.status import DriverStatus, HostFacts
from warren_contracts.telemetry import OFFLINE_AFTER

HEARTBEAT_TIMEOUT = timedelta(seconds=OFFLINE_AFTER - 1)  # checked every second, so reported within OFFLINE_AFTER


class Signal(StrEnum):
    """An observation of a peer. The value is the reason in the event."""

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
    (_UNKNOWN, Signal.SILENT):      _UNKNOWN,  # it never sent a heartbeat, so it cannot have stopped
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
class PeerPresence:
    """The state of one peer, since when, and when its last heartbeat arrived."""

    state: PresenceState = PresenceState.UNKNOWN
    since: datetime | None = None
    last_seen: datetime | None = None
    reason: str = ""
    drivers: tuple[DriverStatus, ...] = ()  # the states of its drivers, by its last heartbeat
    host: HostFacts | None = None  # by its last heartbeat
    clock_skew_s: float | None = None  # how far its clock is ahead of the bus's


class Heartbeat(NamedTuple):
    """A presence message: its peer, and when the stream stored it (a sender's clock is not used)."""

    peer: PeerId
    stopping: bool
    at: datetime
    drivers: tuple[DriverStatus, ...] = ()
    host: HostFacts | None = None
    sent_at: datetime | None = None  # by the sender's clock
    instance: str = ""  # of the sender's process


def after(
    presence: PeerPresence, signal: Signal, at: datetime, drivers: tuple[DriverStatus, ...] = ()
) -> PeerPresence:  # fmt: skip
    """The presence after a signal at `at`. A signal older than the last heartbeat changes nothing."""
    if presence.last_seen is not None and at < presence.last_seen and signal is not Signal.REVOKED:
        return presence
    state = TRANSITIONS[(presence.state, signal)]
    last_seen = at if signal in (Signal.HEARTBEAT, Signal.STOPPING) else presence.last_seen
    if state is presence.state:
        return replace(presence, last_seen=last_seen, drivers=drivers)
    return PeerPresence(state, at, last_seen, "" if signal is Signal.HEARTBEAT else signal.value, drivers)


def with_facts(presence: PeerPresence, beat: Heartbeat) -> PeerPresence:
    """The presence with what its newest heartbeat says of the host and its clock; an older one changes nothing."""
    if presence.last_seen is not None and beat.at < presence.last_seen:
        return presence
    skew = None if beat.sent_at is None else (beat.sent_at - beat.at).total_seconds()
    return replace(presence, host=beat.host, clock_skew_s=skew)


def is_silent(presence: PeerPresence, now: datetime, receiving_since: datetime) -> bool:
    """Whether an online peer's heartbeats have stopped. `receiving_since`: before it, the registry received nothing."""
    if presence.state is not PresenceState.ONLINE or presence.last_seen is None:
        return False
    return now - max(presence.last_seen, receiving_since) >= HEARTBEAT_TIMEOUT
