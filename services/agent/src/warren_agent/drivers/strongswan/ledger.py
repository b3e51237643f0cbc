"""What the driver has given to charon, kept on disk: names, generations, and fingerprints of the last message a name.

charon returns too little of a connection to compare it with what is desired (list-conns omits proposals, DPD, MOBIKE and
more), and knows nothing after a restart. With the ledger an unchanged tunnel is never touched, also not by an agent that
has just started.

Generations are numbers of one counter for all tunnels, never used twice. They also set connections apart: charon finds the
IKE_SA for a new CHILD_SA by comparing configurations, not names (ike_sa_manager.c, checkout_by_config). Two generations, or
two tunnels with one peer, that differ in nothing charon compares would end up in one IKE_SA. In the same way it refuses a
new CHILD_SA as a duplicate of one that runs (child_create.c): an edit that is taken back at once would never be applied. So
each connection gets another `over_time` and each child another `life_time`, which are never negotiated.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from warren_agent.drivers.strongswan.connections import HandleName, Levels
from warren_agent.state.files import read_private, write_private

MAX_GENERATION = 1_000_000_000  # a name with more digits is none of ours
MAX_CHILD_VERSIONS = (
    4  # former entries of one connection that are remembered: an edit that is taken back is one of the last
)


class ChildEntry(BaseModel):
    """One child of a tunnel in charon."""

    model_config = ConfigDict(frozen=True)

    generation: int
    fingerprint: str


class LedgerEntry(BaseModel):
    """One tunnel in charon."""

    model_config = ConfigDict(frozen=True)

    connection: int  # generation
    ike: str  # fingerprint
    children: dict[str, ChildEntry]
    # It was loaded again while IKE_SAs of it were up: these keep to what charon had before (see `next_entry`).
    detached: bool = False

    @property
    def levels(self) -> Levels:
        return Levels(self.ike, {name: child.fingerprint for name, child in self.children.items()})


class LedgerFile(BaseModel):
    """The ledger on disk."""

    last_generation: int = 0
    entries: dict[str, LedgerEntry] = {}
    former: dict[str, list[int]] = {}
    references: dict[str, str] = {}


class Ledger:
    """The entries by tunnel name. Changes are in memory until `save`.

    The former connections of a tunnel are remembered as long as charon has SAs of them, also of a deleted tunnel: what charon holds
    under their names is the agent's, and anything else of such a name is not.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._entries: dict[str, LedgerEntry] = {}
        self._former: dict[str, list[int]] = {}  # oldest first
        self._last_generation = 0
        self.dirty = False
        self.saved_generation = 0  # the last one that the file knows
        self._references: dict[str, str] = {}  # by connection: the digest of how charon lists it (see drift.digest)

    def load(self) -> None:
        """Read the file; a missing or damaged one is an empty ledger: every tunnel is then re-created next to the old."""
        data = read_private(self.path) if self.path is not None else None
        if data is not None:
            try:
                read = LedgerFile.model_validate_json(data)
            except ValidationError:
                return
            self._entries, self._former, self._last_generation = read.entries, read.former, read.last_generation
            self.saved_generation = read.last_generation
            self._references = read.references

    def save(self) -> None:
        """Write the file if anything has changed since."""
        if self.dirty and self.path is not None:
            write_private(self.path, self._file().model_dump_json().encode())
            self.saved_generation = self._last_generation
        self.dirty = False

    def _file(self) -> LedgerFile:
        return LedgerFile(
            last_generation=self._last_generation,
            entries=self._entries,
            former=self._former,
            references=self._references,
        )

    def saw_generation(self, generation: int) -> None:
        """A generation that charon holds, also one that this ledger does not remember, is not used again."""
        if generation <= MAX_GENERATION:
            self._last_generation = max(self._last_generation, generation)

    def new_generation(self) -> int:
        """The next number."""
        self._last_generation += 1
        return self._last_generation

    def get(self, name: str) -> LedgerEntry | None:
        return self._entries.get(name)

    def put(self, name: str, entry: LedgerEntry) -> None:
        """Make this the entry of a tunnel; the connection of the entry before becomes a former one, if it is another."""
        self._retire(name)
        self._entries[name] = entry
        self.dirty = True

    def detach(self, name: str) -> None:
        """Note that the connection of a tunnel was loaded again, next to IKE_SAs of the former one."""
        self._entries[name] = self._entries[name].model_copy(update={"detached": True})
        self.dirty = True

    def remove(self, name: str) -> None:
        """Delete a tunnel; its connection becomes a former one."""
        self.dirty |= self._retire(name)

    def _retire(self, name: str) -> bool:
        entry = self._entries.pop(name, None)
        if entry is None:
            return False
        former = [number for number in self._former.get(name, []) if number != entry.connection]
        self._former[name] = [*former, entry.connection]
        return True

    def take_over(self, handle: HandleName) -> None:
        """Own a connection of charon that this ledger does not remember: a marked one, of a ledger that was lost."""
        if not self.owns(handle):
            self._former.setdefault(handle.tunnel, []).append(handle.generation)
            self.dirty = True

    def owns(self, handle: HandleName) -> bool:
        """Whether this connection was given to charon by an agent with this ledger."""
        entry = self._entries.get(handle.tunnel)
        is_current = entry is not None and entry.connection == handle.generation
        return is_current or handle.generation in self._former.get(handle.tunnel, ())

    @property
    def has_former(self) -> bool:
        """Whether any former connection is remembered."""
        return bool(self._former)

    def forget_former(self, held: Iterable[HandleName]) -> None:
        """Forget the former connections of which charon holds nothing. `held` are the names of its connections and IKE_SAs."""
        numbers = {(handle.tunnel, handle.generation) for handle in held}
        remembered = {
            name: left
            for name, former in self._former.items()
            if (left := [number for number in former if (name, number) in numbers])
        }
        self.dirty |= remembered != self._former
        self._former = remembered

    def reference(self, handle: HandleName) -> str | None:
        """How charon listed a connection when it had been loaded; None if that is not known."""
        return self._references.get(str(handle))

    def keep_references(self, references: Mapping[HandleName, str]) -> None:
        """Remember these, and no others, for the next start."""
        kept = {str(handle): digest for handle, digest in references.items()}
        self.dirty |= kept != self._references
        self._references = kept

    def names(self) -> Iterable[str]:
        return self._entries.keys()


def next_entry(old: LedgerEntry | None, levels: Levels, generation: int) -> LedgerEntry | None:
    """The entry that a configuration needs, `generation` being the next unused one; None when `old` fits already.

    An edit that is taken back gets new generations too: the peer sees SAs negotiated, and forgets why it refused the former.
    """
    if old is not None and old.levels == levels:
        return None
    # An IKE_SA accepts the children of the very object in charon that it was made from, and not those of an equal connection
    # that was loaded again.
    kept = old if old is not None and old.ike == levels.ike and not old.detached else None
    children = {}
    for name, fingerprint in levels.children.items():
        child = kept.children.get(name) if kept is not None else None
        unchanged = child is not None and child.fingerprint == fingerprint
        children[name] = child if child and unchanged else ChildEntry(generation=generation, fingerprint=fingerprint)
    return LedgerEntry(connection=kept.connection if kept else generation, ike=levels.ike, children=children)


def handles(name: str, entry: LedgerEntry) -> tuple[HandleName, tuple[HandleName, ...]]:
    """The names of the connection and of its children in charon."""
    children = tuple(HandleName(name, it.generation, child) for child, it in entry.children.items())
    return HandleName(name, entry.connection), children
