"""The API server as the command sees it: JSON in, JSON out, every failure one clear error."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeVar
from urllib.parse import quote, urlsplit

from warren_cli.errors import CliError
from warren_cli.files import read_small_text
from warren_cli.folders import TOKEN_NAME, default_data_folder
from warren_cli.remote.http import ConnectTimeoutError, HttpClient, InvalidUrlError, ProtocolError, Response, Stream
from warren_cli.remote.server_trust import ServerTrust, is_this_machine
from warren_cli.terminal import echo
from warren_contracts.media_types import PROBLEM

if TYPE_CHECKING:  # models are imported by the verbs that need them
    from pydantic import BaseModel

    from warren_contracts.problems import InvalidField, Problem

DEFAULT_URL = "https://127.0.0.1:8400"
LIMIT_SECONDS = 30.0
PAGE = 500  # entries of one page: the most that the API server gives

ModelT = TypeVar("ModelT", bound="BaseModel")


class UsageError(CliError):
    """Something is missing in the call: see --help."""


class BadValueError(CliError):
    """A value of the call is wrong."""


class ApiUnavailableError(CliError):
    """The API server cannot be reached: is `warren up` running, and is --url (WARREN_URL) right?"""


class RefusedError(CliError):
    """The API server refused."""

    def __init__(self, problem: "Problem") -> None:
        super().__init__(problem.line)
        self.problem = problem
        self.status = problem.status
        self.errors: tuple[InvalidField, ...] = problem.errors


class ApiClient:
    """A client of one API server. Use as a context manager."""

    def __init__(self, url: str, token: str = "", trust: ServerTrust = ServerTrust()) -> None:  # noqa: B008 - it is frozen
        check_url(url)
        trust.check(url, token)
        self.url = url
        self._trust = trust
        self._headers = {"authorization": f"Bearer {token}"} if token else {}
        self._connected: tuple[object, HttpClient] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the next request makes a new one."""
        if self._connected is not None:
            self._connected[1].close()
            self._connected = None

    @property
    def http(self) -> HttpClient:
        """The connection; a new one, with the new CA, when the file of the CA has changed. Raises CliError."""
        version = self._trust.version()
        if self._connected is None or self._connected[0] != version:
            # A proxy of the environment is for the world outside, never for this machine.
            made = HttpClient(
                self.url, self._headers, LIMIT_SECONDS,
                self._trust.context() if urlsplit(self.url).scheme == "https" else None,
                use_proxy=not is_this_machine(self.url),
            )  # fmt: skip
            if self._connected is not None:
                self._connected[1].close()
            self._connected = (version, made)
        return self._connected[1]

    def call(
        self, method: str, path: str, reply: type[ModelT], body: "BaseModel | None" = None, **query: Any
    ) -> ModelT:
        """One request. Raises RefusedError or ApiUnavailableError."""
        response = self.request(method, path, body, **query)
        if response.is_error:
            raise_problem(response)
        return parse_body(response, reply)

    def request(self, method: str, path: str, body: "BaseModel | None" = None, **query: Any) -> Response:
        """One request, whatever the answer is. Raises ApiUnavailableError."""
        content = None if body is None else body.model_dump_json(exclude_unset=True).encode()
        given = {name: value for name, value in query.items() if value is not None}
        headers = {"content-type": "application/json"} if content is not None else {}
        with _reached(self.url, self._trust, changes=method != "GET"):
            return self.http.request(method, path, given, content, headers)

    def pages(self, path: str, reply: type[ModelT], entries: str, **query: Any) -> Iterator[Any]:
        """Every entry of a listing, page by page."""
        after: str | None = None
        while True:
            page = self.call("GET", path, reply, None, limit=PAGE, after=after, **query)
            yield from getattr(page, entries)
            after = getattr(page, "next_after", None)
            if after is None:
                return

    def plain_pages(self, path: str, entries: str) -> Iterator[dict[str, Any]]:
        """The same as plain JSON objects, for a verb that must not wait for the models. Raises CliError."""
        after: object = None
        while True:
            response = self.request("GET", path, limit=PAGE, after=after)
            if response.is_error:
                raise_problem(response)
            page = parse_object(response)
            listed = page.get(entries)
            if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
                raise _not_warren(response)
            yield from listed
            after = page.get("next_after")
            if after is None:
                return

    @contextmanager
    def stream(self, path: str, headers: dict[str, str], **query: Any) -> Iterator[Stream]:
        """A response that is read as it comes: signs of life come every ten seconds. Raises RefusedError or ApiUnavailableError."""
        given = {name: value for name, value in query.items() if value is not None}
        with _reached(self.url, self._trust), self.http.stream(path, given, headers) as response:
            if response.is_error:
                raise_problem(response.response())
            yield response


