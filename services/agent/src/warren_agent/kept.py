"""What an enrolment was told of this host, kept in the state folder (`settings.json`, 0600) for every later `run`.

Options, the environment and a TOML file come before it: they are what somebody says now.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from warren_agent.errors import BadStateError
from warren_agent.files import read_private, write_private

FILE = "settings.json"
KEPT = ("endpoints", "subnets", "vici_socket", "enfy_socket")
"""Names of settings that are facts of this host. Who it is and where the servers are stands in `identity.json`."""


def read_kept(folder: Path) -> dict[str, str]:
    """The kept settings as a TOML file would give them; none where nothing was kept. BadStateError for a damaged file."""
    path = folder / FILE
    try:
        data = read_private(path)
        document = {} if data is None else json.loads(data)
        if not isinstance(document, dict):
            raise ValueError
    except (ValueError, RecursionError):
        raise BadStateError(f"{path} is damaged: remove it, and give --endpoints and --subnets once more") from None
    except NotADirectoryError:
        return {}  # making the folder says it better
    except OSError as error:
        raise BadStateError(f"{path}: {error.strerror}") from None
    return {name: value for name, value in document.items() if name in KEPT and isinstance(value, str)}


def keep(folder: Path, given: Mapping[str, str]) -> list[str]:
    """Keep what was given, next to what was kept before; returns the names of what changed."""
    held = read_kept(folder)
    news = {name: given[name] for name in KEPT if given.get(name)}
    changed = [name for name, value in news.items() if held.get(name) != value]
    if changed:
        write_private(folder / FILE, json.dumps(held | news).encode())
    return changed
