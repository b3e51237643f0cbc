"""Error replies: RFC 9457 problem details, the same over HTTP and RPC.

An RPC reply whose header `Content-Type` is `application/problem+json` is a Problem, whatever reply model the caller expected.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from warren_contracts.base import Document
from warren_contracts.media_types import PROBLEM
from warren_contracts.validation_messages import TOO_SHORT, UNION_KINDS, message

CONTENT_TYPE = PROBLEM


class InvalidField(Document, defer_build=True):
    """An invalid field: its path (as a JSON pointer without the leading slash), and the reason with the remedy."""

    field: str  # `policies/0/topology/hubs/0`
    message: str


class Problem(Document, defer_build=True):
    """Problem details. `type` is stable (`urn:warren:problem:unknown-tag`); `detail` gives the reason and the remedy."""

    PREFIX: ClassVar[str] = "urn:warren:problem:"

    type: str
    title: str
    status: int  # the HTTP status code
    detail: str = ""
    instance: str = ""  # the trace id
    errors: tuple[InvalidField, ...] = ()

    @property
    def line(self) -> str:
        """The problem as one line for a terminal."""
        fields = [f"{error.field}: {error.message}" for error in self.errors]
        more = [f"and {len(fields) - 3} more"] if len(fields) > 3 else []
        text = "; ".join(fields[:3] + more) if fields else self.detail
        return ": ".join(part for part in (self.title, " ".join(text.split())) if part)


class WarrenError(Exception):
    """Base class of errors that are sent to a caller. A subclass sets `code` and `status`; its message is the detail.

    The title is the code in words, unless a subclass with a code states another one.
    """

    code: ClassVar[str] = "internal"
    title: ClassVar[str] = "Internal error"
    status: ClassVar[int] = 500

    def __init_subclass__(cls) -> None:
        if "code" in vars(cls) and "title" not in vars(cls):
            cls.title = cls.code.replace("-", " ").capitalize()

    def __init__(self, detail: str = "", errors: tuple[InvalidField, ...] = ()) -> None:
        super().__init__(detail or (self.__doc__ or "").strip())
        self.detail = detail or (self.__doc__ or "").strip()
        self.errors = errors

    def problem(self, instance: str = "") -> Problem:
        return Problem(
            type=Problem.PREFIX + self.code, title=self.title, status=self.status, detail=self.detail,
            instance=instance, errors=self.errors,
        )  # fmt: skip


class InvalidInputError(WarrenError):
    """The input is invalid: correct the named fields."""

    code = "invalid-input"
    status = 422


class NotFoundError(WarrenError):
    """The resource does not exist."""

    code = "not-found"
    status = 404


class ConflictError(WarrenError):
    """The resource changed since it was read: read it again and retry."""

    code = "conflict"
    status = 409


class UnauthorizedError(WarrenError):
    """The bearer token is missing, invalid or expired."""

    code = "unauthorized"
    status = 401


class ForbiddenError(WarrenError):
    """The role of this token does not permit the request."""

    code = "forbidden"
    status = 403


class UnavailableError(WarrenError):
    """A required service is unavailable: retry later."""

    code = "unavailable"
    status = 503


def invalid_input(errors: Sequence[Mapping[str, Any]], prefix: str = "") -> InvalidInputError:
    """Convert pydantic's `ValidationError.errors()` to field paths and messages, without the invalid values.

    `prefix` is the path of the validated part within the input: `policies/0`.
    """
    fields = [_invalid_field(error, prefix) for error in errors[:32]]
    # If an entry of a list is invalid, pydantic also reports the list as too short; that second error is misleading.
    refused = [field.field for field in fields]
    kept = tuple(
        field for field in fields
        if not (field.message == TOO_SHORT and any(path.startswith(f"{field.field}/") for path in refused))
    )  # fmt: skip
    return InvalidInputError("; ".join(f"{field.field}: {field.message}" for field in kept[:3]), kept)


def _invalid_field(error: Mapping[str, Any], prefix: str) -> InvalidField:
    location = [str(part) for part in error.get("loc", ())]
    for index, part in enumerate(location[1:], start=1):
        # pydantic inserts the member of a discriminated union into the path; it is not a field.
        if part in UNION_KINDS.get(location[index - 1], ()):
            del location[index]
            break
    path = "/".join(([prefix] if prefix else []) + location)
    return InvalidField(field=path or "(root)", message=message(error))
