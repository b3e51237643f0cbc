"""The control socket of a running agent."""

import asyncio
import json
import stat
from pathlib import Path

import pytest

from warren_agent.control import MAX_LINE, SOCKET, AgentControlServer, call
from warren_agent.errors import ConfigRefusedError, NotRunningError, VerbRefusedError


async def adopt(connection: str) -> str:
    if connection == "other":
        raise ConfigRefusedError("other differs from a+b: dpd_delay: 60 instead of 30")
    return f"{connection} is taken over"


async def test_verb_is_answered_and_a_refusal_is_an_error_with_its_words(tmp_path: Path) -> None:
    async with AgentControlServer(tmp_path, {"adopt": adopt}):
        assert stat.S_IMODE((tmp_path / SOCKET).stat().st_mode) == 0o600
        assert await call(tmp_path, "adopt", "berlin") == "berlin is taken over"
        with pytest.raises(VerbRefusedError, match="dpd_delay: 60 instead of 30"):
            await call(tmp_path, "adopt", "other")
        with pytest.raises(VerbRefusedError, match="known are adopt"):
            await call(tmp_path, "remove", "berlin")
    with pytest.raises(NotRunningError):
        await call(tmp_path, "adopt", "berlin")


@pytest.mark.parametrize(
    "line",
    [b"", b"{}\n", b"[1]\n", b"not JSON\n", b'{"verb": "adopt", "argument": 7}\n', b"x" * (2 * MAX_LINE) + b"\n"],
)
async def test_malformed_request_is_refused_and_the_next_one_answered(tmp_path: Path, line: bytes) -> None:
    async with AgentControlServer(tmp_path, {"adopt": adopt}):
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / SOCKET))
        writer.write(line)
        writer.write_eof()
        assert json.loads(await reader.readline())["ok"] is False
        writer.close()
        assert await call(tmp_path, "adopt", "berlin") == "berlin is taken over"
