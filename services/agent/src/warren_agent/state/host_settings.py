"""The host's settings that `enrol` stored in the state folder (`settings.json`, 0600) for every later `run`.

Options, the environment and a TOML file take precedence. The peer id and the servers are in `identity.json`.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from warren_agent.errors import BadStateError
from warren_agent.settings import HOST_SETTINGS
from warren_agent.state.files import read_private, write_private

FILE = "settings.json"


def read_host_settings(folder: Path) -> dict[str, str]:
    """The stored settings as a TOML file would give them; empty when none are stored. BadStateError for a damaged file."""
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
    return {name: value for name, value in document.items() if name in HOST_SETTINGS and isinstance(value, str)}


def store_host_settings(folder: Path, given: Mapping[str, str]) -> list[str]:
    """Store what was given over what was stored before; returns the names of what changed."""
    held = read_host_settings(folder)
    news = {name: given[name] for name in HOST_SETTINGS if name in given}
    changed = [name for name, value in news.items() if held.get(name, "") != value]
    if changed:
        write_private(folder / FILE, json.dumps(held | news).encode())
    return changed
