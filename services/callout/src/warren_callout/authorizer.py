"""Decide each connection by the registry's rows, and by cached ones while PostgreSQL is unavailable.

Each decision reads the row that it needs: a new peer may connect as soon as it is enrolled, and a revoked one never again.
The cache follows every change by NOTIFY, and is used when a read fails or takes too long.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TypeVar

import structlog

from warren_callout.domain.admission import (
    AdmissionRefusedError,
    AuthRequest,
    Credential,
    Grant,
    JoinCredential,
    KeyStatus,
    OperatorCredential,
    OperatorTokenRow,
    ProbeCredential,
    admit_joining,
    admit_operator,
    admit_peer,
    admit_probe,
    verify_credential,
)
from warren_callout.domain.credential_cache import CredentialCache
from warren_callout.ports import CredentialRows
from warren_contracts.problems import UnavailableError

# s for a row; the whole answer must be there within the 2 s that a connecting client waits (bus.md, c1)
ROW_TIMEOUT = 1.0
SLOW_AT_ONCE = 2  # of eight connections to PostgreSQL
SLOW_WAITING = 16  # more would only wait until their clients give up
TABLES = ("peer", "revoked_key", "operator_token")
MAX_KEY = 64  # characters of an nkey (56) or of a digest in hexadecimal
RETRY_AFTER = 1.0  # s after a failed read in which no other decision waits for PostgreSQL

T = TypeVar("T")
log = structlog.get_logger(__name__)


class RowsUnavailableError(Exception):
    """The rows cannot be read now."""


class Authorizer:
    """Decides authorization requests."""

    def __init__(
        self, rows: CredentialRows, cache: CredentialCache, monotonic: Callable[[], float] = time.monotonic,
        prober: str = "",
    ) -> None:  # fmt: skip
        self._rows = rows
        self._cache = cache
        self._monotonic = monotonic
        self._prober = prober  # the public key of the API server's calls, base64; empty: nobody probes
        self._unavailable_until = float("-inf")
        self._slow = asyncio.Semaphore(SLOW_AT_ONCE)
        self._waiting = 0

    async def decide(self, request: AuthRequest, now: datetime, *, suspected: bool = False) -> Grant:
        """Grant, or raise AdmissionRefusedError.

        `suspected`: the client's address has sent many credentials that were refused. What is not known to be valid is then looked
        up in a lane of its own, so that others do not wait for it.
        """
        credential = verify_credential(request)
        if isinstance(credential, ProbeCredential):
            return admit_probe(credential, self._prober, now)
        if not suspected or self._is_known(credential):
            return await self._decide(credential, now)
        if self._waiting >= SLOW_WAITING:
            raise AdmissionRefusedError("too many unknown credentials of one address: retry later")
        self._waiting += 1
        try:
            async with self._slow:
                return await self._decide(credential, now)
        finally:
            self._waiting -= 1

    def _is_known(self, credential: Credential) -> bool:
        match credential:
            case OperatorCredential(digest):
                return self._cache.knows(digest=digest)
            case _:
                return self._cache.knows(credential.nkey)

    async def _decide(self, credential: Credential, now: datetime) -> Grant:
        match credential:
            case OperatorCredential(digest):
                return admit_operator(await self._operator(digest), now)
            case JoinCredential(nkey, token):
                try:
                    stored = await self._read(lambda: self._rows.join_token(token.id))
                except RowsUnavailableError:
                    raise AdmissionRefusedError("PostgreSQL does not answer: no host can enrol until it does") from None
                return admit_joining(credential, stored, await self._key_status(nkey), now)
            case _:
                return admit_peer(await self._key_status(credential.nkey))

    async def reload(self) -> None:
        """Load all rows: at the start and after every gap in the notifications. Raises UnavailableError."""
        self._cache.load(*await self._rows.load_all())
        log.info("callout.loaded", keys=len(self._cache))

    async def refresh(self, payload: str) -> None:
        """Read one changed row: `<table> <nkey>`, or `operator_token <digest>`.

        Raises UnavailableError, and ValueError for anything else: any role may send it.
        """
        table, _, key = payload.partition(" ")
        if table not in TABLES or not (key.isascii() and key.isalnum()) or len(key) > MAX_KEY:
            raise ValueError("not a notice of the registry")
        if table == "operator_token":
            digest = bytes.fromhex(key)
            token = await self._rows.operator_token(digest)
            if token is None:
                self._cache.remove_operator(digest)
            else:
                self._cache.update_operator(token)
        else:
            self._cache.update_key(await self._rows.key_status(key))

    async def _key_status(self, nkey: str) -> KeyStatus:
        try:
            return self._cache.update_key(await self._read(lambda: self._rows.key_status(nkey)))
        except RowsUnavailableError:
            status = self._cache.key_status(nkey)
            if not status.id and not status.revoked:
                raise AdmissionRefusedError("PostgreSQL does not answer, and the key is not cached") from None
            return status

    async def _operator(self, digest: bytes) -> OperatorTokenRow | None:
        try:
            token = await self._read(lambda: self._rows.operator_token(digest))
        except RowsUnavailableError:
            return self._cache.operator(digest)
        return None if token is None else self._cache.update_operator(token)

    async def _read(self, query: Callable[[], Awaitable[T]]) -> T:
        """Read a row, or raise RowsUnavailableError. After a failure the next decisions do not wait for PostgreSQL:
        after its end thousands of clients may connect at once."""
        if self._monotonic() < self._unavailable_until:
            raise RowsUnavailableError
        try:
            async with asyncio.timeout(ROW_TIMEOUT):
                return await query()
        except (UnavailableError, TimeoutError) as error:
            now = self._monotonic()
            if now >= self._unavailable_until:  # log once for all decisions that waited together
                slow = isinstance(error, TimeoutError)
                reason = (
                    f"no row within {ROW_TIMEOUT:g} s: PostgreSQL hangs, or more connect than it serves"
                    if slow
                    else str(error)
                )
                log.warning("callout.rows_unavailable", error=reason)
            self._unavailable_until = now + RETRY_AFTER
            raise RowsUnavailableError from None
