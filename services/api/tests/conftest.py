from collections.abc import AsyncIterator

import pytest

from warren_testkit.api import FakeBus
from warren_testkit.api.client import Client


@pytest.fixture
async def api() -> AsyncIterator[Client]:
    """A client as administrator, and a fake bus behind the application."""
    async with Client(FakeBus()) as client:
        yield client
