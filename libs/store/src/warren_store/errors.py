"""What can go wrong between a service and PostgreSQL, and the one place that sorts asyncpg's errors."""

import asyncpg
import structlog

from warren_contracts.problems import InvalidInputError, UnavailableError

log = structlog.get_logger(__name__)


class PostgresUnavailableError(UnavailableError):
    """PostgreSQL is unavailable: it is picked up again when it returns; repeat the call."""


class DamagedMigrationsError(RuntimeError):
    """The migration files differ from what was applied: restore the released files, add changes as a new number."""


# What says that the server is unavailable, starting, stopping or full. A role or database that does not exist yet counts too:
# the launcher makes them after the server has started, while the services already knock.
_AWAY: tuple[type[BaseException], ...] = (
    OSError,  # also TimeoutError and ConnectionError
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    # "another operation is in progress": the server has said that it ends this connection, and its end has not come yet
    asyncpg.InternalClientError,
)


def is_unavailable(error: BaseException, *, closed: bool = False) -> bool:
    """Whether `error` means that PostgreSQL cannot be used now.

    `closed`: the connection is closed. asyncpg's InterfaceError also names wrong use, so it counts only then.
    """
    return isinstance(error, _AWAY) or (closed and isinstance(error, asyncpg.InterfaceError))


def away(error: BaseException) -> PostgresUnavailableError:
    """The error for callers. The cause goes to the log, and there by its class only: messages may quote a DSN."""
    log.info("store.away", cause=type(error).__name__)
    if isinstance(error, asyncpg.DiskFullError):
        return PostgresUnavailableError("the disk of PostgreSQL is full: make room on it, then repeat the call")
    return PostgresUnavailableError("PostgreSQL is unavailable: repeat the call when it has returned")


# PostgreSQL keeps no NUL in text and none of JSON's \\u0000 in jsonb; half a surrogate pair is no UTF-8. No service writes such
# text of its own, so it came with the request.
_NO_TEXT = (asyncpg.CharacterNotInRepertoireError, asyncpg.UntranslatableCharacterError)


def is_no_text(error: BaseException) -> bool:
    """Whether `error` means that a text was given which cannot be stored or looked up."""
    return isinstance(error, _NO_TEXT) or isinstance(error.__cause__, UnicodeEncodeError)


def no_text() -> InvalidInputError:
    """The error for callers."""
    return InvalidInputError("a text holds a NUL or half a character: write it without")
