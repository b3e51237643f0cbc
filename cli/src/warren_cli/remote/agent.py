"""`warren enrol` and `warren agent`: this process is replaced by the agent."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand

from warren_cli.errors import CliError
from warren_cli.remote.options import reported

app = typer.Typer(
    no_args_is_help=True, help="The agent of this machine: run, doctor, support-bundle, release, protection."
)

LIMIT_SECONDS = 3.0  # for the agent to list its options

PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
"""Everything behind the word is the agent's, `--help` too."""


class AgentCommand(TyperCommand):
    """A verb of the agent: its options are the agent's, which a shell that completes them asks for."""

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        if not incomplete.startswith("-"):
            return []  # a value: the shell offers files
        from click.shell_completion import CompletionItem

        return [
            CompletionItem(name, help=meaning)
            for name, meaning in agent_options(self.name or "")
            if name.startswith(incomplete)
        ]


ENROL = """Join the fleet with a join token (by file, standard input or WARREN_JOIN_TOKEN, never as an argument).

Everything behind is passed to `warren-agent enrol`. Example: warren enrol --help
"""
VERBS = {
    "run": "Run the agent in this process: everything behind is passed to `warren-agent run`. Example: warren agent run",
    "doctor": "Look for what is wrong on this host, with remedies: see `warren-agent doctor`. Example: warren agent doctor --json",
    "support-bundle": (
        "Write what support needs to one file, without secrets. Example: warren agent support-bundle --output gw1.tar.gz"
    ),
    "release": (
        "Stop protecting the traffic of deleted policies on this host, of one or of all. Example: warren agent release branches"
    ),
    "protection": "List the traffic that the guard of this host protects. Example: warren agent protection",
}


def _add(to: typer.Typer, verb: str, meaning: str) -> None:
    """Add a verb of the agent."""

    @to.command(verb, cls=AgentCommand, context_settings=PASSED_ON, help=meaning)
    @reported
    def pass_on(context: typer.Context) -> None:
        exec_agent(verb, context.args)


for _verb, _meaning in VERBS.items():
    _add(app, _verb, _meaning)


def agent_options(verb: str) -> list[tuple[str, str]]:
    """The options of a verb of the agent, each with what it is for; none where the agent is not installed or does not answer."""
    try:
        done = subprocess.run(
            [_agent(), "options", verb], capture_output=True, text=True, timeout=LIMIT_SECONDS, check=True
        )
    except (CliError, OSError, subprocess.SubprocessError):
        return []
    return [(name, meaning) for name, _, meaning in (line.partition("\t") for line in done.stdout.splitlines())]


def exec_agent(verb: str, arguments: list[str]) -> None:
    """Replace this process by the agent; raises CliError where it is not installed."""
    found = _agent()
    os.execv(found, [found, verb, *arguments])  # noqa: S606 - no shell, and the program is ours


def _agent() -> str:
    adjacent = Path(sys.executable).with_name("warren-agent")
    found = str(adjacent) if adjacent.exists() else shutil.which("warren-agent")
    if found is None:
        raise CliError("warren-agent is not installed here: install the package warren-agent")
    return found


def register(root: typer.Typer) -> None:
    """Add `warren agent` and `warren enrol`."""
    _add(root, "enrol", ENROL)
    root.add_typer(app, name="agent")
