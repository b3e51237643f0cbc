"""The command `warren-agent`: `run` is the agent, `enrol` makes this host a peer."""

import argparse
import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

from warren_agent.bootstrap import work
from warren_agent.enrolment import TOKEN_VARIABLE, enrol, read_token
from warren_agent.errors import AgentError, BadSettingError, NotEnrolledError
from warren_agent.settings import AgentSettings, add_options, load_settings
from warren_agent.store import Identity, Store
from warren_bus.errors import BusError
from warren_bus.logs import setup_logs

Verb = Callable[[AgentSettings, argparse.Namespace], Awaitable[None]]
Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

FAILED = 1
USAGE = 2

EXAMPLES = """\
examples:
  warren-agent enrol --token-file hub.join --endpoints 198.51.100.1 --subnets 10.0.0.0/24
  warren-agent enrol --token-file - --subnets 10.1.0.0/24 < branch.join    (no fixed address: it will initiate)
  warren-agent run
  warren-agent run --config /etc/warren/agent.toml --log-format json       (as a service)
  warren-agent run --teardown                                              (a clean stop removes the tunnels)

Every option has a variable, named in brackets, and a key of the same name in the TOML file of --config.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; exits 0, 1 (it could not be done) or 2 (a setting is wrong), with one line on standard error."""
    options = build_parser().parse_args(arguments)
    try:
        settings = load_settings(vars(options))
        setup_logs("agent", settings.log_format, settings.log_level)
        asyncio.run(options.verb(settings, options))
    except (AgentError, BusError) as error:
        print(f"warren-agent: {error}", file=sys.stderr)
        sys.exit(USAGE if isinstance(error, BadSettingError) else FAILED)
    except KeyboardInterrupt:
        sys.exit(130)


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="warren-agent", description="The agent of one Warren peer: it keeps this host's tunnels as the fleet wants them.",
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    token_help = f"file of the join token, - for standard input [else {TOKEN_VARIABLE}]"
    running = _add_verb(verbs, "run", "be the agent of this host, until SIGTERM", _run)
    running.add_argument(
        "--teardown", action="store_true", help="remove the tunnels at a clean stop (default: keep them)"
    )
    joining = _add_verb(verbs, "enrol", "make this host a peer of a fleet", _enrol)
    for verb in (running, joining):
        verb.add_argument("--token-file", metavar="FILE", help=token_help)
        add_options(verb)
    return parser


def _add_verb(verbs: Verbs, name: str, meaning: str, verb: Verb) -> argparse.ArgumentParser:
    parser = verbs.add_parser(
        name, help=meaning, description=f"{meaning[0].upper()}{meaning[1:]}.", epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.set_defaults(verb=verb)
    return parser


async def _enrol(settings: AgentSettings, options: argparse.Namespace) -> None:
    store = Store(settings.state)
    store.prepare()
    store.lock()
    try:
        identity = store.identity()
    except NotEnrolledError:
        identity = await enrol(settings, store, read_token(options.token_file, os.environ))
        print(f"enrolled as {identity.peer}, tags: {', '.join(identity.tags) or 'none'}")
    else:
        print(f"this host is the peer {identity.peer} already; remove {store.folder}/identity.json to join anew")


async def _run(settings: AgentSettings, options: argparse.Namespace) -> None:
    store = Store(settings.state)
    store.prepare()
    store.lock()
    await work(settings, store, await _identity(settings, store, options), options.teardown)


async def _identity(settings: AgentSettings, store: Store, options: argparse.Namespace) -> Identity:
    """The identity on disk; a host that has none joins by the token that it was given, if any."""
    try:
        return store.identity()
    except NotEnrolledError:
        if options.token_file is None and not os.environ.get(TOKEN_VARIABLE):
            raise
        return await enrol(settings, store, read_token(options.token_file, os.environ))
