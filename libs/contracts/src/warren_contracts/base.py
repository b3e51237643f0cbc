"""The two kinds of models: what the bus carries (tolerant readers) and what people write (strict)."""

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict, ValidationInfo
from pydantic_core import PydanticCustomError

Model = TypeVar("Model", bound=BaseModel)
Item = TypeVar("Item")

# What a reader gives to pydantic as its context: the text was accepted when it was stated, maybe by an older version.
LENIENT: Mapping[str, Any] = {"reading": True}


# What people state is what its schema says: `"5"` and `yes` are words, and nothing is guessed of them.
STRICT_INT = Strict()
Whole = Annotated[int, STRICT_INT]
StrictBool = Annotated[bool, Strict()]


def _has_an_entry(value: tuple[Item, ...], info: ValidationInfo) -> tuple[Item, ...]:
    if not value and info.context is not LENIENT:
        raise PydanticCustomError("empty_list", "give at least one entry, or leave it out")
    return value


# A list that may be left out, which then means more than nothing (all that was announced, a profile's own choice). One that is
# stated without an entry means the opposite to whoever wrote it, and is refused. It is never written, so that what was read
# can be stated again; older writers did write it, so readers take it for a list that was left out.
NOT_EMPTY = AfterValidator(_has_an_entry)
OMIT_EMPTY = Field(exclude_if=lambda value: not value)
NonEmptyTuple = Annotated[tuple[Item, ...], NOT_EMPTY, OMIT_EMPTY]


class Document(BaseModel):
    """A released message: frozen, and unknown fields of newer writers are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Input(BaseModel):
    """What an operator or another system states: frozen, and an unknown field is an error that names it."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def read(model: type[Model], payload: bytes | str) -> Model:
    """A released message as its reader takes it: what newer writers added is ignored at every depth.

    A policy is strict where it is stated; inside a PolicySet it must not make an older agent refuse the whole set, nor a
    newer one. Raises pydantic's ValidationError.
    """
    return model.model_validate_json(payload, extra="ignore", context=LENIENT)
