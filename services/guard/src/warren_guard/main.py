"""The command `warren-guard`: `run` is the guard."""

import argparse
import asyncio
import sys
from collections.abc import Sequence

from warren_bus.logs import setup_logs
from warren_guard.bootstrap import work
from warren_guard.errors import BadSettingError, GuardError
from warren_guard.settings import add_options, check_settings

FAILED = 1
USAGE = 2

EXAMPLES = """\
examples:
  warren-guard run
  warren-guard run --agent-user warren-agent --masquerade report

Every option has a variable, named in brackets.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; exits 0, 1 (it cannot be done like this) or 2 (a wrong call), with one line on standard error."""
    options = build_parser().parse_args(arguments)
    try:
        settings = check_settings(vars(options))
        setup_logs("guard", settings.log_format, settings.log_level)
        asyncio.run(work(settings))
    except GuardError as error:
        print(f"warren-guard: {error}", file=sys.stderr)
        sys.exit(USAGE if isinstance(error, BadSettingError) else FAILED)
    except KeyboardInterrupt:
        sys.exit(130)


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="warren-guard", description="Keep packets of protected traffic from leaving this host in clear.",
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
    )  # fmt: skip
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    running = verbs.add_parser(
        "run", help="be the guard of this host, until SIGTERM", description="Be the guard of this host, until SIGTERM.",
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add_options(running)
    return parser
