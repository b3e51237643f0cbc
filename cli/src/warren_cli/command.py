"""The root group of the command: an error is one line on standard error, and the exit code says which kind it was.

0: done. 1: it could not be done, or a value is wrong. 2: a wrong call (an unknown option or verb, an argument that is
missing). 130: Ctrl-C. A traceback is printed with WARREN_LOG_LEVEL=debug.
"""

import os
import sys
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperGroup

from warren_cli import plugins
from warren_cli.errors import CliError
from warren_cli.plain_options import take_plainly
from warren_cli.terminal import echo
from warren_cli.verbs import VERBS, command_of
from warren_process.unforeseen_error import in_one_line

FAILED = 1
USAGE = 2
INTERRUPTED = 130  # as shells report SIGINT


class OneLineGroup(TyperGroup):
    """The root group, with the verbs of other packages (`warren_cli.plugins`).

    typer would draw a box of several lines around each wrong call, and a traceback around a defect.
    """

    def list_commands(self, ctx: Any) -> list[str]:
        return [*VERBS, *(verb for verb in plugins.usable_verbs() if verb not in VERBS)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        found = command_of(cmd_name)
        if found is None and (group := plugins.group_of(cmd_name)) is not None:
            found = group.get_command(ctx, cmd_name)
        return found

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """The list of verbs: those of this package are not imported for it."""
        rows = [(verb, meaning) for verb, (_, meaning) in VERBS.items()]
        for verb in self.list_commands(ctx):
            if verb not in VERBS:
                rows.append((verb, self.get_command(ctx, verb).get_short_help_str(80)))
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def main(
        self, args: Sequence[str] | None = None, prog_name: str | None = None, complete_var: str | None = None,
        standalone_mode: bool = True, windows_expand_args: bool = True, **extra: Any,
    ) -> Any:  # fmt: skip
        take_plainly(self)
        try:
            code = super().main(args, prog_name, complete_var, False, windows_expand_args, **extra)
        except typer.Abort:
            code = INTERRUPTED
        except Exception as error:
            if not standalone_mode:
                raise
            code = _report(error)
        if not standalone_mode:
            return code
        sys.exit(code if isinstance(code, int) else 0)


def _report(error: Exception) -> int:
    """Print what went wrong; returns the exit code."""
    if type(error).__name__ == "NoArgsIsHelpError":  # its message is the help of the group
        context: Any = vars(error)["ctx"]
        if shown := context.get_help():  # rich has printed it by itself
            typer.echo(shown)
        return USAGE
    if hasattr(error, "format_message"):  # of click, in whichever copy typer brings: the classes are not public
        context = getattr(error, "ctx", None)
        path = context.command_path if context is not None else "warren"
        wrong_value = isinstance(error, typer.BadParameter) and not hasattr(error, "param_type")
        from warren_contracts.validation_messages import plain  # only for an error

        said = plain(" ".join(str(error.format_message()).split())).replace("Value error, ", "")
        echo(f"warren: {said}" if wrong_value else f"warren: {said} (see {path} --help)", err=True)
        return FAILED if wrong_value else USAGE
    if isinstance(error, CliError):
        echo(f"warren: {error}", err=True)
        return FAILED
    if os.environ.get("WARREN_LOG_LEVEL", "").lower() == "debug":
        raise error
    echo(f"warren: {in_one_line(error)} (WARREN_LOG_LEVEL=debug shows where)", err=True)
    return FAILED
