"""Whose a request is: by its bearer token, or by the session that its cookie names."""

from collections.abc import Mapping

from starlette.requests import HTTPConnection

from warren_api.auth import digest_of
from warren_api.sessions.cookie import require_own_origin, secret_of
from warren_api.sessions.credential import Credential, CredentialCheck, Method
from warren_api.sessions.store import SessionStore
from warren_contracts.authentication import Authenticated
from warren_contracts.problems import UnauthorizedError

_MISSING = "sign in at /sign-in, or send `Authorization: Bearer <token>` with a token of this fleet"


class RequestAuthenticator:
    """Finds the credential of a request, and asks its issuer whose it is. No result is stored here.

    A session's credential is checked like a token in a header, with each request: it ends when its token is removed.
    """

    def __init__(self, sessions: SessionStore, checks: Mapping[Method, CredentialCheck]) -> None:
        self.sessions = sessions
        self._checks = checks

    async def principal(self, connection: HTTPConnection) -> Authenticated:
        """Whose a request is.

        Raises:
            UnauthorizedError: it has no credential, or one that is not valid any more.
            ForeignOriginError: a change with a session, from a page of another origin.
            UnavailableError: the credential cannot be checked.
        """
        credential = self.credential(connection)
        try:
            return await self.check(credential, address_of(connection))
        except UnauthorizedError:
            if "authorization" not in connection.headers and (secret := secret_of(connection)) is not None:
                self.sessions.close(secret)
            raise

    async def same_principal(self, connection: HTTPConnection, before: Authenticated) -> Authenticated:
        """Whose a request is, which has been open for a while. Raises UnauthorizedError, too, when its role or its scope is another."""
        now = await self.principal(connection)
        if now != before:
            raise UnauthorizedError("the role or the scope of the token is another: connect again")
        return now

    def credential(self, connection: HTTPConnection) -> Credential:
        """What a request presents; a header comes before a cookie. Raises UnauthorizedError or ForeignOriginError."""
        authorization = connection.headers.get("authorization")
        if authorization is not None:
            return Credential(Method.TOKEN, digest_of(authorization))
        secret = secret_of(connection)
        if secret is None:
            raise UnauthorizedError(_MISSING)
        require_own_origin(connection)
        session = self.sessions.find(secret)
        if session is None:
            raise UnauthorizedError("the session has ended: sign in again")
        return session.credential

    async def check(self, credential: Credential, address: str) -> Authenticated:
        """Whose a credential is now. Raises UnauthorizedError or UnavailableError."""
        return await self._checks[credential.method](credential.subject, address)


def address_of(connection: HTTPConnection) -> str:
    """The address of the client, from the socket or a trusted proxy."""
    return connection.client.host if connection.client is not None else ""
