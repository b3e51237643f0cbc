"""What a change would do to the tunnels of the fleet, for a dry run: `warren_intent.plan`, in numbers and names."""

from collections import Counter

from warren_contracts.commands import TunnelEffects
from warren_intent.plan import Effect, plan_between
from warren_policy.domain.derived import DerivedChange

MAX_NAMED = 100  # touched tunnels that a reply names: a reply must fit into one message


def effects_of(derived: DerivedChange) -> TunnelEffects:
    """The effect on every tunnel, counted; the first touched ones by name."""
    found = plan_between(derived.before, derived.after)
    counts = Counter(item.effect.value for item in found)
    touched = {item.name: item.effect.value for item in found if item.effect is not Effect.UNTOUCHED}
    named = dict(list(touched.items())[:MAX_NAMED])
    return TunnelEffects.model_validate({**counts, "touched": named})
