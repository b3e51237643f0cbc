"""Whether a connection that a person made equals a derived tunnel. Pure.

Both are compared as list-conns lists them; what it does not list (proposals) by what was negotiated (`negotiated`).
"""

from collections.abc import Iterator

from warren_agent.drivers.strongswan.vici_codec import Section, Value, subsection, subsections

# Not compared: how many IKE_SAs one peer may have is the agent's business, and its marker is a group.
IGNORED = frozenset({"children", "unique"})
IGNORED_OF_END = frozenset({"groups"})


def differences(ours: Section, theirs: Section) -> list[str]:
    """The fields in which a connection differs from that of a derived tunnel; `ours` is the derived one."""
    found = [*_differing("", ours, theirs, IGNORED)]
    own, other = _children(ours), _children(theirs)
    if len(own) != len(other):
        return [*found, f"children: {len(other)} instead of {len(own)}"]
    for number, (one, two) in enumerate(zip(own, other, strict=True)):
        found += _differing("" if len(own) == 1 else f"children {number + 1}: ", one, two, frozenset())
    return found


def _children(listed: Section) -> list[Section]:
    """In the order of their selectors: the names of children differ."""
    return sorted(
        subsections(subsection(listed, "children")).values(),
        key=lambda it: (_text(it.get("local-ts")), _text(it.get("remote-ts"))),
    )


def _differing(prefix: str, ours: Section, theirs: Section, ignored: frozenset[str]) -> Iterator[str]:
    for key in sorted((ours.keys() | theirs.keys()) - ignored):
        one, two = ours.get(key, b""), theirs.get(key, b"")
        if isinstance(one, dict) or isinstance(two, dict):
            own, other = (it if isinstance(it, dict) else {} for it in (one, two))
            yield from _differing(f"{prefix}{key}.", own, other, IGNORED_OF_END)
        elif _text(one) != _text(two):
            yield f"{prefix}{key}: {_text(two) or 'none'} instead of {_text(one) or 'none'}"


def _text(value: Value | None) -> str:
    if isinstance(value, list):
        return ", ".join(sorted(it.decode(errors="replace") for it in value))
    return value.decode(errors="replace") if isinstance(value, bytes) else ""
