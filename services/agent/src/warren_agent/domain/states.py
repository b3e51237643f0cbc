"""The agent's state machine as a literal table.

START reads what an earlier run left. ENROL is for a host that is not a peer yet. SYNC waits for an intent: the one on disk
at once, else the bus's first. APPLY makes the driver's tunnels those of the newest intent, WATCH keeps them up until the
next. An agent that has an intent on disk goes through SYNC, APPLY and WATCH without any server.
"""

from enum import StrEnum

from warren_contracts.telemetry import AgentState

START, ENROL, SYNC, APPLY, WATCH = (
    AgentState.START,
    AgentState.ENROL,
    AgentState.SYNC,
    AgentState.APPLY,
    AgentState.WATCH,
)


class Trigger(StrEnum):
    """What happened, in the past tense."""

    IDENTITY_MISSING = "identity-missing"
    IDENTITY_READ = "identity-read"
    ENROLLED = "enrolled"
    INTENT_CAME = "intent-came"  # from disk or from the bus
    APPLIED = "applied"  # all of it, or all but what the report names
    DAEMON_LOST = "daemon-lost"  # while applying
    DAEMON_CAME = "daemon-came"


TRANSITIONS: dict[tuple[AgentState, Trigger], AgentState] = {
    (START, Trigger.IDENTITY_MISSING): ENROL,
    (START, Trigger.IDENTITY_READ): SYNC,
    (ENROL, Trigger.ENROLLED): SYNC,
    (SYNC, Trigger.INTENT_CAME): APPLY,
    (APPLY, Trigger.APPLIED): WATCH,
    (APPLY, Trigger.DAEMON_LOST): WATCH,
    (WATCH, Trigger.INTENT_CAME): APPLY,
    (WATCH, Trigger.DAEMON_CAME): APPLY,
}


class ImpossibleTransitionError(AssertionError):
    """The agent's code asked for a transition that its table does not have: a defect, please report it."""


def next_state(state: AgentState, trigger: Trigger) -> AgentState:
    """The state after `trigger`; ImpossibleTransitionError where the table has none."""
    try:
        return TRANSITIONS[state, trigger]
    except KeyError:
        raise ImpossibleTransitionError(f"{trigger} in state {state}") from None
