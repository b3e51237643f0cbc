"""Credentials that the auth callout falls back to while PostgreSQL is unavailable.

Rows are ordered by version: a row that was read before a change never replaces a later one, and a revoked key stays
revoked whatever an older row says. Join tokens are not cached: enrolment needs the database anyway.
"""

from collections.abc import Iterable

from warren_callout.domain.admission import KeyStatus, OperatorTokenRow


class CredentialCache:
    """The last known status of keys and operator tokens. `loaded` is set after the first complete load: before it, an
    unknown key may belong to a peer that has not been read yet."""

    def __init__(self) -> None:
        self._keys: dict[str, KeyStatus] = {}
        self._operators: dict[bytes, OperatorTokenRow] = {}
        self._removed: set[bytes] = set()
        self.loaded = False

    def update_key(self, status: KeyStatus) -> KeyStatus:
        """Store the status of a key; return the one that holds now (a revocation or a newer row is not replaced)."""
        known = self._keys.get(status.nkey)
        if known is not None and (known.version > status.version or (known.revoked and not status.revoked)):
            return known
        if status.id or status.revoked:
            self._keys[status.nkey] = status
        return status

    def update_operator(self, token: OperatorTokenRow) -> OperatorTokenRow | None:
        """Store an operator token; None if it was removed, since this row may have been read before the removal."""
        if token.digest in self._removed:
            return None
        self._operators[token.digest] = token
        return token

    def remove_operator(self, digest: bytes) -> None:
        """Remove an operator token for good: 256 random bits do not repeat."""
        self._operators.pop(digest, None)
        self._removed.add(digest)

    def load(self, keys: Iterable[KeyStatus], operators: Iterable[OperatorTokenRow]) -> None:
        """Store all rows. Operator tokens that are not among them are dropped."""
        for status in keys:
            self.update_key(status)
        self._operators = {token.digest: token for token in operators if token.digest not in self._removed}
        self.loaded = True

    def key_status(self, nkey: str) -> KeyStatus:
        """The cached status of a key; an empty one for an unknown key."""
        return self._keys.get(nkey, KeyStatus(nkey))

    def knows(self, nkey: str = "", digest: bytes = b"") -> bool:
        """Whether this key or token was valid before."""
        return bool(self._keys.get(nkey, KeyStatus(nkey)).id) or digest in self._operators

    def operator(self, digest: bytes) -> OperatorTokenRow | None:
        return self._operators.get(digest)

    def __len__(self) -> int:
        return len(self._keys)
