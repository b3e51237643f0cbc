"""What the drivers' daemons could do when they last answered: an agent that starts before its daemon announces that, and not nothing."""

from pathlib import Path

import structlog
from pydantic import TypeAdapter, ValidationError

from warren_agent.state.files import read_private, write_private
from warren_contracts.peers import DriverCapabilities

log = structlog.get_logger("warren_agent")

Known = dict[str, DriverCapabilities]  # by kind of driver


class CapabilitiesFile:
    """The file; a missing or damaged one is empty."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._saved: Known = {}

    def load(self) -> Known:
        """What was saved last."""
        data = read_private(self._path)
        if data is not None:
            try:
                self._saved = TypeAdapter(Known).validate_json(data)
            except ValidationError as error:
                log.warning("agent.capabilities_damaged", path=str(self._path), error=str(error.error_count()))
        return dict(self._saved)

    def save(self, known: Known) -> None:
        """Replace it if anything differs. A disk that does not take it is logged: the next start announces less."""
        if known == self._saved:
            return
        try:
            write_private(self._path, TypeAdapter(Known).dump_json(known))
            self._saved = dict(known)
        except OSError as error:
            log.error("agent.capabilities_not_saved", error=error.strerror or str(error))
