"""What the auth callout remembers for the time when PostgreSQL is away.

Rows are ordered by their version, so an answer that was read before a change never replaces what was learnt after it, and
a key that was seen revoked stays revoked whatever an older row says. Join tokens are not remembered: enrolment needs the
database anyway.
"""

from collections.abc import Iterable

from warren_registry.domain.admission import KeyRight
from warren_registry.domain.tokens import OperatorRow


class CredentialCache:
    """The last known rights of keys and operators. `loaded` says whether everybody is known: until then, an unknown key
    may be a peer that was never asked about."""

    def __init__(self) -> None:
        self._rights: dict[str, KeyRight] = {}
        self._operators: dict[bytes, OperatorRow] = {}
        self._removed: set[bytes] = set()
        self.loaded = False

    def learn(self, right: KeyRight) -> KeyRight:
        """Remember what a row says; returns what is true now (a revocation, or a newer row, stands)."""
        held = self._rights.get(right.nkey)
        if held is not None and (held.version > right.version or (held.revoked and not right.revoked)):
            return held
        if right.id or right.revoked:
            self._rights[right.nkey] = right
        return right

    def learn_operator(self, row: OperatorRow) -> OperatorRow | None:
        """Remember a row; None when the token was seen removed, since this row may have been read before."""
        if row.digest in self._removed:
            return None
        self._operators[row.digest] = row
        return row

    def forget_operator(self, digest: bytes) -> None:
        """A token that was removed stays removed: 256 random bits never come back."""
        self._operators.pop(digest, None)
        self._removed.add(digest)

    def load(self, rights: Iterable[KeyRight], operators: Iterable[OperatorRow]) -> None:
        """Learn everybody at once. Operators that are not among these are forgotten."""
        for right in rights:
            self.learn(right)
        self._operators = {row.digest: row for row in operators if row.digest not in self._removed}
        self.loaded = True

    def right(self, nkey: str) -> KeyRight:
        """What is remembered of a key; an empty right for an unknown one."""
        return self._rights.get(nkey, KeyRight(nkey))

    def operator(self, digest: bytes) -> OperatorRow | None:
        return self._operators.get(digest)

    def __len__(self) -> int:
        return len(self._rights)
