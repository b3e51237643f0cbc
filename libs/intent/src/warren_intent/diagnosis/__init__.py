"""Why a tunnel is not up, concluded from both ends together. Pure.

An end knows what its daemon and its host say. What is wrong is often visible only next to the other end: that the peer's daemon is
stopped, that it has other proposals, that it never saw the request. `situation` collects what is known, `rules` are tried in order,
`explain` makes the sentence.
"""

from warren_intent.diagnosis.explain import cause_of, explain
from warren_intent.diagnosis.situation import End, Situation, situation_of

__all__ = ["End", "Situation", "cause_of", "explain", "situation_of"]
