"""One setting of an agent or of one of its drivers."""

from typing import NamedTuple


class Setting(NamedTuple):
    """A setting: its name in a TOML file, in the environment and as an option.

    With `host` it is a fact of this host that `enrol` stores for every later `run`.
    """

    name: str
    variable: str
    option: str
    default: str
    meaning: str
    host: bool = False
