"""The command `warren-agent`: `run` is the agent, `enrol` makes this host a peer."""

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence

from warren_agent.bootstrap import work
from warren_agent.enrolment import TOKEN_VARIABLE, enrol, read_token
from warren_agent.errors import AgentError, BadSettingError, NotEnrolledError
from warren_agent.settings import AgentSettings, add_options, load_settings
from warren_agent.store import Identity, Store
from warren_bus.errors import BusError
from warren_bus.logs import setup_logs

FAILED = 1
USAGE = 2


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
    parser = argparse.ArgumentParser(prog="warren-agent", description="The agent of one Warren peer.")
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    token_help = f"file of the join token, - for standard input [else {TOKEN_VARIABLE}]"
    running = verbs.add_parser("run", help="be the agent of this host, until SIGTERM")
    running.set_defaults(verb=_run)
    running.add_argument(
        "--teardown", action="store_true", help="remove the tunnels at a clean stop (default: keep them)"
    )
    joining = verbs.add_parser("enrol", help="make this host a peer of a fleet")
    joining.set_defaults(verb=_enrol)
    for verb in (running, joining):
        verb.add_argument("--token-file", metavar="FILE", help=token_help)
        add_options(verb)
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
