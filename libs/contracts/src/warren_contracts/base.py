"""Base classes of the models: documents on the bus (tolerant) and operator input (strict).

A model that is only a part of others has `defer_build=True`: it builds a validator of its own when one is needed, which an agent
never does (0.4 MB).
"""

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict, ValidationInfo
from pydantic_core import PydanticCustomError, PydanticKnownError

Model = TypeVar("Model", bound=BaseModel)
Item = TypeVar("Item")

# pydantic context of a reader: the text was accepted when it was written, possibly by an older version.
LENIENT: Mapping[str, Any] = {"reading": True}


# Input is not coerced: `"5"` is not an integer and `yes` is not a boolean.
STRICT_INT = Strict()
Whole = Annotated[int, STRICT_INT]
StrictBool = Annotated[bool, Strict()]

BIGINT_MAX = 2**63 - 1  # of PostgreSQL's bigint: epochs, revisions, and sequences of streams


def _fits_bigint(value: int) -> int:
    if value > BIGINT_MAX:
        raise PydanticKnownError("less_than_equal", {"le": BIGINT_MAX})
    return value


# The bound is not in the frozen schemas of v1, where a new maximum counts as a break; what it refuses never had a result.
BIGINT = AfterValidator(_fits_bigint)
Position = Annotated[int, Field(ge=0), STRICT_INT, BIGINT]  # an epoch, a revision, or a sequence of a stream


def _has_an_entry(value: tuple[Item, ...], info: ValidationInfo) -> tuple[Item, ...]:
    if not value and info.context is not LENIENT:
        raise PydanticCustomError("empty_list", "must have at least one entry, or be omitted")
    return value


# A list whose omission means a default (all that was announced, the profile's proposals). An explicit empty list looks like the
# opposite and is refused. It is never serialized, so that what was read can be sent again; older writers did serialize it, so
# readers treat it as omitted.
NOT_EMPTY = AfterValidator(_has_an_entry)
OMIT_EMPTY = Field(exclude_if=lambda value: not value)
NonEmptyTuple = Annotated[tuple[Item, ...], NOT_EMPTY, OMIT_EMPTY]


class Document(BaseModel):
    """A released message: frozen, and unknown fields of newer writers are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Input(BaseModel):
    """Input of an operator or another system: frozen, and an unknown field is an error that names it."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def assembled(model: type[Model], given: set[str], values: dict[str, Any]) -> Model:
    """A model of values that are valid already: all of its fields, and `given`, the set of their names, which is shared.

    It does what `model_construct` does at its end, without a look at each field: 2 us instead of 15.
    """
    made = model.__new__(model)
    set_slot = object.__setattr__
    set_slot(made, "__dict__", values)
    set_slot(made, "__pydantic_fields_set__", given)
    set_slot(made, "__pydantic_extra__", None)
    set_slot(made, "__pydantic_private__", None)
    return made


def amended(model: Model, **values: Any) -> Model:
    """A frozen model with other values, which are valid already; the set of its given fields is shared."""
    return assembled(type(model), model.__pydantic_fields_set__, {**model.__dict__, **values})


def read(model: type[Model], payload: bytes | str) -> Model:
    """Parse a released message; fields that newer writers added are ignored at every depth.

    A policy is strict as input; inside a PolicySet an unknown field must not make an agent of another version refuse the
    whole set. Raises pydantic's ValidationError.
    """
    return model.model_validate_json(payload, extra="ignore", context=LENIENT)
