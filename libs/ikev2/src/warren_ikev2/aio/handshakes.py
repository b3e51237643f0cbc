"""The handshakes that this side began, until each has its session or its error."""

import asyncio

from warren_ikev2.addresses import Path
from warren_ikev2.aio.session import Session
from warren_ikev2.aio.timed_commands import TimedCommands
from warren_ikev2.errors import IkeError
from warren_ikev2.events import SessionId


class PendingHandshake:
    """A handshake in progress; `done` yields the session or raises the error."""

    def __init__(self, *, childless: bool) -> None:
        self.childless = childless
        self.answered = False
        """Whether the peer has answered our first message."""
        self.done: asyncio.Future[Session] = asyncio.get_running_loop().create_future()

    @property
    def unanswered(self) -> str:
        """The message of ours that the peer has not answered."""
        return "IKE_AUTH" if self.answered else "IKE_SA_INIT"

    def fail(self, error: IkeError) -> None:
        """Raise an error from `done`."""
        if not self.done.done():
            self.done.set_exception(error)

    def succeed(self, session: Session) -> None:
        """Yield the session from `done`."""
        if not self.done.done():
            self.done.set_result(session)


class Handshakes:
    """Pending handshakes by their session's id."""

    def __init__(self, commands: TimedCommands) -> None:
        self._commands = commands
        self._pending: dict[SessionId, PendingHandshake] = {}

    def begin(self, connection: str, path: Path, *, childless: bool) -> PendingHandshake:
        """Begin a handshake; a childless one has its session with the IKE_SA, others with the first CHILD_SA."""
        handshake = PendingHandshake(childless=childless)
        self._pending[self._commands.initiate(connection, path)] = handshake
        return handshake

    def abandon(self, handshake: PendingHandshake) -> None:
        """End a handshake whose caller no longer waits."""
        for session_id in [number for number, known in self._pending.items() if known is handshake]:
            del self._pending[session_id]
            self._commands.try_delete(session_id)

    def mark_answered(self, session_id: SessionId) -> None:
        """The peer has answered the first message of a handshake."""
        handshake = self._pending.get(session_id)
        if handshake is not None:
            handshake.answered = True

    def of(self, session_id: SessionId) -> PendingHandshake | None:
        """The pending handshake of a session; None once it has its session."""
        return self._pending.get(session_id)

    def is_childless(self, session_id: SessionId) -> bool:
        """Whether this side began it without a CHILD_SA."""
        handshake = self._pending.get(session_id)
        return handshake is not None and handshake.childless

    def succeed(self, session: Session) -> bool:
        """Give the session to the one who waits; False if nobody on this side does."""
        handshake = self._pending.pop(session.id, None)
        if handshake is None:
            return False
        handshake.succeed(session)
        return True

    def fail(self, session_id: SessionId, error: IkeError) -> None:
        """Fail a pending handshake and delete what there is of its IKE_SA; does nothing once it has its session."""
        handshake = self._pending.pop(session_id, None)
        if handshake is not None:
            handshake.fail(error)
            self._commands.try_delete(session_id)

    def fail_all(self, error: IkeError) -> None:
        """Fail all of them: the endpoint stops."""
        for handshake in self._pending.values():
            handshake.fail(error)
