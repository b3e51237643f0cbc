"""What `warren` starts. Ctrl-C while Python still imports ends the process without a word, as in any other command."""

import io
import os
import sys

from warren_process.interrupt import silent_interrupt


def open_missing_streams() -> None:
    """Standard streams that were closed (`<&-`, `>&-`) become /dev/null: nothing is read, nothing is shown, and no socket or
    file of ours gets their number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = open(os.devnull, mode, encoding="utf-8")  # noqa: SIM115 - for as long as the process runs
            os.set_inheritable(stream.fileno(), True)
            setattr(sys, name, stream)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(
                errors="backslashreplace"
            )  # a letter that the locale does not have is shown as an escape


def main() -> None:
    """See `warren_cli.main`."""
    open_missing_streams()
    with silent_interrupt():
        from warren_cli.main import app
    app()
