"""Rekeyings that a caller awaits: an IKE_SA with all its CHILD_SAs, or single CHILD_SAs."""

from warren_ikev2.aio.session import Session
from warren_ikev2.aio.timed_commands import TimedCommands
from warren_ikev2.errors import IkeError
from warren_ikev2.events import SessionId


class Rekeyings:
    """The old inbound SPIs that are still to be replaced, by session; an empty set waits for the IKE_SA first."""

    def __init__(self, commands: TimedCommands) -> None:
        self._commands = commands
        self._waiting: dict[SessionId, set[int]] = {}

    def begin(self, session: Session, spi_in: int | None) -> None:
        """Rekey the IKE_SA and then its CHILD_SAs, or one CHILD_SA. `CommandError` if the state does not allow it."""
        if spi_in is None:
            self._commands.rekey_ike(session.id)
            self._waiting[session.id] = set()
        else:
            self._commands.rekey_child(session.id, spi_in)
            self._waiting.setdefault(session.id, set()).add(spi_in)

    def ike_rekeyed(self, session: Session) -> None:
        """Go on with the CHILD_SAs, if a caller awaits them."""
        waiting = self._waiting.get(session.id)
        if waiting is None or waiting:
            return
        waiting.update(session.children)
        for spi_in in list(waiting):
            self._commands.try_rekey_child(session.id, spi_in)
        if not waiting:
            self._finish(session)

    def child_deleted(self, session: Session, spi_in: int) -> None:
        """A replaced CHILD_SA is gone; the last one finishes the rekeying."""
        waiting = self._waiting.get(session.id)
        if waiting is not None:
            waiting.discard(spi_in)
            if not waiting:
                self._finish(session)

    def fail(self, session: Session, error: IkeError) -> None:
        """A CHILD_SA was not replaced."""
        if self._waiting.pop(session.id, None) is not None:
            session.mark_rekeyed(error)

    def forget(self, session_id: SessionId) -> None:
        """The IKE_SA has ended; its session reports that itself."""
        self._waiting.pop(session_id, None)

    def _finish(self, session: Session) -> None:
        del self._waiting[session.id]
        session.mark_rekeyed()
