"""The agent's control socket: verbs of `warren-agent` that the running agent does, such as `adopt`.

It is a Unix socket in the state folder (0700), so that only the agent's own user and root reach it. One request a connection:
a line of JSON, `{"verb": "adopt", "argument": "berlin"}`; the answer is a line too, `{"ok": true, "text": "..."}`.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import TracebackType

import structlog

from warren_agent.errors import AgentError, NotRunningError, VerbRefusedError
from warren_process.control_socket import ControlSocket, exchange

log = structlog.get_logger("warren_agent")

SOCKET = "control.sock"
MAX_LINE = 4_096  # bytes: a verb and a name of at most 255 bytes
ANSWER_LIMIT = 90.0  # s; longer than any verb takes

Verb = Callable[[str], Awaitable[str]]


class AgentControlServer(ControlSocket):
    """Answers at the socket while it is entered."""

    def __init__(self, folder: Path, verbs: Mapping[str, Verb]) -> None:
        super().__init__(folder / SOCKET, self._reply, max_line=MAX_LINE)
        self._verbs = verbs

    async def __aenter__(self) -> "AgentControlServer":
        try:
            await self.start()
        except OSError as error:  # such as a path that is longer than a socket's may be
            log.warning("control.unavailable", socket=str(self.path), error=str(error))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def _reply(self, line: bytes) -> bytes:
        try:
            ok, said = True, await self._answer_verb(line)
        except (AgentError, ValueError) as error:
            ok, said = False, str(error)
        return json.dumps({"ok": ok, "text": said}).encode()

    async def _answer_verb(self, line: bytes) -> str:
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
    request = json.dumps({"verb": verb, "argument": argument}).encode()
    try:
        received = await asyncio.to_thread(
            exchange, folder / SOCKET, request, limit_s=ANSWER_LIMIT, max_reply=64 * MAX_LINE
        )
        answer = json.loads(received)
    except (TimeoutError, ValueError):
        raise NotRunningError(f"the agent of {folder} did not answer; its log says more") from None
    except OSError as error:
        raise NotRunningError(f"no agent uses {folder}: {error.strerror or error}") from None
    if not answer["ok"]:
        raise VerbRefusedError(answer["text"])
    return str(answer["text"])
