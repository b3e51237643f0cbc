"""`paths.json`: the addresses of host names and the ways in use, so that an agent that starts again changes no tunnel."""

import json
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import structlog

from warren_agent.host_identity import boot_id
from warren_agent.paths.memory import KnownPaths
from warren_agent.state.files import read_private, write_private

log = structlog.get_logger("warren_agent")


class PathsFile:
    """The file; a missing or damaged one is empty."""

    def __init__(self, path: Path, boot: Callable[[], str] = boot_id) -> None:
        """`boot` is the id of the host's present boot."""
        self._path = path
        self._boot = boot
        self._saved = KnownPaths()

    def load(self) -> KnownPaths:
        """What was saved last: no ways from before the host was started, as no tunnel is left from then."""
        try:
            data = read_private(self._path)
            if data is not None:
                self._saved = _parse(json.loads(data), self._boot())
        except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
            log.warning("paths.damaged", path=str(self._path), error=str(error))
        return self._saved

    def save(self, known: KnownPaths) -> None:
        """Replace it if anything differs. A disk that does not take it is logged."""
        if known == self._saved:
            return
        stored = {
            "names": {name: [str(it) for it in found] for name, found in known.addresses.items()},
            "boot": self._boot(),
            "ways": sorted(known.ways),
        }
        try:
            write_private(self._path, json.dumps(stored).encode())
            self._saved = known
        except OSError as error:
            log.error("paths.not_saved", error=error.strerror or str(error))


def _parse(stored: Any, boot: str) -> KnownPaths:
    """Raises ValueError, TypeError, AttributeError or KeyError if it is damaged."""
    names = {name: tuple(ip_address(it) for it in found) for name, found in stored["names"].items()}
    ways = frozenset((str(tunnel), str(endpoint)) for tunnel, endpoint in stored["ways"])
    return KnownPaths(names, ways if stored["boot"] == boot else frozenset())
