"""The signed feed: what an agent knows of policies and of its peers, always complete, never believed without a signature.

`machine` is the protocol without any I/O (inputs in, commands and states out); `shell` joins it to a connection. `sequence`
and `documents` are its two gates: was a message really republished by its stream, and is it signed by whom it must be.
`docs/bus.md` tells the protocol in words.
"""

from warren_bus.feed.machine import FeedMachine
from warren_bus.feed.shell import Feed
from warren_bus.feed.state import FeedIdentity, FeedState, SealedBundle
from warren_bus.feed.times import FeedTimes

__all__ = ["Feed", "FeedIdentity", "FeedMachine", "FeedState", "FeedTimes", "SealedBundle"]
