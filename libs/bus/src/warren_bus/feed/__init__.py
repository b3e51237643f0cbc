"""The signed feed: an agent's complete view of its policies and of its peers, every document of it verified.

`machine` is the protocol without any I/O (inputs in, commands and states out); `shell` joins it to a connection. A live message
passes two checks: `sequence` (its stream republished it) and `documents` (the right key signed it). `docs/bus.md` describes the
protocol.
"""

from warren_bus.feed.machine import FeedMachine
from warren_bus.feed.shell import Feed
from warren_bus.feed.state import FeedIdentity, FeedState, SealedBundle
from warren_bus.feed.times import FeedTimes

__all__ = ["Feed", "FeedIdentity", "FeedMachine", "FeedState", "FeedTimes", "SealedBundle"]
