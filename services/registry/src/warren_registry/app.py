"""The process: settings, logs, run. A missing or wrong setting is named, and the exit code is 2."""

import asyncio
import sys

from warren_bus.errors import BadKey
from warren_bus.logs import setup_logs
from warren_registry.bootstrap import NAME, run
from warren_registry.settings import EXIT_CONFIGURATION, RegistrySettings, load, load_bus


def main() -> int:
    """Run the service; returns the exit code."""
    settings, bus = load(RegistrySettings), load_bus()
    setup_logs(NAME, settings.log_format, settings.log_level)
    try:
        asyncio.run(run(bus, settings))
    except BadKey as error:
        print(error, file=sys.stderr)
        return EXIT_CONFIGURATION
    return 0
