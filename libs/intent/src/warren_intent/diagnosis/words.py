"""A diagnosis, and the words that all of them use."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

from warren_contracts.explanation import Cause
from warren_contracts.proposals import Algorithms


class Diagnosis(NamedTuple):
    """A cause, the sentence of it, and what to do; an empty action: nothing."""

    cause: Cause
    sentence: str
    action: str


def listed(words: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join(it for it in (", ".join(words[:-1]), *words[-1:]) if it)


def ago(at: datetime, now: datetime) -> str:
    """`12 s ago`, `5 min ago`, `3 h ago`, `2 d ago`."""
    seconds = max(0.0, (now - at).total_seconds())
    for limit, unit, size in ((120, "s", 1), (7_200, "min", 60), (172_800, "h", 3_600)):
        if seconds < limit:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds / 86_400:.0f} d ago"


def proposals_of(proposals: Iterable[Algorithms]) -> str:
    """Proposals in strongSwan's keywords: `aes256gcm16-prfsha384-ecp384, aes128gcm16-prfsha256-x25519`."""
    return ", ".join(it.keywords for it in proposals)
