"""Intervals, phases and timers of the feed."""

from dataclasses import dataclass
from enum import Enum, auto


@dataclass(frozen=True, slots=True)
class FeedTimes:
    """Intervals, all in seconds."""

    reconnect_jitter: float = 1.0
    resync_jitter: float = 5.0
    resync_interval: float = 5.0  # at least this long between two synchronisations that `request_resync` started
    batch_request: float = 0.25  # then the missing sets of a batch are requested
    batch_wait: float = 1.0  # then an incomplete batch is accepted
    sync_hold: float = 2.0  # a snapshot in progress holds states back for at most this long
    retry_first: float = 0.5
    retry_limit: float = 15.0
    stale_retry: float = 1.0


class FeedPhase(Enum):
    DISCONNECTED = auto()
    IDENTIFYING = auto()
    FOLLOWING = auto()


class Transition(Enum):
    """An input that may change the phase."""

    CONNECTED = auto()
    DISCONNECTED = auto()
    SYNC_DUE = auto()
    IDENTIFIED = auto()


# A pair that is not listed is ignored.
TRANSITIONS: dict[tuple[FeedPhase, Transition], FeedPhase] = {
    (FeedPhase.DISCONNECTED, Transition.CONNECTED): FeedPhase.IDENTIFYING,
    (FeedPhase.IDENTIFYING, Transition.CONNECTED): FeedPhase.IDENTIFYING,
    (FeedPhase.FOLLOWING, Transition.CONNECTED): FeedPhase.IDENTIFYING,
    (FeedPhase.IDENTIFYING, Transition.SYNC_DUE): FeedPhase.IDENTIFYING,
    (FeedPhase.FOLLOWING, Transition.SYNC_DUE): FeedPhase.IDENTIFYING,
    (FeedPhase.IDENTIFYING, Transition.IDENTIFIED): FeedPhase.FOLLOWING,
    (FeedPhase.DISCONNECTED, Transition.DISCONNECTED): FeedPhase.DISCONNECTED,
    (FeedPhase.IDENTIFYING, Transition.DISCONNECTED): FeedPhase.DISCONNECTED,
    (FeedPhase.FOLLOWING, Transition.DISCONNECTED): FeedPhase.DISCONNECTED,
}


class Timer(Enum):
    SYNC = auto()
    BATCH_REQUEST = auto()
    BATCH_LIMIT = auto()
    SYNC_HOLD = auto()
