from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from warren_testkit.agent.running import Running


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    made = Running(tmp_path / "state")
    yield made
    await made.stop()
