"""The two kinds of models: what the bus carries (tolerant readers) and what people write (strict)."""

from pydantic import BaseModel, ConfigDict


class Document(BaseModel):
    """A released message: frozen, and unknown fields of newer writers are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Input(BaseModel):
    """What an operator or another system states: frozen, and an unknown field is an error that names it."""

    model_config = ConfigDict(frozen=True, extra="forbid")
