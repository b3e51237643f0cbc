"""The agent's control socket: verbs of `warren-agent` that the running agent does, such as `adopt`.

It is a Unix socket in the state folder (0700), so that only the agent's own user and root reach it. One request a connection:
a line of JSON, `{"verb": "adopt", "argument": "berlin"}`; the answer is a line too, `{"ok": true, "text": "..."}`.
"""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import TracebackType

import structlog

from warren_agent.errors import AgentError, NotRunningError, VerbRefusedError

log = structlog.get_logger("warren_agent")

SOCKET = "control.sock"
MAX_LINE = 4_096  # bytes: a verb and a name of at most 255 bytes
ANSWER_LIMIT = 90.0  # s; longer than any verb takes

Verb = Callable[[str], Awaitable[str]]


class AgentControlServer:
    """Answers at the socket while it is entered."""

    def __init__(self, folder: Path, verbs: Mapping[str, Verb]) -> None:
        self._path = folder / SOCKET
        self._verbs = verbs
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> "AgentControlServer":
        self._path.unlink(missing_ok=True)
        try:
            self._server = await asyncio.start_unix_server(self._serve, str(self._path), limit=MAX_LINE)
            self._path.chmod(0o600)
        except OSError as error:  # such as a path that is longer than a socket's may be
            log.warning("control.unavailable", socket=str(self._path), error=str(error))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            try:
                ok, said = True, await self._answer(await reader.readline())
            except (AgentError, ValueError) as error:
                ok, said = False, str(error)
            writer.write(json.dumps({"ok": ok, "text": said}).encode() + b"\n")
            await writer.drain()
        writer.close()

    async def _answer(self, line: bytes) -> str:
        request = json.loads(line)
        if not isinstance(request, dict) or not isinstance(request.get("argument"), str):
            raise VerbRefusedError("a request is an object with verb and argument")
        verb = self._verbs.get(str(request.get("verb")))
        if verb is None:
            raise VerbRefusedError(f"unknown verb; known are {', '.join(sorted(self._verbs))}")
        return await verb(request["argument"])


async def call(folder: Path, verb: str, argument: str) -> str:
    """Let the agent that works with a state folder do something; returns what it says.

    Raises:
        NotRunningError: no agent uses this folder.
        VerbRefusedError: it refuses, with the reason.
    """
    try:
        reader, writer = await asyncio.open_unix_connection(str(folder / SOCKET), limit=64 * MAX_LINE)
    except OSError as error:
        raise NotRunningError(f"no agent uses {folder}: {error.strerror}") from None
    try:
        writer.write(json.dumps({"verb": verb, "argument": argument}).encode() + b"\n")
        async with asyncio.timeout(ANSWER_LIMIT):
            answer = json.loads(await reader.readline())
    except (OSError, TimeoutError, ValueError):
        raise NotRunningError(f"the agent of {folder} did not answer; its log says more") from None
    finally:
        writer.close()
    if not answer["ok"]:
        raise VerbRefusedError(answer["text"])
    return str(answer["text"])
