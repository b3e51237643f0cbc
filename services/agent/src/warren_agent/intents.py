"""The intents of the agent: those that come over the bus, and the last one on disk, from which it starts without a server."""

from collections.abc import AsyncIterator

import structlog

from warren_agent.ports import Intent, IntentSource
from warren_agent.state.store import StateStore
from warren_bus.feed.state import FeedState

log = structlog.get_logger("warren_agent")


class Intents:
    """Where intents come from, and where the newest one is saved."""

    def __init__(self, source: IntentSource, store: StateStore) -> None:
        self.saved: FeedState | None = None
        self._source = source
        self._store = store

    def restore(self) -> FeedState | None:
        """Return the last verified intent; None where there is none."""
        self.saved = self._store.intent()
        if self.saved is not None:
            log.info("agent.intent_restored", revision=self.saved.policy_revision, peers=len(self.saved.directory))
        return self.saved

    def received(self) -> AsyncIterator[Intent]:
        """See `IntentSource.intents`."""
        return self._source.intents()

    @property
    def sync_errors(self) -> int:
        """See `IntentSource.sync_errors`."""
        return self._source.sync_errors

    def save(self, state: FeedState) -> None:
        """Save an intent for the next start: after its tunnels were applied, not before."""
        if state is self.saved:
            return
        try:
            self._store.save_intent(state)
            self.saved = state
        except OSError as error:
            log.error("intent.not_saved", error=str(error))
