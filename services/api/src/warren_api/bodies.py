"""Parse request bodies strictly: JSON without repeated keys, and only of authenticated principals."""

import asyncio
import functools
import json
import re
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from warren_api.errors import UnsupportedMediaTypeError
from warren_api.routes.common import AuthenticateFirstRoute
from warren_contracts.base import Input
from warren_contracts.problems import InvalidField, InvalidInputError, WarrenError

LARGE = 65_536  # bytes of a body that is parsed in a thread
MAX_UNKNOWN = 64  # keys of no field in one body, after which parsing stops: each costs an error message
MAX_MAP, MAX_MAPS = 1_000, 4  # entries of an object with free keys, and how many such objects a body has


@functools.cache
def field_names() -> frozenset[str]:
    """The names of all fields of all models. Of their annotations: asking pydantic would build every model."""
    found: set[str] = set()
    models: list[type[BaseModel]] = [Input]
    while models:
        model = models.pop()
        found |= set(vars(model).get("__annotations__", ()))
        models += model.__subclasses__()
    return frozenset(found)


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
        body = await self.body()
        # Parsing a large body takes a second: in a thread, requests of others go on meanwhile.
        return await asyncio.to_thread(parse, body) if len(body) > LARGE else parse(body)


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
        return json.loads(body.decode("utf-8"), object_pairs_hook=_Objects().build, parse_constant=_constant)
    except UnicodeDecodeError:
        raise _refused("invalid UTF-8") from None
    except json.JSONDecodeError as error:
        raise _refused(f"invalid JSON: line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise _refused("nested too deeply") from None
    except ValueError:
        raise _refused("a number has too many digits") from None


class _Objects:
    """Build the objects of one text; parsing stops at a repeated key, and after MAX_UNKNOWN keys that no model has."""

    def __init__(self) -> None:
        self._unknown: list[str] = []
        self._maps = 0

    def build(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            seen: set[str] = set()
            for name, _ in pairs:
                if name in seen:
                    raise _refused(f"the key {name[:64]!r} is repeated in one object")
                seen.add(name)
        names = field_names()
        unknown = [name for name in found if name not in names]
        if unknown and not self._is_map(found):
            self._unknown += unknown[:MAX_UNKNOWN]
            if len(self._unknown) >= MAX_UNKNOWN:
                shown = ", ".join(name[:32] for name in self._unknown[:3])
                raise _refused(f"more than {MAX_UNKNOWN} keys are of no field: {shown} and others")
        return found

    def _is_map(self, found: dict[str, Any]) -> bool:
        """`expected_versions`, whose keys are ids of policies: one in a body, or a few that are wrong."""
        if len(found) > MAX_MAP or self._maps >= MAX_MAPS or not all(type(value) is int for value in found.values()):
            return False
        self._maps += 1
        return True


def _constant(word: str) -> Any:
    raise _refused(f"invalid JSON: {word} is not a JSON value")
