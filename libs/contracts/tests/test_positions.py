"""Integers that become a bigint of PostgreSQL or a sequence of a stream are refused by name beyond its range."""

from typing import Any

import pytest
from pydantic import ValidationError

from warren_contracts.base import BIGINT_MAX, Input
from warren_contracts.bus_queries import ReadEvents
from warren_contracts.commands import ReadDirectory
from warren_contracts.plan_mark import PlanMark
from warren_contracts.policy_history import ListHistory
from warren_contracts.problems import invalid_input

MARK = {"epoch": 1, "revision": 1, "digest": "0" * 64}


@pytest.mark.parametrize(
    ("model", "rest", "field"),
    [
        (ReadEvents, {}, "after"), (ListHistory, {"id": "branches"}, "before"), (ReadDirectory, {}, "since"),
        (ReadDirectory, {}, "epoch"), (PlanMark, MARK, "epoch"), (PlanMark, MARK, "revision"),
    ],
)  # fmt: skip
def test_a_position_beyond_bigint_is_refused_by_name(model: type[Input], rest: dict[str, Any], field: str) -> None:
    assert getattr(model.model_validate(rest | {field: BIGINT_MAX}), field) == BIGINT_MAX
    with pytest.raises(ValidationError) as refused:
        model.model_validate(rest | {field: BIGINT_MAX + 1})
    (found,) = invalid_input(refused.value.errors()).errors
    assert (found.field, str(BIGINT_MAX) in found.message.replace(",", "")) == (field, True)
