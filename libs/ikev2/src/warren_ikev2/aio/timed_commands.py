"""The engine's commands at the event loop's time."""

from collections.abc import Callable
from typing import Protocol

from warren_ikev2.addresses import Path
from warren_ikev2.engine import EngineCommands
from warren_ikev2.errors import CommandError
from warren_ikev2.events import SessionId


class Clock(Protocol):
    """The event loop's clock."""

    def time(self) -> float:
        """Seconds."""
        ...


class TimedCommands:
    """Commands that a session's tasks give. The `try_` ones ignore that the SA has ended: its end is an event of its own."""

    def __init__(self, commands: EngineCommands, clock: Clock) -> None:
        self._commands = commands
        self._clock = clock

    def initiate(self, connection: str, path: Path) -> SessionId:
        """Begin a handshake; raises `CommandError` for an unknown connection."""
        return self._commands.initiate(connection, path, self._clock.time())

    def rekey_ike(self, session: SessionId) -> None:
        """Replace the IKE_SA; raises `CommandError` if the state does not allow it."""
        self._commands.rekey_ike(session, self._clock.time())

    def rekey_child(self, session: SessionId, spi_in: int) -> None:
        """Replace a CHILD_SA; raises `CommandError` if the state does not allow it."""
        self._commands.rekey_child(session, spi_in, self._clock.time())

    def try_rekey_child(self, session: SessionId, spi_in: int) -> None:
        """Replace a CHILD_SA that may have ended."""
        self._try(lambda now: self._commands.rekey_child(session, spi_in, now))

    def try_delete(self, session: SessionId) -> None:
        """Delete an IKE_SA that may have ended."""
        self._try(lambda now: self._commands.delete(session, now))

    def _try(self, command: Callable[[float], None]) -> None:
        try:
            command(self._clock.time())
        except CommandError:
            return