def check_url(url: str) -> None:
    """Raises BadValueError unless an API server can be reached by it."""
    option = "--url (WARREN_URL)"
    try:
        parts = urlsplit(url)
        if parts.username is not None or parts.password is not None:  # not shown: it may hold a password
            raise BadValueError(f"{option}: no user and no password in it: the token comes from --token-file")
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        good = good and not parts.query and not any(letter.isspace() or not letter.isprintable() for letter in url)
    except ValueError:
        good = False
    if not good:
        shown = "this" if "@" in url else repr(url)
        raise BadValueError(f"{option}: invalid URL {shown}: write one such as {DEFAULT_URL}")


def parse_body(response: Response, reply: type[ModelT]) -> ModelT:
    """The reply's model; raises CliError when it is not a reply of an API server."""
    from pydantic import ValidationError

    from warren_contracts.base import read

    try:
        return read(reply, response.content)
    except ValidationError:
        raise _not_warren(response) from None


def parse_object(response: Response) -> dict[str, Any]:
    """The reply's JSON object; raises CliError when it is none."""
    try:
        found = json.loads(response.content)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise _not_warren(response)
    return found


def _not_warren(response: Response) -> CliError:
    return CliError(f"{response.url} did not answer as a Warren API server does: is --url right?")


def health_response(api: ApiClient) -> Response:
    """The health of everything, ready or not. Raises RefusedError or ApiUnavailableError."""
    response = api.request("GET", path_of("health"))
    if response.status not in (HTTPStatus.OK, HTTPStatus.SERVICE_UNAVAILABLE) or is_problem(response):
        raise_problem(response)
    return response


def is_problem(response: Response) -> bool:
    """Whether a response says what went wrong as Warren does (RFC 9457)."""
    return response.content_type.startswith(PROBLEM)


def raise_problem(response: Response) -> NoReturn:
    """Raise what an error response says."""
    from pydantic import ValidationError

    from warren_contracts.base import read
    from warren_contracts.problems import Problem

    if is_problem(response):
        try:
            raise RefusedError(read(Problem, response.content))
        except ValidationError:
            pass
    raise CliError(f"{response.url} answered {response.status} {response.reason}: not an answer of a Warren API server")


def path_of(*parts: str) -> str:
    """A path of the API; each part is one segment, whatever is in it."""
    return "/api/" + "/".join(quote(part, safe="+") for part in parts)


def token_path(token_file: Path | None) -> Path:
    """The file of the bearer token: that of `warren up` on this machine when none is named. Raises UsageError."""
    path = token_file or _token_of_this_machine()
    if path is None:
        raise UsageError("no token: name its file with --token-file or WARREN_TOKEN_FILE")
    return path


def read_token(path: Path) -> str:
    """The bearer token of a file. Raises CliError."""
    token = read_small_text(path, "the token").strip()
    with suppress(OSError):
        if path.is_file() and path.stat().st_mode & 0o077:
            echo(f"warning: {path}: other users can read this token: chmod 600 {path}", err=True)
    if not token or not token.isascii() or len(token.split()) != 1:
        raise CliError(f"{path}: invalid token: the file must hold one word")
    return token


def _token_of_this_machine() -> Path | None:
    path = default_data_folder() / TOKEN_NAME
    return path if os.access(path, os.R_OK) else None


@contextmanager
def _reached(url: str, trust: ServerTrust, *, changes: bool = False) -> Iterator[None]:
    try:
        yield
    except ConnectTimeoutError:
        raise ApiUnavailableError(f"{url}: no connection within {LIMIT_SECONDS:g} s") from None
    except TimeoutError:
        doubt = "; what was asked for may still be carried out: look before you repeat it" if changes else ""
        raise ApiUnavailableError(f"{url}: no answer within {LIMIT_SECONDS:g} s{doubt}") from None
    except InvalidUrlError as error:
        raise BadValueError(f"invalid URL {url!r}: {error}") from None
    except (OSError, ProtocolError) as error:
        if (problem := trust.problem(url, error)) is not None:
            raise problem from None
        hint = " ".join((ApiUnavailableError.__doc__ or "").split())
        raise ApiUnavailableError(f"{url}: {hint} ({error or type(error).__name__})") from None
