"""What one caller may cost a service: calls, and bytes, over all its RPC. Pure: the caller passes the clock.

A message is judged as it arrives, before it is queued: a flood of one caller would otherwise wait in the same queue as the calls of
all others, and cost them minutes. A caller is a peer, an enrolling key or an operator, which the subject or the server names.
Services have no budget: their calls are signed, and they act for others whose budget is elsewhere.
"""

from typing import NamedTuple

from warren_contracts import subjects
from warren_contracts.policy import MAX_POLICY_SET
from warren_contracts.verbs import of_operators
from warren_process.token_bucket import TokenBucket

# A regular agent calls whoami and reads the directory of each of its readers (66 with 64 tags) after a connect, in pages of 200.
AGENT_BURST, AGENT_RATE = 240.0, 10.0  # calls at once, and calls a second after that
ENROL_BURST, ENROL_RATE = 8.0, 0.5
OPERATOR_BURST, OPERATOR_RATE = 200.0, 20.0
FREE_BYTES = 16_384  # of a call; each further piece of this size costs another call
REPLY_BURST, REPLY_RATE = 4.0, 1.0  # refusals that one caller receives; the rest of a flood is dropped silently
MAX_CALLERS = 32_768  # more than connections; the oldest is forgotten

_SMALL = 4_096
# Bytes of a request that a caller outside of CTRL may send: checked before anything is parsed.
LIMITS = {
    ("agent", "whoami"): _SMALL, ("agent", "directory"): _SMALL, ("agent", "announce"): 16_384, ("enrol", ""): 24_576,
    **{("ops", command.verb): _SMALL for command in of_operators()},
    ("ops", "apply"): MAX_POLICY_SET, ("ops", "delete"): 65_536,
}  # fmt: skip


class CallSource(NamedTuple):
    """Who calls, and what."""

    kind: str  # agent, enrol or ops
    name: str
    verb: str


def parse_source(subject: str, operator: str = "") -> CallSource | None:
    """The caller of a subject, of an operator's call as the server names it; None for a call of a service."""
    prefix = f"{subjects.VERSION}."
    tokens = subject.removeprefix(prefix).split(".")
    match tokens:
        case ["rpc", "agent", peer, verb]:
            return CallSource("agent", peer, verb)
        case ["rpc", "enrol", nkey]:
            return CallSource("enrol", nkey, "")
        case ["ops", _, verb]:
            return CallSource("ops", operator, verb)
    return None


class CallRefusal(NamedTuple):
    """Why a call is refused; `answered`: with a reply, as far as replies of refusals are within their own limit."""

    reason: str
    answered: bool


class _Caller:
    __slots__ = ("calls", "refused", "replies")

    def __init__(self, burst: float, rate: float) -> None:
        self.calls = TokenBucket(burst, rate)
        self.replies = TokenBucket(REPLY_BURST, REPLY_RATE)
        self.refused = 0


_RATES = {
    "agent": (AGENT_BURST, AGENT_RATE), "enrol": (ENROL_BURST, ENROL_RATE), "ops": (OPERATOR_BURST, OPERATOR_RATE),
}  # fmt: skip


class CallBudget:
    """The budgets of all callers of a service."""

    def __init__(self) -> None:
        self._callers: dict[tuple[str, str], _Caller] = {}

    def refuse(self, source: CallSource, size: int, now: float) -> CallRefusal | None:
        """Charge a call; None if it is within the limits."""
        caller = self._caller(source)
        limit = LIMITS.get((source.kind, source.verb), _SMALL)
        reason = ""
        if not caller.calls.take(now, 1 + max(0, size - 1) // FREE_BYTES):
            reason = "too many calls at once: retry in some seconds"
        elif size > limit:
            reason = f"{size} bytes are more than the {limit} that this call may have"
        if not reason:
            return None
        caller.refused += 1
        return CallRefusal(reason, caller.replies.take(now))

    def _caller(self, source: CallSource) -> _Caller:
        key = (source.kind, source.name)
        caller = self._callers.pop(key, None) or _Caller(*_RATES[source.kind])
        self._callers[key] = caller  # the newest is last
        if len(self._callers) > MAX_CALLERS:
            del self._callers[next(iter(self._callers))]
        return caller
