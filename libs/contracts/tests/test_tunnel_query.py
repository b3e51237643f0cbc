import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren_contracts.status import FleetTunnel
from warren_contracts.tunnel_query import MAX_QUERY, InvalidQueryError, TunnelQuery

TABLE: dict[str, Any] = json.loads((Path(__file__).parents[3] / "tests/data/tunnel-queries.json").read_text())
TUNNELS = [FleetTunnel.model_validate(it) for it in TABLE["tunnels"]]
NOW = datetime.fromisoformat(TABLE["now"])


@pytest.mark.parametrize("case", TABLE["cases"], ids=lambda case: case["query"] or "empty")
def test_table(case: dict[str, Any]) -> None:
    if case.get("invalid"):
        with pytest.raises(InvalidQueryError):
            TunnelQuery(case["query"])
        return
    query = TunnelQuery(case["query"])
    assert [tunnel.name for tunnel in TUNNELS if query.matches(tunnel, TABLE["tags"], NOW)] == case["names"]


@given(st.text(max_size=60))
def test_any_text_is_a_query_or_is_refused(text: str) -> None:
    try:
        query = TunnelQuery(text)
    except InvalidQueryError:
        return
    for tunnel in TUNNELS:
        query.matches(tunnel, TABLE["tags"], NOW)


def test_fields_of_a_query_say_what_it_needs() -> None:
    assert TunnelQuery("tag:branch -state:up hub").fields == {"tag", "state", "name"}


def test_a_query_has_a_largest_size() -> None:
    with pytest.raises(InvalidQueryError, match="too long"):
        TunnelQuery("x" * (MAX_QUERY + 1))
