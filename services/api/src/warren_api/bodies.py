"""Parse request bodies strictly: JSON without repeated keys, and only of authenticated principals."""

import json
import re
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from starlette.exceptions import HTTPException

from warren_api.errors import UnsupportedMediaTypeError
from warren_api.routes.common import AuthenticateFirstRoute
from warren_contracts.problems import InvalidField, InvalidInputError, WarrenError

_JSON = re.compile(r"application/(.+\+)?json", re.IGNORECASE)


class BodyRefusedError(HTTPException):
    """Carries the error of a body through FastAPI, which replaces every other exception by a plain 400."""

    def __init__(self, error: WarrenError) -> None:
        super().__init__(error.status, error.detail)
        self.error = error


class JsonRequest(Request):
    """A request whose body must be declared as JSON, and is parsed strictly."""

    async def body(self) -> bytes:
        """Raises BodyRefusedError for another media type, or none: FastAPI would use the bytes as the value."""
        found = await super().body()
        if found and not _JSON.fullmatch(self.headers.get("content-type", "").partition(";")[0].strip()):
            raise BodyRefusedError(UnsupportedMediaTypeError())
        return found

    async def json(self) -> Any:
        return parse(await self.body())


class JsonRoute(AuthenticateFirstRoute):
    """A route that authenticates before it reads the body, which may be large."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()
        if self.body_field is None:
            return handler

        async def handle(request: Request) -> Response:
            return await handler(JsonRequest(request.scope, request.receive))

        return handle


def _refused(message: str) -> BodyRefusedError:
    return BodyRefusedError(InvalidInputError(f"(root): {message}", (InvalidField(field="(root)", message=message),)))


def parse(body: bytes) -> Any:
    """The value of a JSON text (RFC 8259; in I-JSON, RFC 7493, 2.3, names do not repeat). Raises BodyRefusedError."""
    try:
        return json.loads(body.decode("utf-8"), object_pairs_hook=_object, parse_constant=_constant)
    except UnicodeDecodeError:
        raise _refused("invalid UTF-8") from None
    except json.JSONDecodeError as error:
        raise _refused(f"invalid JSON: line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise _refused("nested too deeply") from None
    except ValueError:
        raise _refused("a number has too many digits") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _refused(f"the key {twice[:64]!r} is repeated in one object")
    return found


def _constant(word: str) -> Any:
    raise _refused(f"invalid JSON: {word} is not a JSON value")
