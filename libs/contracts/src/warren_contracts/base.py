"""The two kinds of models: what the bus carries (tolerant readers) and what people write (strict)."""

from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Strict

Model = TypeVar("Model", bound=BaseModel)


# What people state is what its schema says: `"5"` and `yes` are words, and nothing is guessed of them.
WHOLE = Strict()
Whole = Annotated[int, WHOLE]
Flag = Annotated[bool, Strict()]


class Document(BaseModel):
    """A released message: frozen, and unknown fields of newer writers are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Input(BaseModel):
    """What an operator or another system states: frozen, and an unknown field is an error that names it."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def read(model: type[Model], payload: bytes | str) -> Model:
    """A released message as its reader takes it: what newer writers added is ignored at every depth.

    A policy is strict where it is stated; inside a PolicySet it must not make an older agent refuse the whole set. Raises
    pydantic's ValidationError.
    """
    return model.model_validate_json(payload, extra="ignore")
