"""The verbs `doctor` and `support-bundle`."""

import argparse
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from warren_agent.doctor.bundle import make_bundle
from warren_agent.doctor.examine import charon_paths, examine
from warren_agent.doctor.finding import as_text
from warren_agent.errors import AgentError
from warren_agent.settings import AgentSettings


async def run_doctor(settings: AgentSettings, options: argparse.Namespace) -> None:
    """Print every check; exits 1 if one has failed."""
    report = await examine(settings)
    print(report.model_dump_json(indent=2) if options.json else as_text(report))
    if report.failed:
        sys.exit(1)


async def run_support_bundle(settings: AgentSettings, options: argparse.Namespace) -> None:
    """Write the bundle, and print where it is and what it holds. AgentError if the disk does not take it."""
    report = await examine(settings)
    name = f"warren-support-{report.peer or 'host'}-{datetime.now(UTC):%Y%m%d-%H%M%S}.tar.gz"
    target = Path(options.output) if options.output else Path(name)
    try:
        names = await make_bundle(settings, report, charon_paths(settings), target, os.environ)
    except OSError as error:
        raise AgentError(f"{target}: {error.strerror}") from None
    print(f"{target}: {', '.join(names)}")
    print(
        "Keys, tokens and passwords are removed. Addresses, networks, names and logs are in it: read it before you send it."
    )
