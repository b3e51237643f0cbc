"""What the auth callout needs from outside."""

from typing import Protocol

from warren_callout.domain.admission import JoinTokenState, KeyStatus, OperatorTokenRow


class CredentialRows(Protocol):
    """The registry's rows. Every method raises UnavailableError while PostgreSQL is unavailable."""

    async def key_status(self, nkey: str) -> KeyStatus: ...
    async def join_token(self, identifier: str) -> JoinTokenState | None: ...
    async def operator_token(self, digest: bytes) -> OperatorTokenRow | None: ...
    async def load_all(self) -> tuple[tuple[KeyStatus, ...], tuple[OperatorTokenRow, ...]]: ...
