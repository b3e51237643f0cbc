import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from warren_policy.domain.audit import GENESIS, AuditHead, AuditRow, PolicyAuditRecord, append, entry_hash, verify
from warren_policy.errors import AuditChainBrokenError

START = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def entry(seq: int) -> PolicyAuditRecord:
    return PolicyAuditRecord(seq, START + timedelta(seconds=seq), "op", "apply", 1, seq, "a" * 32, '{"created":{}}')


def chain(count: int) -> tuple[list[AuditRow], AuditHead]:
    rows, head = [], AuditHead()
    for seq in range(1, count + 1):
        head = append(head, entry(seq))
        rows.append(AuditRow(entry(seq), head.hash))
    return rows, head


def test_a_row_is_hashed_over_the_one_before_it_in_canonical_json() -> None:
    text = '[1,"2026-01-02T03:04:06.678901+00:00","op","apply",1,1,"' + "a" * 32 + '","{\\"created\\":{}}"]'
    assert entry_hash(GENESIS, entry(1)) == hashlib.sha256(bytes(32) + text.encode()).digest()


def test_an_untouched_chain_verifies() -> None:
    rows, head = chain(5)
    assert verify(rows, head) == 5
    assert verify([], AuditHead()) == 0


@pytest.mark.parametrize("field", ["actor", "action", "detail", "trace_id"])
def test_a_changed_field_is_found_at_its_row(field: str) -> None:
    rows, head = chain(5)
    change: dict[str, Any] = {field: "other"}
    rows[2] = AuditRow(replace(rows[2].entry, **change), rows[2].hash)
    with pytest.raises(AuditChainBrokenError) as caught:
        verify(rows, head)
    assert caught.value.seq == 3


def test_a_changed_row_with_a_fitting_hash_breaks_the_row_after_it() -> None:
    rows, head = chain(5)
    forged = replace(rows[2].entry, actor="mallory")
    rows[2] = AuditRow(forged, entry_hash(rows[1].hash, forged))
    with pytest.raises(AuditChainBrokenError) as caught:
        verify(rows, head)
    assert caught.value.seq == 4


def test_a_removed_row_is_missing() -> None:
    rows, head = chain(5)
    del rows[2]
    with pytest.raises(AuditChainBrokenError, match="row 3: is missing"):
        verify(rows, head)


def test_a_truncated_chain_is_found_by_its_recorded_end() -> None:
    rows, head = chain(5)
    with pytest.raises(AuditChainBrokenError, match="ends at 4, but 5 rows were written"):
        verify(rows[:-1], head)


def test_a_rewritten_chain_is_found_by_its_recorded_end() -> None:
    rows, _ = chain(2)
    _, longer = chain(3)
    with pytest.raises(AuditChainBrokenError, match="not the recorded end"):
        verify(rows, replace(longer, seq=2))
