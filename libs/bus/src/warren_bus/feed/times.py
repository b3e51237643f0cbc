"""The feed's phases, timers and waits."""

from dataclasses import dataclass
from enum import Enum, auto


@dataclass(frozen=True, slots=True)
class FeedTimes:
    """Waits, all in seconds."""

    reconnect_jitter: float = 1.0
    doubt_jitter: float = 5.0
    round_interval: float = 5.0  # between two rounds that doubt started
    batch_ask: float = 0.25  # then the missing sets of a batch are asked for
    batch_wait: float = 1.0  # then the batch is taken as it is
    round_hold: float = 2.0  # a snapshot under way holds states back for at most this long
    retry_first: float = 0.5
    retry_limit: float = 15.0
    stale_retry: float = 1.0


class Phase(Enum):
    AWAY = auto()
    ASKING = auto()
    FOLLOWING = auto()


class Timer(Enum):
    ROUND = auto()
    BATCH_ASK = auto()
    BATCH_LIMIT = auto()
    ROUND_HOLD = auto()
