"""The query language over tunnels: `state:down tag:branch age:>1h -policy:lab`. Pure.

    query    = [term *(SP term)]                 every term must hold
    term     = ["-"] (field ":" values / text)   "-" negates; text: the name contains it
    values   = value *("," value)                any of them
    field    = "name" / "state" / "reason" / "peer" / "tag" / "policy" / "is" / "age"
    age      = [">" / ">=" / "<" / "<="] number ("s" / "m" / "h" / "d")      without a comparison: >=

`*` in a value of name, peer, tag or policy stands for any characters. Letters are compared without case. `is:stale`: an end does
not report; `is:disagreeing`: the ends contradict each other. `age` is the time since the state last changed, of the latest change
of an end that reports; a tunnel without such a time has no age, and no comparison with it holds. `tests/data/tunnel-queries.json`
has the cases that every implementation must pass.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import NamedTuple

from warren_contracts.durations import parse_duration
from warren_contracts.status import FleetTunnel, ReasonCode, TunnelState

MAX_QUERY = 1_024  # characters
FIELDS = ("name", "state", "reason", "peer", "tag", "policy", "is", "age")
FLAGS = ("stale", "disagreeing")
_AGE = re.compile(r"(>=|<=|>|<)?(.*)")

Tags = Mapping[str, Iterable[str]]  # of each peer


class InvalidQueryError(ValueError):
    """The query cannot be read; the message names the term and what is possible."""


class _Subject(NamedTuple):
    tunnel: FleetTunnel
    tags: Tags
    now: datetime


_Test = Callable[[_Subject], bool]


class TunnelQuery:
    """A parsed query. Raises InvalidQueryError."""

    def __init__(self, text: str) -> None:
        if len(text) > MAX_QUERY:
            raise InvalidQueryError(f"the query is too long: at most {MAX_QUERY} characters")
        self.text = text
        self.fields: set[str] = set()  # what it asks about: `tag` needs the peers' tags
        self._tests = [self._term(term) for term in text.split()]

    def matches(self, tunnel: FleetTunnel, tags: Tags, now: datetime) -> bool:
        """Whether every term holds."""
        subject = _Subject(tunnel, tags, now)
        return all(test(subject) for test in self._tests)

    def _term(self, term: str) -> _Test:
        wanted = not term.startswith("-")
        body = term if wanted else term[1:]
        field, colon, values = body.partition(":")
        if not colon:
            if not body:
                raise InvalidQueryError("`-`: a term must follow")
            self.fields.add("name")
            test: _Test = lambda subject: body.lower() in subject.tunnel.name.lower()  # noqa: E731
        else:
            test = self._field(term, field.lower(), values.lower())
        return test if wanted else lambda subject: not test(subject)

    def _field(self, term: str, field: str, text: str) -> _Test:
        if field not in FIELDS:
            raise InvalidQueryError(f"`{term}`: unknown field `{field}`; fields: {', '.join(FIELDS)}")
        values = text.split(",")
        if not all(values):
            raise InvalidQueryError(f"`{term}`: a value must follow each `:` and `,`")
        self.fields.add(field)
        if field == "age":
            limits = [_age_limit(term, value) for value in values]
            return lambda subject: any(limit(subject) for limit in limits)
        allowed = _CHOICES.get(field)
        for value in values:
            if allowed is not None and value not in allowed:
                raise InvalidQueryError(f"`{term}`: unknown {field} `{value}`; one of {', '.join(allowed)}")
        read, patterns = _READERS[field], [_pattern(value) for value in values]
        return lambda subject: any(fnmatchcase(found, pattern) for found in read(subject) for pattern in patterns)


def since_of(tunnel: FleetTunnel) -> datetime | None:
    """When the state last changed, of the ends that report; None: it is not known."""
    times = [
        end.since
        for peer, end in tunnel.ends.items()
        if peer not in tunnel.stale and end.since is not None and end.since.tzinfo
    ]
    return max(times, default=None)


def _pattern(value: str) -> str:
    """A pattern of fnmatch in which only `*` is special."""
    return re.sub(r"([?\[])", r"[\1]", value)


def _age_limit(term: str, value: str) -> _Test:
    found = _AGE.fullmatch(value)
    seconds = None if found is None else parse_duration(found[2])
    if found is None or seconds is None:
        raise InvalidQueryError(f"`{term}`: an age is a comparison, a number and a unit: >1h, <=5m (units: s, m, h, d)")
    limit = timedelta(seconds=seconds)
    compare = _COMPARISONS[found[1] or ">="]

    def test(subject: _Subject) -> bool:
        since = since_of(subject.tunnel)
        return since is not None and compare(subject.now - since, limit)

    return test


_COMPARISONS: Mapping[str, Callable[[timedelta, timedelta], bool]] = {
    ">": lambda age, limit: age > limit,
    ">=": lambda age, limit: age >= limit,
    "<": lambda age, limit: age < limit,
    "<=": lambda age, limit: age <= limit,
}
_CHOICES: Mapping[str, tuple[str, ...]] = {
    "state": tuple(state.value for state in TunnelState),
    "reason": tuple(code.value for code in ReasonCode),
    "is": FLAGS,
}


def _reasons(subject: _Subject) -> Iterable[str]:
    tunnel = subject.tunnel
    return (end.reason.value for peer, end in tunnel.ends.items() if peer not in tunnel.stale)


def _tags(subject: _Subject) -> Iterable[str]:
    return (tag for peer in subject.tunnel.peers for tag in subject.tags.get(peer, ()))


def _policies(subject: _Subject) -> Iterable[str]:
    return (end.policy for end in subject.tunnel.ends.values() if end.policy is not None)


def _flags(subject: _Subject) -> Iterable[str]:
    if subject.tunnel.stale:
        yield "stale"
    if subject.tunnel.disagreement:
        yield "disagreeing"


_READERS: Mapping[str, Callable[[_Subject], Iterable[str]]] = {
    "name": lambda subject: (subject.tunnel.name.lower(),),
    "state": lambda subject: (subject.tunnel.state.value,),
    "reason": _reasons,
    "peer": lambda subject: (peer.lower() for peer in subject.tunnel.peers),
    "tag": lambda subject: (tag.lower() for tag in _tags(subject)),
    "policy": lambda subject: (policy.lower() for policy in _policies(subject)),
    "is": _flags,
}
