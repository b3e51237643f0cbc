"""What charon holds, compared with what the ledger says that it should. Pure.

`swanctl --load-all` makes charon hold what its own files say and nothing else: connections and keys that came by VICI are
gone, SAs stay until they end. Debian's unit charon-systemd runs it at every start and reload.
"""

import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from warren_agent.drivers.strongswan.connections import HandleName, groups_of, is_marked, level_mark, parse_handle
from warren_agent.drivers.strongswan.vici_codec import Section, build_message, subsection, subsections, texts

Selectors = tuple[frozenset[str], frozenset[str]]


@dataclass(frozen=True)
class CharonHoldings:
    """What charon holds: list-conns, get-keys, get-pools.

    `foreign` are connections whose SAs were negotiated with algorithms that they do not allow, and these.
    """

    connections: Mapping[str, Section]
    keys: frozenset[str]
    pools: frozenset[str]
    foreign: Mapping[HandleName, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Expected:
    """What it should hold. `references` are the digests of connections as they were listed when they had been loaded, `levels`
    the fingerprints of their IKE levels.

    `known` are connections that nobody asked for yet in this run of the agent: they may be there, and need not.
    """

    connections: Mapping[HandleName, tuple[HandleName, ...]]  # with their children
    key: str  # the id of the agent's private key
    pools: frozenset[str] = frozenset()
    known: frozenset[HandleName] = frozenset()
    references: Mapping[HandleName, str] = field(default_factory=dict)
    levels: Mapping[HandleName, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Drift:
    """The difference. An empty one is false."""

    missing: tuple[HandleName, ...] = ()
    altered: tuple[HandleName, ...] = ()
    negotiated: Mapping[HandleName, str] = field(
        default_factory=dict
    )  # by whatever others had loaded: the algorithms in use
    leftover: tuple[HandleName, ...] = ()  # loaded by an agent, and desired by none
    key_missing: bool = False
    pools: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.missing or self.altered or self.negotiated or self.leftover or self.key_missing or self.pools)

    @property
    def cause(self) -> str:
        """Who may have done it."""
        if self.key_missing and self.missing:
            return "probably `swanctl --load-all`, which charon-systemd also runs at every start and reload"
        if self.key_missing:
            return "probably `swanctl --load-creds --clear`"
        if self.missing and not self.altered:
            return "probably `swanctl --load-conns`, or somebody unloaded it"
        return "somebody loaded another configuration by VICI"

    def of_tunnel(self, tunnel: str, pools: Collection[str] = ()) -> str:
        """What is wrong with one tunnel, as a text; empty if nothing is. `pools` are those that it uses."""
        parts = [
            *("its connection was missing" for handle in self.missing if handle.tunnel == tunnel),
            *("its connection was altered" for handle in self.altered if handle.tunnel == tunnel),
            *(
                f"its SAs had algorithms that it does not allow ({used})"
                for handle, used in self.negotiated.items()
                if handle.tunnel == tunnel
            ),
            *(f"the pool {pool} was missing" for pool in self.pools if pool in pools),
            *(["the private key was missing"] if self.key_missing else []),
        ]
        return f"{' and '.join(parts)}: {self.cause}" if parts else ""


def digest(listed: Section) -> str:
    """Changes when list-conns says something else of a connection."""
    return hashlib.sha256(build_message(_sorted(listed))).hexdigest()[:16]


def _sorted(section: Section) -> Section:
    return {key: _sorted(it) if isinstance(it, dict) else it for key, it in sorted(section.items())}


def compare(expected: Expected, held: CharonHoldings) -> Drift:
    """What is missing in charon, was altered there, or is left over from an agent."""
    ours = {handle: it for name, it in held.connections.items() if (handle := parse_handle(name)) and is_marked(it)}
    altered = []
    for handle, children in expected.connections.items():
        listed = held.connections.get(str(handle))
        if listed is not None and not _is_as_loaded(handle, children, listed, expected):
            altered.append(handle)
    return Drift(
        missing=tuple(handle for handle in expected.connections if str(handle) not in held.connections),
        altered=tuple(altered),
        negotiated={handle: used for handle, used in held.foreign.items() if handle in expected.connections},
        leftover=tuple(sorted(ours.keys() - expected.connections.keys() - expected.known)),
        key_missing=bool(expected.key) and expected.key not in held.keys,
        pools=tuple(sorted(expected.pools - held.pools)),
    )


def _is_as_loaded(handle: HandleName, children: tuple[HandleName, ...], listed: Section, expected: Expected) -> bool:
    if {str(child) for child in children} != {*subsections(subsection(listed, "children"))}:
        return False
    reference, level = expected.references.get(handle), expected.levels.get(handle)
    return (
        is_marked(listed)
        and (level is None or level_mark(level) in groups_of(listed))
        and (reference is None or reference == digest(listed))
    )


def rivals(held: CharonHoldings, expected: Expected, owns: Callable[[HandleName], bool]) -> dict[str, tuple[str, ...]]:
    """Connections of others with selectors of ours, by the name of our tunnel."""
    foreign = {
        name: selectors_of(listed)
        for name, listed in held.connections.items()
        if not is_marked(listed) and not ((handle := parse_handle(name)) is not None and owns(handle))
    }
    found = {}
    for handle in expected.connections if foreign else ():
        own = selectors_of(held.connections.get(str(handle), {}))
        names = sorted(
            name for name, theirs in foreign.items() if any(_compete(one, two) for one in own for two in theirs)
        )
        if names:
            found[handle.tunnel] = tuple(names)
    return found


def selectors_of(listed: Section) -> list[Selectors]:
    """The selectors of each child of a connection: local and remote."""
    children = subsections(subsection(listed, "children")).values()
    return [(frozenset(texts(it, "local-ts")), frozenset(texts(it, "remote-ts"))) for it in children]


def _compete(one: Selectors, two: Selectors) -> bool:
    return not one[0].isdisjoint(two[0]) and not one[1].isdisjoint(two[1])
