import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren_service.restore_guard import NotComparedError, RestoredFromBackupError, RestoreGuard

VERSIONS = st.tuples(st.integers(1, 4), st.integers(0, 4))


@given(st.lists(VERSIONS), VERSIONS, st.integers(1, 6))
def test_nothing_is_published_that_is_not_newer_than_everything_stored(
    held: list[tuple[int, int]], own: tuple[int, int], epoch: int
) -> None:
    restore_guard = RestoreGuard("POLICY")
    restore_guard.compare(held, own)
    newest = max(held, default=(0, 0))
    refused = newest > own and epoch <= newest[0]
    assert bool(restore_guard.blocked_reason(epoch)) is refused
    if refused:
        with pytest.raises(RestoredFromBackupError, match="warren epoch advance"):
            restore_guard.check(epoch)
        return
    restore_guard.check(epoch)
    assert epoch < own[0] or (epoch, own[1] + 1) > newest  # the next that this database would publish


async def test_a_call_waits_for_the_first_comparison_and_raises_without_one() -> None:
    restore_guard = RestoreGuard("POLICY")
    with pytest.raises(NotComparedError):
        restore_guard.check(1)
    waiting = asyncio.create_task(restore_guard.require(1))
    await asyncio.sleep(0)
    restore_guard.compare((), (1, 0))
    await waiting
    with pytest.raises(NotComparedError):
        await RestoreGuard("POLICY", compare_timeout_s=0.01).require(1)


def test_a_comparison_with_a_stream_that_is_not_ahead_unblocks() -> None:
    restore_guard = RestoreGuard("POLICY")
    restore_guard.compare([(1, 9)], (1, 5))
    assert restore_guard.behind
    assert "epoch 1, revision 9" in restore_guard.blocked_reason(1)
    restore_guard.compare([(1, 9)], (2, 6))
    assert not restore_guard.behind
