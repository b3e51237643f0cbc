"""The generated documents in docs/ are current and complete."""

import re
from pathlib import Path
from typing import Any

import pytest

from warren_contracts.events import EVENTS
from warren_contracts.verbs import COMMANDS
from warren_tools import asyncapi, openapi

DOCS = Path(__file__).parents[2] / "docs"


def test_the_asyncapi_document_is_current() -> None:
    assert (DOCS / "asyncapi.json").read_text() == asyncapi.text(), "run `make docs`"


def test_the_openapi_document_is_current() -> None:
    assert (DOCS / "openapi.json").read_text() == openapi.document(), "run `make docs`"


def references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [found for item in value.values() for found in references(item)]
    return [found for item in value for found in references(item)] if isinstance(value, list) else []


def test_every_reference_of_the_asyncapi_document_resolves() -> None:
    document = asyncapi.document()
    for reference in set(references(document)):
        place: Any = document
        for part in reference.removeprefix("#/").split("/"):
            assert part in place, reference
            place = place[part]


def test_every_parameter_of_an_address_is_described() -> None:
    for name, channel in asyncapi.document()["channels"].items():
        named = set(re.findall(r"{(\w+)}", channel["address"] or ""))
        assert named == set(channel.get("parameters", {})), name


@pytest.mark.parametrize("event", EVENTS)
def test_the_address_of_an_event_is_named_in_its_docstring(event: Any) -> None:
    source, kind, name = asyncapi.EVENT_ADDRESSES[event.TYPE]
    assert f"warren.v1.event.{source}.{kind}.<{name}>" in event.__doc__


def test_every_command_is_an_operation_with_a_reply() -> None:
    operations = asyncapi.document()["operations"]
    for command in COMMANDS:
        assert "reply" in operations[f"rpc-{command.service}-{command.verb}"]
