"""Which schema changes count as incompatible."""

from enum import StrEnum
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, create_model

from warren_tools.compatibility import breaks
from warren_tools.released import released_models


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Inner(BaseModel):
    name: str
    size: int = 0


class Node(BaseModel):
    child: "Node | None" = None
    name: str = ""


class First(BaseModel):
    kind: Literal["first"]
    one: int


class Second(BaseModel):
    kind: Literal["second"]
    two: str


BEFORE: dict[str, Any] = {
    "id": (Annotated[str, Field(pattern="^[a-z]+$", max_length=8)], ...),
    "count": (Annotated[int, Field(ge=0)], 0),
    "colour": (Colour, Colour.RED),
    "inner": (Inner, ...),
    "items": (tuple[Inner, ...], ()),
    "by_name": (dict[str, Inner], {}),
    "either": (Annotated[First | Second, Field(discriminator="kind")], ...),
    "note": (str | None, None),
    "tree": (Node, Node()),
}


def schema(**changes: Any) -> dict[str, Any]:
    fields = {name: kind for name, kind in (BEFORE | changes).items() if kind is not None}
    model: type[BaseModel] = create_model("Thing", **fields)
    return model.model_json_schema()


class MoreColours(StrEnum):
    RED = "red"
    BLUE = "blue"
    GREEN = "green"


class FewerColours(StrEnum):
    RED = "red"


class Renamed(BaseModel):
    title: str = ""
    size: int = 0


class Grown(Inner):
    weight: float = 0.0


class Demanding(Inner):
    weight: float


class OtherSecond(BaseModel):
    kind: Literal["second"]
    two: int


class DeepChange(BaseModel):
    child: "DeepChange | None" = None
    name: int = 0


NARROWER = [
    ({"count": None}, "count: the field was removed"),
    ({"inner": (Renamed, ...)}, "inner/name: the field was removed"),
    ({"items": (tuple[Renamed, ...], ())}, "items/0/name: the field was removed"),
    ({"by_name": (dict[str, Renamed], {})}, "by_name/*/name: the field was removed"),
    ({"extra": (int, ...)}, "extra: a new field is required"),
    ({"inner": (Demanding, ...)}, "inner/weight: a new field is required"),
    ({"count": (Annotated[int, Field(ge=1)], 1)}, "count: minimum changed from 0 to 1"),
    ({"count": (Annotated[int, Field(ge=0, le=9)], 0)}, "count: maximum changed from None to 9"),
    ({"id": (Annotated[str, Field(pattern="^[a-f]+$", max_length=8)], ...)}, "id: pattern changed"),
    ({"id": (Annotated[str, Field(pattern="^[a-z]+$", max_length=4)], ...)}, "id: maxLength changed from 8 to 4"),
    ({"colour": (FewerColours, FewerColours.RED)}, "colour: the value blue was removed"),
    ({"count": (str, "")}, "count: the type changed from integer to string"),
    ({"note": (str, "")}, "note: null is no longer accepted"),
    ({"either": (First, ...)}, "either: Second is no longer accepted"),
    ({"either": (Annotated[First | OtherSecond, Field(discriminator="kind")], ...)}, "either/two: the type changed"),
    ({"tree": (DeepChange, DeepChange())}, "tree/name: the type changed"),
]
WIDER = [
    ({"colour": (MoreColours, MoreColours.RED)}, "colour: the value green is new"),
    ({"count": (float, 0.0)}, "count: the type changed from integer to number"),
    ({"count": (int, 0)}, "count: minimum changed from 0 to None"),
    ({"id": (str, ...)}, "id: pattern changed from"),
    ({"id": (Annotated[str, Field(pattern="^[a-z]+$", max_length=80)], ...)}, "id: maxLength changed from 8 to 80"),
    ({"inner": (Inner | None, ...)}, "inner: null is new"),
]
HARMLESS = [
    {},
    {"extra": (int, 0)},
    {"inner": (Grown, ...)},
    {"items": (tuple[Grown, ...], ())},
    {"count": (Annotated[int, Field(ge=0, description="how many", title="Count")], 5)},
]


@pytest.mark.parametrize(("change", "expected"), NARROWER + WIDER)
def test_a_change_of_a_document_breaks_readers(change: dict[str, Any], expected: str) -> None:
    found = breaks(schema(), schema(**change), stated=False)
    assert any(expected in line for line in found), found


@pytest.mark.parametrize(("change", "expected"), NARROWER)
def test_a_command_must_accept_what_it_accepted(change: dict[str, Any], expected: str) -> None:
    found = breaks(schema(), schema(**change), stated=True)
    assert any(expected in line for line in found), found


@pytest.mark.parametrize("change", [change for change, _ in WIDER] + HARMLESS)
def test_a_command_may_accept_more(change: dict[str, Any]) -> None:
    assert breaks(schema(), schema(**change), stated=True) == ()


@pytest.mark.parametrize("change", HARMLESS)
def test_a_document_may_grow_optional_fields(change: dict[str, Any]) -> None:
    assert breaks(schema(), schema(**change), stated=False) == ()


def test_a_field_that_a_command_could_leave_out_cannot_become_required() -> None:
    required = {"count": (Annotated[int, Field(ge=0)], ...)}
    assert breaks(schema(), schema(**required), stated=True) == ("count: a new field is required (give it a default)",)
    assert breaks(schema(), schema(**required), stated=False) == ()  # writers of documents always wrote it


@pytest.mark.parametrize("name", released_models())
def test_every_released_model_is_compatible_with_itself(name: str) -> None:
    current = released_models()[name].model_json_schema()
    for stated in (True, False):
        assert breaks(current, current, stated=stated) == ()
