"""Models of values that are valid already."""

import pytest
from pydantic import ValidationError

from warren_contracts.base import amended, assembled
from warren_contracts.ipsec import Xfrm


def test_an_assembled_model_is_as_a_validated_one() -> None:
    validated = Xfrm(if_id_in=7)
    made = assembled(Xfrm, set(Xfrm.model_fields), {**validated.__dict__})
    assert made == validated
    assert made.model_dump() == validated.model_dump()
    assert hash(made) == hash(validated)
    with pytest.raises(ValidationError, match="frozen"):
        made.if_id_in = 8  # type: ignore[misc] # it is frozen
    other = amended(made, if_id_in=8)
    assert (other.if_id_in, made.if_id_in) == (8, 7)
    assert other == Xfrm(if_id_in=8)
    assert other.model_copy() == other
