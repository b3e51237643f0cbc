"""Parts of the attacks: a real server with the accounts, and thieves that hold one key."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from warren_testkit.bus.accounts import Bus, open_bus


@pytest.fixture
async def bus(tmp_path: Path) -> AsyncIterator[Bus]:
    """The five accounts on a real server, with the streams declared."""
    async with open_bus(tmp_path) as bus:
        yield bus
