"""From a situation to its explanation: the first rule that applies, and the facts that it was concluded from."""

from warren_contracts.explanation import Cause, Explanation
from warren_contracts.status import ReasonCode
from warren_intent.diagnosis.rules import RULES
from warren_intent.diagnosis.situation import End, Situation
from warren_intent.diagnosis.words import Diagnosis, ago

MAX_SENTENCE = 2_048  # characters, of `Explanation`


def cause_of(it: Situation) -> Cause:
    """What is wrong, as a code. Without the configurations of the ends it is that of the same rules, but for `no-initiator`."""
    return _found(it).cause


def _found(it: Situation) -> Diagnosis:
    return next(diagnosis for step in RULES if (diagnosis := step.rule(it)) is not None)


def explain(it: Situation) -> Explanation:
    """Why the tunnel is in its state. Never raises: the last rule applies to everything."""
    found = _found(it)
    return Explanation(
        tunnel=it.tunnel.name,
        state=it.tunnel.state,
        cause=found.cause,
        sentence=_cut(found.sentence),
        action=_cut(found.action),
        facts=tuple(_cut(fact) for end in it.ends for fact in _facts(end, it, found)),
    )


def _facts(end: End, it: Situation, found: Diagnosis) -> list[str]:
    """What this end says, and what is known of its agent."""
    facts = []
    if end.status is None:
        facts.append(f"{end.peer} does not report the tunnel")
    else:
        age = f", as of {ago(end.reported_at, it.now)}" if end.reported_at is not None else ""
        state = f"{end.peer}: {end.status.state.value}{age}{' (stale)' if end.is_stale else ''}"
        reason = f", {end.status.reason.value}" if end.status.reason is not ReasonCode.NONE else ""
        detail = f": {end.status.detail}" if end.status.detail and end.status.detail not in found.sentence else ""
        facts.append(f"{state}{reason}{detail}")
        if end.status.evidence.at is not None:
            facts.append(
                f"{end.peer}: packets passed {ago(end.status.evidence.at, it.now)} ({end.status.evidence.kind.value})"
            )
    if end.is_offline and end.summary is not None:
        seen = end.summary.last_seen
        facts.append(
            f"{end.peer}: agent {end.summary.presence.value}" + (f", last seen {ago(seen, it.now)}" if seen else "")
        )
    if end.is_behind_nat:
        facts.append(f"{end.peer}: behind NAT")
    return facts


def _cut(text: str) -> str:
    return text if len(text) <= MAX_SENTENCE else f"{text[: MAX_SENTENCE - 4]} ..."
