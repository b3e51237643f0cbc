"""F5: one body of 3.8 MB with many unknown keys froze the API server for 50 s.

Parsing stops after a number of errors, a repeated key is found in one pass, and a large body is parsed in a thread.
"""

import asyncio
import json
import threading
from collections.abc import AsyncIterator

import pytest

from warren_api import bodies
from warren_api.bodies import LARGE, MAX_UNKNOWN, BodyRefusedError, field_names, parse
from warren_contracts.commands import Role
from warren_testkit.api import FakeBus
from warren_testkit.api.client import MESH, Client

COUNT = 250_000


@pytest.fixture
async def api() -> AsyncIterator[Client]:
    async with Client(FakeBus()) as client:
        yield client


def unknown(count: int) -> str:
    return ", ".join(f'"k{number}": "x"' for number in range(count))


@pytest.mark.parametrize(
    "text",
    [
        "{" + unknown(COUNT) + "}",
        '{"policies": [{' + unknown(COUNT) + "}]}",
        '{"policies": [' + ", ".join('{"a": 1.5}' for _ in range(COUNT)) + "]}",
        "[" + ", ".join('{"k": {"k": "x"}}' for _ in range(COUNT // 2)) + "]",
    ],
    ids=["one object", "one policy", "many policies", "nested"],
)
def test_parsing_stops_after_some_unknown_keys(text: str) -> None:
    with pytest.raises(BodyRefusedError, match="keys are of no field"):
        parse(text.encode())


def test_a_repeated_key_at_the_end_of_a_large_object_is_found_in_one_pass() -> None:
    """Quadratic, this would take an hour: the time-out of the test is the limit."""
    with pytest.raises(BodyRefusedError, match="'k0' is repeated"):
        parse(("{" + unknown(COUNT) + ', "k0": 1}').encode())


def test_ids_of_policies_are_keys_too() -> None:
    versions = {f"policy-{number}": 1 for number in range(1_000)}
    assert (
        parse(json.dumps({"policies": [MESH], "expected_versions": versions}).encode())["expected_versions"] == versions
    )
    with pytest.raises(BodyRefusedError):
        parse(json.dumps([versions] * 6).encode())


def test_a_few_slips_are_all_named() -> None:
    found = parse(
        json.dumps({"policies": [{**MESH, f"slip-{number}": "x"} for number in range(MAX_UNKNOWN - 1)]}).encode()
    )
    assert len(found["policies"]) == MAX_UNKNOWN - 1


def test_the_fields_of_every_body_are_known() -> None:
    names = {"policies", "topology", "hubs", "members", "tunnels", "ends", "public_key", "crypto", "tags", "lifetime"}
    assert names <= field_names()


async def test_other_requests_are_answered_while_a_large_body_is_parsed(
    api: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsing, go_on = threading.Event(), threading.Event()

    def slow(body: bytes) -> object:
        parsing.set()
        go_on.wait(60)
        return parse(body)

    monkeypatch.setattr(bodies, "parse", slow)
    body = json.dumps({"policies": [MESH], "mode": "upsert"}).encode().ljust(LARGE + 1)
    headers = {"content-type": "application/json"}
    sending = asyncio.create_task(api.post("/api/policies:apply", content=body, headers=headers))
    try:
        await asyncio.to_thread(parsing.wait, 60)
        assert (await api.get("/api/policies")).status_code == 200
    finally:
        go_on.set()
    assert (await sending).status_code == 200


async def test_a_viewers_large_body_is_not_read(api: Client) -> None:
    body = ("{" + unknown(COUNT) + "}").encode()
    answer = await api.role(Role.VIEWER).post(
        "/api/policies:apply", content=body, headers={"content-type": "application/json"}
    )
    assert answer.status_code == 403
