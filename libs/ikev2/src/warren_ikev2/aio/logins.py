"""The verdicts on logins: the verifier runs concurrently with the loop's other work, and the engine continues with its verdict."""

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from warren_ikev2.addresses import IPAddress
from warren_ikev2.auth.login import LoginAttempt, LoginVerdict
from warren_ikev2.engine import EngineCommands
from warren_ikev2.errors import CommandError
from warren_ikev2.events import LoginRequested, SessionId

logger = logging.getLogger("warren_ikev2")


class LoginVerifier(Protocol):
    """Decides on users' passwords."""

    async def verify(self, attempt: LoginAttempt, remote: IPAddress) -> LoginVerdict:
        """Decide on an attempt from this address. It may take its time, and blocks nothing but this login."""
        ...


class Logins:
    """The logins that wait for a verdict. `command` runs a command of the engine, and what follows from it."""

    def __init__(self, commands: EngineCommands, command: Callable[[Callable[[float], None]], None]) -> None:
        self.verifier: LoginVerifier | None = None
        """None: every login is refused."""
        self._commands = commands
        self._command = command
        self._tasks: dict[SessionId, asyncio.Task[None]] = {}

    def begin(self, event: LoginRequested) -> None:
        """Have an attempt verified."""
        task = asyncio.get_running_loop().create_task(self._decide(event))
        self._tasks[event.session] = task
        task.add_done_callback(lambda done: self._forget(event.session, done))

    def stop(self) -> None:
        """Cancel all of them."""
        for task in tuple(self._tasks.values()):
            task.cancel()

    async def _decide(self, event: LoginRequested) -> None:
        verdict = await self._verdict(event)
        try:
            self._command(lambda now: self._commands.answer_login(event.session, verdict, now))
        except CommandError:
            return  # the IKE_SA has ended, or the verdict is late: the engine has refused it

    async def _verdict(self, event: LoginRequested) -> LoginVerdict:
        if self.verifier is None:
            return LoginVerdict(False, "no verifier of passwords is configured")
        try:
            return await self.verifier.verify(event.attempt, event.path.remote.host)
        except Exception as error:  # an error inside a security check denies
            logger.exception("login.failed", extra={"event": "login_failed", "fields": {"error": type(error).__name__}})
            return LoginVerdict(False, "the login could not be verified", undecided=True)

    def _forget(self, session: SessionId, task: asyncio.Task[None]) -> None:
        if self._tasks.get(session) is task:
            del self._tasks[session]
