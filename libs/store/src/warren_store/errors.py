"""Errors of PostgreSQL, and the only place that classifies asyncpg's errors."""

import ssl

import asyncpg
import structlog

from warren_contracts.problems import InvalidInputError, UnavailableError

log = structlog.get_logger(__name__)


class PostgresUnavailableError(UnavailableError):
    """PostgreSQL is unavailable: the service reconnects when it has returned; repeat the call."""


class DamagedMigrationsError(RuntimeError):
    """The migration files differ from the applied ones: restore the released files, add changes as a new number."""


# The server is unavailable, starting, stopping or full. A role or database that does not exist yet counts, too: the launcher
# creates them after the server has started, while the services connect already.
_UNAVAILABLE: tuple[type[BaseException], ...] = (
    OSError,  # also TimeoutError and ConnectionError
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    # "another operation is in progress": the server has announced the end of this connection, and it is not closed yet
    asyncpg.InternalClientError,
)


def is_unavailable(error: BaseException, *, closed: bool = False) -> bool:
    """Whether `error` means that PostgreSQL cannot be used now.

    `closed`: the connection is closed. asyncpg's InterfaceError also names wrong use, so it counts only then.
    """
    return isinstance(error, _UNAVAILABLE) or (closed and isinstance(error, asyncpg.InterfaceError))


def unavailable(error: BaseException) -> PostgresUnavailableError:
    """The error for callers. The cause goes to the log, and there by its class only: messages may quote a DSN."""
    if reason := tls_reason(error):
        log.warning("store.tls_refused", reason=reason)
        return PostgresUnavailableError(f"PostgreSQL is not trusted: {reason}")
    log.info("store.unreachable", error=type(error).__name__)
    if isinstance(error, asyncpg.DiskFullError):
        return PostgresUnavailableError("the disk of PostgreSQL is full: free some space, then repeat the call")
    return PostgresUnavailableError("PostgreSQL is unavailable: repeat the call when it has returned")


def tls_reason(error: BaseException) -> str:
    """Why TLS to PostgreSQL failed, with the remedy; empty for other failures."""
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in (62, 64):  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
            return "its certificate is not for the host in WARREN_POSTGRES_DSN: use a name that it is for"
        if error.verify_code in (9, 10):  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED
            return "its certificate has expired or is not valid yet: renew it, and compare the clocks"
        return (
            "its certificate is not signed by the CA in sslrootcert of WARREN_POSTGRES_DSN: name the CA of the server"
        )
    if isinstance(error, ssl.SSLError):
        return f"the TLS handshake failed ({error.reason}): it must accept TLS 1.2 or 1.3"
    if isinstance(error, ConnectionError) and "rejected SSL upgrade" in str(error):
        return "it offers no TLS: set `ssl = on` with a certificate in postgresql.conf"
    return ""


# PostgreSQL stores neither NUL in text nor JSON's \\u0000 in jsonb; half a surrogate pair is not valid UTF-8. No service writes such
# text itself, so it came with the request.
_INVALID_TEXT = (asyncpg.CharacterNotInRepertoireError, asyncpg.UntranslatableCharacterError)


def is_invalid_text(error: BaseException) -> bool:
    """Whether `error` means that a given text cannot be stored or looked up."""
    return isinstance(error, _INVALID_TEXT) or isinstance(error.__cause__, UnicodeEncodeError)


def invalid_text() -> InvalidInputError:
    """The error for callers."""
    return InvalidInputError("a text contains NUL or an unpaired surrogate: remove it")
