"""`warren enrol` and `warren agent`: this process is replaced by the agent."""

import os
import shutil
import sys
from pathlib import Path

import typer

from warren_cli.errors import CliError
from warren_cli.remote.options import reported

app = typer.Typer(
    no_args_is_help=True, help="The agent of this machine: run, doctor, support-bundle, release, protection."
)

PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
"""Everything behind the word is the agent's, `--help` too."""


@reported
def enrol_command(context: typer.Context) -> None:
    """Join the fleet with a join token (by file, standard input or WARREN_JOIN_TOKEN, never as an argument).

    Everything behind is passed to `warren-agent enrol`. Example: warren enrol --help
    """
    exec_agent("enrol", context.args)


@app.command("run", context_settings=PASSED_ON)
@reported
def run_command(context: typer.Context) -> None:
    """Run the agent in this process: everything behind is passed to `warren-agent run`. Example: warren agent run"""
    exec_agent("run", context.args)


@app.command("doctor", context_settings=PASSED_ON)
@reported
def doctor_command(context: typer.Context) -> None:
    """Look for what is wrong on this host, with remedies: see `warren-agent doctor`. Example: warren agent doctor --json"""
    exec_agent("doctor", context.args)


@app.command("support-bundle", context_settings=PASSED_ON)
@reported
def support_bundle_command(context: typer.Context) -> None:
    """Write what support needs to one file, without secrets. Example: warren agent support-bundle --output gw1.tar.gz"""
    exec_agent("support-bundle", context.args)


@app.command("release", context_settings=PASSED_ON)
@reported
def release_command(context: typer.Context) -> None:
    """Stop protecting the traffic of deleted policies on this host, of one or of all. Example: warren agent release branches"""
    exec_agent("release", context.args)


@app.command("protection", context_settings=PASSED_ON)
@reported
def protection_command(context: typer.Context) -> None:
    """List the traffic that the guard of this host protects. Example: warren agent protection"""
    exec_agent("protection", context.args)


def exec_agent(verb: str, arguments: list[str]) -> None:
    """Replace this process by the agent; raises CliError where it is not installed."""
    adjacent = Path(sys.executable).with_name("warren-agent")
    found = str(adjacent) if adjacent.exists() else shutil.which("warren-agent")
    if found is None:
        raise CliError("warren-agent is not installed here: install the package warren-agent")
    os.execv(found, [found, verb, *arguments])  # noqa: S606 - no shell, and the program is ours


def register(root: typer.Typer) -> None:
    """Add `warren agent` and `warren enrol`."""
    root.command("enrol", context_settings=PASSED_ON)(enrol_command)
    root.add_typer(app, name="agent")
