"""What a change would do to the tunnels of the fleet, for a dry run: `warren_intent.plan`, in numbers and names."""

from collections import Counter
from collections.abc import Mapping

from warren_contracts.commands import TunnelEffects
from warren_contracts.peers import PeerRecord
from warren_intent.plan import Effect, plan
from warren_policy.domain.revisions import Change

MAX_NAMED = 100  # touched tunnels that a reply names: a reply must fit into one message


def effects_of(change: Change, records: Mapping[str, PeerRecord]) -> TunnelEffects:
    """The effect on every tunnel, counted; the first touched ones by name."""
    found = plan(change.before.values(), change.after.values(), records)
    counts = Counter(item.effect.value for item in found)
    touched = {item.name: item.effect.value for item in found if item.effect is not Effect.UNTOUCHED}
    named = dict(list(touched.items())[:MAX_NAMED])
    return TunnelEffects.model_validate({**counts, "touched": named})
