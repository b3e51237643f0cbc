"""Verbs of other packages: entry points of the group `warren.commands`.

The name of an entry point is the verb. Its object is a function that adds the verb to a `typer.Typer`:

    [project.entry-points."warren.commands"]
    up = "warren_stack.commands:register_up"

The module is imported when its verb is called, and for the list of `warren --help`. It imports what the verb runs only when
the verb runs, so that neither the list nor another verb waits for it.
"""

from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING

import typer
from typer.core import TyperGroup

from warren_cli.errors import CliError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "warren.commands"

DISTRIBUTIONS = {
    "up": "warren-stack[local]",
    "demo": "warren-stack[local]",
    "deploy": "warren-stack",
    "ca": "warren-stack",
    "vpn": "warren-vpn",
}
"""Verbs that a known package brings: what pip installs where one is missing."""


class MissingVerbError(CliError):
    """The package of this verb is not installed, or cannot be imported."""


@cache
def installed_verbs() -> "dict[str, EntryPoint]":
    """The verbs of the installed packages, by name. Reads the metadata of all of them: about 10 ms for a hundred."""
    from importlib.metadata import entry_points  # 40 ms, and the verbs of this package need none

    return {entry.name: entry for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name)}


@cache
def group_of(name: str) -> TyperGroup | None:
    """A group that holds the verb `name`; None for a verb that no package is known to bring.

    Raises:
        MissingVerbError: its package is not installed, or cannot be imported.
    """
    entry = installed_verbs().get(name)
    if entry is None:
        if name in DISTRIBUTIONS:
            raise MissingVerbError(f"{name}: not installed; pip install '{DISTRIBUTIONS[name]}'")
        return None
    holder = new_holder()
    try:
        entry.load()(holder)
    except ImportError as error:
        distribution = entry.dist.name if entry.dist is not None else entry.module
        raise MissingVerbError(f"{name}: {distribution} cannot be imported ({error})") from error
    return typer.main.get_group(holder)


def new_holder() -> typer.Typer:
    """Where a verb is added; a group even with one verb. Its help is plain text."""
    holder = typer.Typer(rich_markup_mode=None)
    holder.callback()(lambda: None)
    return holder


def usable_verbs() -> Iterator[str]:
    """The installed verbs that can be imported; the others say why when they are called."""
    for name in installed_verbs():
        try:
            group_of(name)
        except MissingVerbError:
            continue
        yield name
