"""Two guarded sites with real charons on kernel-libipsec, real guards and real agents, and one control plane."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from warren_lab.charon_conf import IpsecBackend
from warren_testkit.agent.control import Control
from warren_testkit.bus import GrantingCallout, RealServer
from warren_testkit.lab.promises import PromiseBed, open_bed


@pytest.fixture
async def bed(namespaces: None, tmp_path: Path) -> AsyncIterator[PromiseBed]:
    """Both sites at work; no policy is published."""
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(RealServer(tmp_path))
        callout = await stack.enter_async_context(GrantingCallout(server))
        control = await stack.enter_async_context(Control(server, callout))
        yield await open_bed(stack, control, IpsecBackend.LIBIPSEC)
