"""Text for a terminal. Much of it was written by others (a peer names its driver, its version, its host), so what a terminal would
obey (escape sequences, C1 controls, marks of direction) is shown as an escape and never sent.
"""

import typer


def plain(text: str) -> str:
    """The text without anything that a terminal obeys, but for line feeds."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def echo(text: str, *, err: bool = False) -> None:
    """One or more lines, plain."""
    typer.echo(plain(text), err=err)
